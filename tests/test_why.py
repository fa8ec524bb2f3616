"""What `why` says of a small finished project and of edits of its configuration."""

import logging
import shutil
import subprocess
import sys

import pytest

from mpd.report import __main__ as report
from mpd.store import schema
from mpd.why import __main__ as why
from mpd.why.findings import COMPUTE, FRESH, LINK, findings
from mpd.why.planned import planned
from tests.ordinary import ORDINARY

HEAD = "results/small/models/head/head.safetensors"
ROUND = "results/small/mpd/seed_0/round_1"
SHARD = f"{ROUND}/filter/shard_0.parquet"
PLACE = "mpd/seed_0/round_1/shard_0"
VERSIONS = [
    name
    for name, value in vars(schema).items()
    if isinstance(value, schema.Artifact) or name.endswith("_VERSION")
    # The project below has none of these.
    if name not in ("CURRICULUM_PROBLEMS", "REFERENCES", "SCORED_PROBLEMS", "BANK", "ROUTES")
]
# The stages that write what has a version, but for those of its name.
WRITERS = {
    "DROPPED": "problems",
    "METRICS": "distill",
    "STUDENT_VERSION": "distill",
    **dict.fromkeys(("SUMMARY", "COMPARISON", "BUDGETS", "DIFFICULTY", "COSTS", "SPEED"), "report"),
}


def writer_of(name):
    return WRITERS.get(name, name.removesuffix("_VERSION").lower())


@pytest.fixture(scope="module")
def project(finished_project):
    """A finished run of one round."""
    return finished_project


@pytest.fixture
def asked(project, monkeypatch, capsys):
    """A function that asks `why` about a configuration; it returns the lines."""
    monkeypatch.chdir(project.folder)

    def asked(*arguments, **changes):
        project.command(rounds=changes.pop("rounds", 1), **changes)
        capsys.readouterr()
        why.main([*arguments, "--configfile", "overlay.yaml"])
        return capsys.readouterr().out.splitlines()

    return asked


@pytest.fixture
def raise_version(monkeypatch):
    """A function that raises one version by 1, for every module that reads it."""

    def raise_version(name):
        value = getattr(schema, name)
        if isinstance(value, schema.Artifact):
            monkeypatch.setitem(vars(value), "version", value.version + 1)
        else:
            monkeypatch.setattr(schema, name, value + 1)

    return raise_version


def test_a_finished_run_is_up_to_date(asked):
    assert asked() == ["up to date: 15 jobs"]
    assert asked(SHARD) == [
        f"{SHARD}: up to date",
        "  settings, version and content of its inputs are as in its note",
        "up to date: 7 jobs",
    ]


def test_a_changed_setting_is_named_with_both_values(asked):
    assert asked(filter={"max_ratio": 8.0}) == [
        "would be computed",
        f"  filter {PLACE}: filter.max_ratio was 9.0, is 8.0",
        f"known only after others have run: filter {PLACE}",
        "  what follows: logits, distill, answers, evaluate, report",
        "up to date: 9 jobs",
    ]


def test_settings_stand_where_config_yaml_has_them(asked):
    lines = asked(
        compress={"prompt": "{problem}\n{trajectory}\nrefine"},
        chat={"open": "<think> "},
        evaluate={"temperature": 0.5},
    )
    start = lines.index(f"  compress {PLACE}")
    assert lines[start + 1 : start + 3] == [
        '    chat.open was "<think>", is "<think> "',
        "    compress.prompt or compress.refine or compress.structure was "
        '"{problem}\\n{trajectory}\\nrewrite", '
        'is "{problem}\\n{trajectory}\\nrefine"',
    ]
    start = lines.index("  answers base/seed_0/round_0")
    assert lines[start + 1 : start + 3] == [
        "    benchmark dev: evaluate.temperature was 0.7, is 0.5",
        "    benchmark sampled: evaluate.temperature or problems.benchmarks.temperature was 0.7, "
        "is 0.5",
    ]


def test_an_edit_taken_back_is_in_the_store(project, asked):
    project.run(rounds=1, filter={"max_ratio": 8.0})
    assert asked() == [
        "would be computed",
        "  what follows: report",
        "would only be linked: the store has it",
        f"  filter {PLACE}: filter.max_ratio was 8.0, is 9.0",
        "  what follows: logits, distill, answers, evaluate",
        "up to date: 9 jobs",
    ]
    project.run(rounds=1)
    assert asked() == ["up to date: 15 jobs"]


def test_a_missing_output_is_linked_again(project, asked):
    (project.folder / SHARD).unlink()
    assert asked() == [
        "up to date: 15 jobs",
        f"  filter {PLACE}: its output is missing, but nothing that is asked for needs it now",
    ]
    assert asked(SHARD) == [
        f"{SHARD}: would only be linked: the store has it",
        "  its output is missing",
        "up to date: 7 jobs",
    ]
    project.run("--cores", "2", SHARD, rounds=1)
    assert asked(SHARD)[0] == f"{SHARD}: up to date"


def test_a_refresh_computes_what_it_visits(asked):
    assert asked(SHARD, "--forcerun", SHARD, store="refresh")[:2] == [
        f"{SHARD}: would be computed again and compared, since store is refresh",
        "  it is forced, by --forcerun, --force or --forceall",
    ]


def test_a_risen_version_is_named(asked, raise_version):
    raise_version("FILTER")
    version = schema.FILTER.version
    assert asked(SHARD) == [
        f"{SHARD}: would be computed",
        f"  version of filter was {version - 1}, is {version}",
        "up to date: 7 jobs",
    ]


@pytest.mark.parametrize(
    ("name", "file", "versions"),
    [
        (
            "DROPPED",
            "results/small/problems/train/dropped.parquet",
            "problems was [3, 3], is [3, 4]",
        ),
        ("METRICS", f"{ROUND}/student/metrics.parquet", "student was 3, is [3, 3]"),
    ],
)
def test_a_folder_has_the_versions_of_its_tables(asked, raise_version, name, file, versions):
    raise_version(name)
    assert asked(file)[:2] == [f"{file}: would be computed", f"  version of {versions}"]


@pytest.mark.parametrize("name", VERSIONS)
def test_a_risen_version_makes_its_stage_compute(name, project, raise_version, monkeypatch):
    project.run("--cores", "2", HEAD, rounds=1)
    monkeypatch.chdir(project.folder)
    targets = [HEAD] if writer_of(name) == "head" else []

    def verdicts():
        found = findings(planned([*targets, "--configfile", "overlay.yaml"]))
        return {of.verdict for of in found if of.job.stage == writer_of(name)}

    assert verdicts() == {FRESH}
    raise_version(name)
    assert verdicts() & {COMPUTE, LINK} == {COMPUTE}


@pytest.mark.parametrize("name", [name for name in VERSIONS if writer_of(name) == "report"])
def test_a_risen_version_of_the_report_is_computed_alone(
    name, project, raise_version, monkeypatch, tmp_path, caplog
):
    """It runs, on a copy of the project: the report is several artifacts."""
    copied = shutil.copytree(project.folder, tmp_path / "copied")
    monkeypatch.chdir(copied)
    (job,) = [job for job in planned(["--configfile", "overlay.yaml"]) if job.rule == "report"]
    caplog.set_level(logging.INFO, "mpd")
    report.main([*job.command])
    caplog.clear()
    raise_version(name)
    report.main([*job.command])
    computed = [message.split()[1] for message in caplog.messages if "computed" in message]
    assert computed == [name.removesuffix("_VERSION").lower()]


def test_more_rounds_are_new(asked):
    lines = asked(rounds=2)
    sample = "sample mpd/seed_0/round_2/shard_0"
    assert lines[:3] == [
        "would be computed",
        f"  {sample}: its output is missing",
        f"known only after others have run: {sample}",
    ]
    assert lines[-1] == "up to date: 14 jobs"
    assert "  report: reads now 11 files below results/small/mpd/seed_0/round_2" in lines


def test_what_was_made_otherwise_behind_the_back_of_snakemake(project, asked):
    project.run("--touch", rounds=1, filter={"max_ratio": 8.0})
    assert asked(SHARD, filter={"max_ratio": 8.0}) == [
        f"{SHARD}: up to date",
        "  filter.max_ratio was 9.0, is 8.0",
        "  Snakemake does not see this; run with --forcerun and the file",
        "up to date: 7 jobs",
    ]
    project.run("--touch", rounds=1)


def test_the_report_may_be_made_with_other_packages(asked, monkeypatch):
    """Those of its job, which has an environment of its own with --sdm conda."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")
    assert asked() == ["up to date: 15 jobs"]


@pytest.mark.parametrize(
    ("arguments", "changes", "sentence"),
    [
        ([], {"filter": {"max_rato": 1}}, "config: filter.max_rato: unknown key"),
        (["--bogus"], {}, "unrecognized arguments: --bogus; the arguments are those of snakemake"),
        (["nowhere"], {}, "No rule to produce nowhere"),
    ],
)
def test_mistakes_end_in_a_sentence(project, arguments, changes, sentence):
    project.command(**changes)
    done = subprocess.run(
        [*ORDINARY, sys.executable, "-m", "mpd.why", *arguments, "--configfile", "overlay.yaml"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"why: error: {sentence}")
    assert len(done.stderr.splitlines()) == 1
