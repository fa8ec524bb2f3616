"""The table "What you can do" of docs/uses.md, line by line, as an ordinary user.

Every command that a line of the table has is run as it stands there, on the embedded world at a
small size, and what it prints is looked at. A line without a test is an error.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

from tests.ordinary import ORDINARY
from tests.workflow.project import ENVIRONMENT, REPOSITORY, WORLD, computed, copied, merged
from tests.workflow.test_workflow import TABLES

USES = (REPOSITORY / "docs/uses.md").read_text(encoding="utf-8")
SMALL = merged(yaml.safe_load((REPOSITORY / "config.yaml").read_text()), WORLD)
SMALL |= {"experiment": "tiny", "rounds": 1}
ROUND = "results/tiny/mpd/seed_0/round_1"


def lines_of_the_table() -> dict[str, str]:
    """What a user wants, and what the page says to do."""
    table = USES.partition("## What you can do\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", table, re.MULTILINE)
    return {want: do for want, do in rows if want not in ("you want to", "---")}


LINES = lines_of_the_table()
GOLDS = {"1+3-2": "2", "4-1+5": "8", "2+2+2": "6", "6-5+3-1": "3"}
TESTED: set[str] = set()


class Table:
    """A small project, and the commands of the table run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("rules", "profiles", "envs", "docs", "benchmarks"):
            shutil.copytree(REPOSITORY / name, folder / name)
        for name in ("Snakefile", "Makefile", "pyproject.toml", "README.md"):
            shutil.copy(REPOSITORY / name, folder / name)
        self.edit()

    def edit(self, **changes: object) -> None:
        """Edit config.yaml, from what it was in the beginning."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(merged(SMALL, changes)))

    def run(self, command: str, expected: int = 0) -> str:
        """Run a command in a shell; all that it printed."""
        done = subprocess.run(
            [*ORDINARY, "bash", "-c", command],
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == expected, printed
        assert "Traceback" not in printed
        return printed

    def says(self, want: str, command: str, **placeholders: str) -> str:
        """Run a command that the line has; `<id>` and the like are filled in."""
        assert f"`{command}`" in LINES[want], f"the line {want!r} has no `{command}`"
        for name, value in placeholders.items():
            command = command.replace(f"<{name}>", value)
        return self.run(command)


def line(want: str):
    """Marks the test of a line of the table."""
    TESTED.add(want)
    return lambda test: test


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, finished_store: Path) -> Table:
    """A finished run, with a store that has no more than it."""
    table = Table(tmp_path_factory.mktemp("table"))
    (table.folder / "results").mkdir()
    copied(finished_store, table.folder / "results/store")
    printed = table.run("snakemake --cores 2")
    assert "report: results/tiny/report.html" in printed
    table.run("python -m mpd.prune --delete")
    return table


def nothing_to_do(table: Table) -> bool:
    return "Nothing to be done" in table.run("snakemake --cores 2 --dry-run")


@line("see what would run")
def test_dry_run(table):
    assert "Nothing to be done" in table.says("see what would run", "snakemake --cores 2 --dry-run")
    table.edit(filter={"max_ratio": 8.0})
    printed = table.says("see what would run", "snakemake --cores 2 --dry-run")
    assert re.search(r"^filter +1$", printed, re.MULTILINE)
    assert not re.search(r"^(compress|sample) +1$", printed, re.MULTILINE)
    table.edit()


@line("see why something would rerun")
def test_why(table):
    want, command = "see why something would rerun", "python -m mpd.why"
    assert table.says(want, command).strip().startswith("up to date: ")
    table.edit(filter={"max_ratio": 8.0})
    printed = table.says(want, command)
    assert "filter mpd/seed_0/round_1/shard_0: filter.max_ratio was 9.0, is 8.0" in printed
    table.edit()
    printed = table.run(f"{command} --config filter='{{\"max_ratio\": 7.0}}'")
    assert "filter.max_ratio was 9.0, is 7.0" in printed
    assert table.run(f"{command} {ROUND}/filter/shard_0.parquet").endswith("up to date: 7 jobs\n")


@line("change a setting")
@line("undo an edit")
def test_an_edit_and_back(table):
    table.edit(compress={"num_samples": 2})
    printed = table.says("change a setting", "snakemake --cores 2")
    stages = [name for name in computed(printed) if name not in {*TABLES, "answers", "evaluate"}]
    assert stages == ["compress", "filter", "logits", "student"]
    table.edit()
    assert computed(table.run("snakemake --cores 2")) == []
    assert nothing_to_do(table)


@line("add a round")
def test_one_more_round(table):
    table.edit(rounds=2)
    printed = table.run("snakemake --cores 2")
    stages = ["sample", "compress", "filter", "logits", "student"]
    assert [name for name in computed(printed) if name in stages] == sorted(stages)
    table.edit()
    assert computed(table.run("snakemake --cores 2")) == []


@line("add a benchmark")
def test_one_more_benchmark(table):
    more = {"name": "other", "source": "tiny", "num_problems": 5}
    table.edit(problems={"benchmarks": [*WORLD["problems"]["benchmarks"], more]})
    printed = table.run("snakemake --cores 2")
    names = set(computed(printed)) - {*TABLES, "answers"}
    assert names == {"evaluate", "problems"}
    table.edit()
    assert computed(table.run("snakemake --cores 2")) == []


@line("correct a gold answer")
def test_a_corrected_gold_answer(table):
    rows = [{"question": question, "answer": answer} for question, answer in GOLDS.items()]
    path = table.folder / "own.jsonl"
    own = {"name": "own", "source": "file", "path": "own.jsonl"}
    table.edit(problems={"benchmarks": [own]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert computed(table.run("snakemake --cores 2")).count("answers") == 2
    rows[0]["answer"] = "3"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    printed = computed(table.run("snakemake --cores 2"))
    assert (printed.count("answers"), printed.count("evaluate")) == (0, 2)
    table.edit()
    table.run("snakemake --cores 2")


@line("stop anywhere")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_stop_anywhere(table, stop):
    table.edit(sample={"temperature": 0.9 if stop == signal.SIGINT else 0.8})
    process = subprocess.Popen(
        [*ORDINARY, "snakemake", "--cores", "2"],
        cwd=table.folder,
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list((table.folder / "results/store").glob("*/*.parts")):
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.01)
    os.killpg(process.pid, stop)
    process.wait()
    assert "sample" in computed(table.run("snakemake --cores 2"))
    assert not list((table.folder / "results/store").glob("*/*.parts"))
    table.edit()
    assert computed(table.run("snakemake --cores 2")) == []


@line("run up to a stage")
def test_until(table):
    table.edit(filter={"max_ratio": 6.0})
    command = "snakemake --cores 2 --until filter --config rounds=1"
    assert computed(table.says("run up to a stage", command)) == ["filter"]
    table.edit()
    table.run("snakemake --cores 2")


@line("make one file")
def test_one_file(table):
    (table.folder / f"{ROUND}/filter/shard_0.parquet").unlink()
    table.says("make one file", f"snakemake --cores 2 {ROUND}/filter/shard_0.parquet")
    assert (table.folder / f"{ROUND}/filter/shard_0.parquet").exists()


@line("visit a stage again")
def test_forcerun(table):
    printed = table.says("visit a stage again", "snakemake --cores 2 --forcerun filter")
    assert computed(printed) == []
    assert len(re.findall(r"reused filter \w+$", printed, re.MULTILINE)) == 1


@line("check that a stage gives the same bytes again")
def test_refresh(table):
    command = (
        f"snakemake --cores 2 {ROUND}/filter/shard_0.parquet --forcerun filter "
        "--config store=refresh"
    )
    printed = table.says("check that a stage gives the same bytes again", command)
    assert re.findall(r"refreshed (\w+) \w+: (.*)", printed) == [("filter", "the bytes agree")]
    table.run("snakemake --cores 2")
    assert nothing_to_do(table)


@line("read trajectories")
def test_the_page(table):
    (name,) = re.findall(r"open `(.*?)`", LINES["read trajectories"])
    page = (table.folder / name).read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "Trajectories" in page


@line("pass the report on with the workflow")
def test_the_report_of_snakemake(table):
    table.says("pass the report on with the workflow", "snakemake --report run.html")
    page = (table.folder / "run.html").read_text(encoding="utf-8")
    assert "results/tiny/report.html" in page


@line("read one trajectory in the terminal")
@line("see what its tokens are trained towards")
def test_show(table):
    show = f"python -m mpd.show {ROUND}"
    want = LINES["read one trajectory in the terminal"]
    assert f"`{show}`" in want
    verdicts = pl.read_parquet(table.folder / f"{ROUND}/filter/shard_0.parquet")
    sample_id = verdicts.filter("keep")["sample_id"][0]
    assert all(name in table.run(show) for name in verdicts["sample_id"])
    assert "`--reason wrong_answer`" in want
    assert "--reason wrong_answer: no row has it" in table.run(f"{show} --reason wrong_answer", 1)
    assert sample_id in table.run(f"{show} --reason kept")
    assert "`--sample <id>`" in want
    assert "rewrite" in table.run(f"{show} --sample {sample_id}")
    assert "`--sample <id> --tokens`" in LINES["see what its tokens are trained towards"]
    assert "divergence" in table.run(f"{show} --sample {sample_id} --tokens")


@line("follow a sample to its students")
@line("see what was made from what")
def test_lineage(table):
    verdicts = pl.read_parquet(table.folder / f"{ROUND}/filter/shard_0.parquet")
    sample_id = verdicts.filter("keep")["sample_id"][0]
    want = "follow a sample to its students"
    printed = table.says(want, "python -m mpd.show --made-from <id>", id=sample_id)
    assert f"{ROUND}/student: student trained on it" in printed
    table.says("see what was made from what", "python -m mpd.why --graph results/tiny")
    page = (table.folder / "lineage.html").read_text(encoding="utf-8")
    assert "mpd/seed_0/round_1: student" in page
    assert "which is not there" not in page


@line("read answers to a held-out problem")
def test_answers_to_a_problem(table):
    dev = pl.read_parquet(table.folder / "results/tiny/problems/train/dev.parquet")
    command = f"python -m mpd.show {ROUND} --benchmark dev --problem <id>"
    printed = table.says("read answers to a held-out problem", command, id=dev["problem_id"][0])
    assert dev["question"][0] in printed


@line("see which answers were lost")
@line("send a row to a colleague")  # its address is tested in a browser
def test_answers_in_the_page(table):
    page = (table.folder / "results/tiny/report.html").read_text(encoding="utf-8")
    assert "Held-out answers" in page and 'id="answers-browser"' in page


@line("compare two experiments")
def test_compare(table):
    shutil.copytree(table.folder / "results/tiny", table.folder / "results/other")
    want = "compare two experiments"
    printed = table.says(want, "python -m mpd.compare results/tiny results/other")
    assert "+0.000 [+0.000, +0.000]" in printed
    assert (table.folder / "comparison.html").is_file()
    shutil.rmtree(table.folder / "results/other")


@line("follow the training")
def test_tracker(table):
    (words,) = re.findall(r"`(resources: .*?)`", LINES["follow the training"])
    table.edit(distill={"learning_rate": 2.0e-5}, **yaml.safe_load(words))
    assert "student" in computed(table.run("snakemake --cores 2 --config rounds=1"))
    assert list((table.folder / "results").rglob("events.out.tfevents.*"))
    table.edit(**yaml.safe_load(words))
    assert computed(table.run("snakemake --cores 2")) == []  # it changes no result
    table.edit()
    assert nothing_to_do(table)


@line("run a stage by hand")
def test_by_hand(table):
    want = "run a stage by hand"
    printed = table.says(want, "snakemake --cores 2 --dry-run -p --forcerun filter")
    (command,) = re.findall(r"\b(python -m mpd\.filter .*round_1.*)$", printed, re.MULTILINE)
    assert "reused filter" in table.run(f"set -o pipefail; {command}")
    assert "--compress" in table.says(want, "python -m mpd.<stage> --help", stage="filter")
    table.run("snakemake --touch --cores 2")


@line("free disk space")
def test_prune(table):
    # The environment is that of the tests: make is not to install one.
    environment = "--no-print-directory --old-file .venv/installed"
    table.edit(report={"max_accuracy_drop": 0.2})
    table.run("snakemake --cores 2")
    want = "free disk space"
    assert {"`make prune`", "`make prune DELETE=1`"} <= set(re.findall(r"`.*?`", LINES[want]))
    listed = table.run(f"make {environment} prune")
    assert " MB  results/store/report/" in listed
    assert table.run(f"make {environment} prune DELETE=1").endswith(" MB  deleted\n")
    left = table.run(f"make {environment} prune")
    assert left.endswith("      0.00 MB  unused; delete with: make prune DELETE=1\n")
    assert nothing_to_do(table)
    table.edit()
    table.run("snakemake --cores 2")


@line("see where time went")
def test_where_time_went(table):
    table.run("snakemake --cores 2 --forcerun filter")
    printed = table.says("see where time went", "python benchmarks/pipeline.py results/tiny")
    assert re.search(r"^ ?filter +1 ", printed, re.MULTILINE)


@line("measure the answer checker")
def test_the_answer_checker(table):
    assert "`python benchmarks/grading.py`" in LINES["measure the answer checker"]
    printed = table.run("python benchmarks/grading.py --num-integers 1000 --num-latex 20")
    assert re.findall(r"^(\w+) .* answers per", printed, re.MULTILINE) == [
        "extracted",
        "integers",
        "latex",
    ]


@line("measure memory and time for few and many rows")
def test_scale(table):
    assert LINES["measure memory and time for few and many rows"] == "`python benchmarks/scale.py`"
    printed = table.run("python benchmarks/scale.py filter --sizes 100 200")
    assert re.findall(r"^ filter +(\d+) ", printed, re.MULTILINE) == ["100", "200"]


@line("check that nothing is damaged")
def test_verify(table):
    want, command = "check that nothing is damaged", "python -m mpd.verify results/"
    assert table.says(want, command).endswith(": all whole\n")
    path = table.folder / f"{ROUND}/filter/shard_0.parquet"
    path.write_bytes(path.read_bytes()[:-100])  # the store's file, too: it is the same
    assert f"{path.relative_to(table.folder)}: " in table.run(command, 1)
    assert "`--repair`" in LINES[want]
    table.run(f"{command} --repair")
    assert set(computed(table.run("snakemake --cores 2"))) - {*TABLES} == {"filter"}
    assert table.run(command).endswith(": all whole\n")


def test_every_line_of_the_table_has_a_test():
    assert set(LINES) == TESTED
