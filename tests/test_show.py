"""What `show` prints of a round: its rows, and one trajectory through the stages there are."""

import shutil
import subprocess
import sys
from math import exp
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from mpd.scoring.token_records import token_record
from mpd.show import __main__ as show
from mpd.show.trajectory import SIDE_BY_SIDE
from mpd.store import schema, table, table_writer
from mpd.text.questions import problem_id
from tests.report.test_answer_browser import answer, write_answers

SAMPLE = f"{problem_id('3+3')}-0"
ROUND = "mpd/seed_0/round_1"
COLUMNS = ("student_logprob", "realised_logprob", "divergence")


@pytest.fixture
def folder(tmp_path, shard, cached):
    """A round of two shards with every stage; the second holds the sample of 3+3."""
    of_round = tmp_path / "results" / ROUND
    places = {**shard, "logits": cached}
    for name, source in places.items():
        artifact = getattr(schema, name.upper())
        rows = table.read(source, artifact)
        of_sample = pl.col("problem_id" if name == "problems" else "sample_id").str.starts_with(
            problem_id("3+3")
        )
        home = of_round.parents[2] / "problems/train" if name == "problems" else of_round / name
        for number, part in enumerate((rows.filter(~of_sample), rows.filter(of_sample))):
            table.write(home / f"shard_{number}.parquet", part, artifact, {})
    return of_round


@pytest.fixture
def shown(folder, capsys):
    """A function that runs `show`; it returns the lines, without frames and outer space."""

    def shown(*arguments):
        show.main([str(folder), *arguments])
        lines = capsys.readouterr().out.splitlines()
        return [line.strip(" │╭╮╰╯─") for line in lines]

    return shown


def set_reasons(folder):
    """Give the sample of 3+3 another verdict than the others."""
    path = folder / "filter" / "shard_1.parquet"
    rows = table.read(path, schema.FILTER)
    changes = {"reason": "wrong_answer", "answer": "[7]", "verdict": "wrong"}
    rows = rows.with_columns(
        keep=False, correct=False, **{k: pl.lit(v) for k, v in changes.items()}
    )
    table.write(path, rows, schema.FILTER, {})


def test_rows_are_listed_with_their_verdicts(folder, shown):
    set_reasons(folder)
    lines = shown()
    assert lines[0] == "7 kept, 1 wrong_answer"
    assert lines[1].split() == [
        *("sample", "candidate", "tokens", "rewrite", "ratio", "answer", "gold", "reason")
    ]
    rows = [line.split() for line in lines[2:]]
    assert len(rows) == 8
    verdicts = table.read(folder / "filter" / "shard_1.parquet", schema.FILTER).row(0, named=True)
    lengths = [str(verdicts["sample_tokens"]), str(verdicts["num_tokens"])]
    ratio = f"{verdicts['ratio']:.2f}"
    assert rows[-1] == [SAMPLE, "0", *lengths, ratio, "[7]", "6", "wrong_answer"]
    assert {row[-1] for row in rows[:-1]} == {"kept"}


def test_rows_of_one_reason(folder, shown):
    set_reasons(folder)
    lines = shown("--reason", "wrong_answer")
    assert lines[0] == "1 wrong_answer"
    assert [line.split()[0] for line in lines[2:]] == [SAMPLE]


def test_no_more_rows_than_the_limit(shown):
    lines = shown("--limit", "3")
    assert len(lines) == 2 + 3 + 1
    assert lines[-1] == "5 more; --limit 8 lists all"


@pytest.mark.parametrize("limit", ["-1", "0", "1.5", "all"])
def test_a_limit_that_is_not_positive_is_refused(folder, capsys, limit):
    with pytest.raises(SystemExit) as caught:
        show.main([str(folder), "--limit", limit])
    assert caught.value.code == 2
    expected = f"argument --limit: must be a whole number of at least 1, not {limit}\n"
    assert capsys.readouterr().err.endswith(expected)


def row_of(folder, artifact):
    return table.read(folder / artifact.name / "shard_1.parquet", artifact).row(0, named=True)


def test_a_sample_is_shown_through_all_stages(folder, shown):
    sample, rewrite = row_of(folder, schema.SAMPLE), row_of(folder, schema.COMPRESS)
    cached, ratio = row_of(folder, schema.LOGITS), row_of(folder, schema.FILTER)["ratio"]
    lines = shown("--sample", SAMPLE)
    text = " ".join(lines)
    assert lines[:2] == ["problem, gold 6", "3+3"]
    assert f"sample: {sample['num_tokens']} tokens, stop, correct" in lines
    assert f"rewrite 0: {rewrite['num_tokens']} tokens, ratio {ratio:.2f}" in lines
    assert rewrite["text"] in text
    assert "correct: kept" in lines
    assert (
        f"log-probability per token {cached['mean_teacher_logprob']:.3f}, end of thinking" in text
    )
    assert "not run yet" not in text


@pytest.mark.parametrize(
    ("last", "missing"),
    [
        ("filter", "logits"),
        ("compress", "filter, logits"),
        ("sample", "compress, filter, logits"),
    ],
)
def test_a_sample_is_shown_through_the_stages_there_are(folder, shown, last, missing):
    sample, rewrite = row_of(folder, schema.SAMPLE), row_of(folder, schema.COMPRESS)
    for name in missing.split(", "):
        shutil.rmtree(folder / name)
        (folder / name).mkdir()  # as Snakemake does before a job
    lines = shown("--sample", SAMPLE)
    assert lines[:2] == ["problem, gold 6", "3+3"]
    verdict = ", correct" if last == "filter" else ""
    assert f"sample: {sample['num_tokens']} tokens, stop{verdict}" in lines
    title = f"rewrite 0: {rewrite['num_tokens']} tokens"
    assert any(line.startswith(title) for line in lines) == (last != "sample")
    assert ("correct: kept" in lines) == (last == "filter")
    assert lines[-1] == f"not run yet: {missing}"


def test_a_gold_answer_in_brackets_is_no_style(folder, shown):
    path = folder.parents[2] / "problems" / "train" / "shard_1.parquet"
    rows = table.read(path, schema.PROBLEMS).with_columns(gold=pl.lit("[/red][1]"))
    table.write(path, rows, schema.PROBLEMS, {})
    assert shown("--sample", SAMPLE)[0] == "problem, gold [/red][1]"


def test_what_a_model_wrote_cannot_steer_the_terminal(folder, capsys):
    path = folder / "compress" / "shard_1.parquet"
    hostile = pl.lit("4\x1b]0;title\x07 5\x9b2J\n\tend\r\n")
    rows = table.read(path, schema.COMPRESS).with_columns(text=hostile)
    table.write(path, rows, schema.COMPRESS, {})
    show.main([str(folder), "--sample", SAMPLE])
    printed = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(printed)
    assert "4\ufffd]0;title\ufffd 5\ufffd2J" in printed


def test_a_rewrite_that_never_was_shows_its_status(folder, shown):
    path = folder / "compress" / "shard_1.parquet"
    rows = table.read(path, schema.COMPRESS).with_columns(
        status=pl.lit("format"),
        text=pl.lit(None, pl.String),
        completion_ids=pl.lit(None, pl.List(pl.Int32)),
        num_tokens=pl.lit(None, pl.Int32),
        rewrite=pl.lit("no answer"),
    )
    table.write(path, rows, schema.COMPRESS, {})
    lines = shown("--sample", SAMPLE)
    assert any(line.startswith("rewrite 0: format") for line in lines)
    assert "no answer" in lines


def test_what_is_no_round_is_refused(folder, tmp_path):
    for path in (Path("/nowhere"), tmp_path / "a/b/c/d", folder.parent, folder.parents[2]):
        with pytest.raises(ValueError) as caught:
            show.main([str(path)])
        assert str(caught.value) == (
            f"{path}: not a round; give results/<experiment>/<method>/seed_<n>/round_<n>"
        )


def test_a_round_in_which_nothing_was_sampled_is_refused(folder):
    empty = folder.with_name("round_7")
    with pytest.raises(ValueError) as caught:
        show.main([str(empty)])
    assert str(caught.value) == f"{empty}: nothing was sampled for this round; run it first"


def test_a_round_is_shown_from_within_its_folder(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder / "filter")
    show.main([".."])
    assert capsys.readouterr().out.startswith("8 kept\n")


def test_a_round_without_verdicts_lists_what_there_is(folder, shown):
    lengths = [str(row_of(folder, schema.SAMPLE)["num_tokens"])]
    shutil.rmtree(folder / "filter")
    (folder / "logits" / "shard_1.parquet").unlink()
    lines = shown()
    assert [line.split()[0] for line in lines[1:]].count(SAMPLE) == 1
    (row,) = [line.split() for line in lines if line.startswith(SAMPLE)]
    lengths.append(str(row_of(folder, schema.COMPRESS)["num_tokens"]))
    assert row == [SAMPLE, "0", *lengths, "-", "-", "-", "-"]
    assert lines[-1] == "not run yet: filter, logits (1 of 2 shards)"
    shutil.rmtree(folder / "compress")
    (row,) = [line.split() for line in shown() if line.startswith(SAMPLE)]
    assert row == [SAMPLE, "-", lengths[0], "-", "-", "-", "-", "-"]


def test_an_unknown_reason_is_refused_with_those_there_are(folder):
    set_reasons(folder)
    with pytest.raises(ValueError) as caught:
        show.main([str(folder), "--reason", "bogus"])
    assert str(caught.value) == ("--reason bogus: no row has it; there are 7 kept, 1 wrong_answer")


def test_a_reader_may_close_the_pipe(folder):
    command = f"{sys.executable} -m mpd.show {folder} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("8 kept\n", "")


def test_a_wide_terminal_shows_a_trajectory_beside_its_rewrite(folder, monkeypatch, capsys):
    monkeypatch.setenv("PAGER", "cat")
    monkeypatch.setattr(
        show, "Console", lambda width=None: Console(force_terminal=True, width=SIDE_BY_SIDE)
    )
    show.main([str(folder), "--sample", SAMPLE])
    titles = [line for line in capsys.readouterr().out.splitlines() if "sample: " in line]
    assert len(titles) == 1
    assert "rewrite 0: " in titles[0]


@pytest.fixture
def lines_of(folder, shown, student):
    """A function that gives the token lines of the sample of 3+3, in columns."""
    shutil.copytree(student.parent, folder.parents[2] / "models" / "teacher")

    def lines_of():
        lines = shown("--sample", SAMPLE, "--tokens")
        start = next(n for n, line in enumerate(lines) if line.startswith("token "))
        stop = next(n for n, line in enumerate(lines) if line.startswith("teacher log-prob"))
        return [line.split() for line in lines[start + 1 : stop]]

    return lines_of


def test_tokens_of_a_cached_row(folder, lines_of):
    row, lines = row_of(folder, schema.LOGITS), lines_of()
    end = lines.pop(row["think_end"])
    assert end == ["end", "of", "thinking"]
    assert len(lines) == row["num_tokens"]
    for place, line in enumerate(lines):
        numbers = [row[name][place] for name in COLUMNS]
        assert line[0] == str(place)
        assert [float(cell) for cell in line[2:5]] == pytest.approx(numbers, abs=0.0005001)
    assert lines[row["think_end"]][1] == "</think>"
    assert lines[-1][1] == "<|im_end|>"
    # The same numbers as in the page, and of its candidates the most probable four.
    record = token_record(row)
    for place, (line, pairs) in enumerate(zip(lines, record["candidates"], strict=True)):
        nats = (-record["student"][place], -record["teacher"][place], record["divergence"][place])
        assert line[2:5] == [f"{thousandths / 1000:.3f}" for thousandths in nats]
        assert line[6::2] == [f"{exp(-thousandths / 1000):.2f}" for thousandths in pairs[1:8:2]]


def test_tokens_where_vllm_scored_or_states_are_cached(folder, lines_of):
    path = folder / "logits" / "shard_1.parquet"
    rows = table.read(path, schema.LOGITS)
    nulls = {"student_logprob": None, "divergence": None, "support_size": None}
    dtypes = {name: rows.schema[name] for name in nulls}
    rows = rows.with_columns(pl.lit(None, dtypes[name]).alias(name) for name in nulls)
    table.write(path, rows, schema.LOGITS, {})
    row = row_of(folder, schema.LOGITS)
    lines = [line for line in lines_of() if line[0] != "end"]
    assert [line[2:] for line in lines] == [
        ["-", f"{-logprob / 1000:.3f}", "-", "-"] for logprob in token_record(row)["teacher"]
    ]


def test_tokens_need_a_sample_whose_tokens_are_cached(folder):
    with pytest.raises(ValueError) as caught:
        show.main([str(folder), "--tokens"])
    assert str(caught.value) == "--tokens shows the tokens of one sample; give --sample <id>"
    set_reasons(folder)
    rows = table.read(folder / "logits" / "shard_1.parquet", schema.LOGITS).clear()
    table.write(folder / "logits" / "shard_1.parquet", rows, schema.LOGITS, {})
    with pytest.raises(ValueError) as caught:
        show.main([str(folder), "--sample", SAMPLE, "--tokens"])
    assert str(caught.value) == f"{SAMPLE}: no tokens are cached; verdict of filter: wrong_answer"


def test_of_a_cache_only_the_rows_of_the_sample_are_held(folder, shown, monkeypatch):
    # Row groups of one row each, as those of long trajectories are.
    path = folder / "logits" / "shard_0.parquet"
    rows = table.read(path, schema.LOGITS)
    monkeypatch.setattr(table_writer, "ROW_GROUP_BYTES", 1)
    table.write(path, rows, schema.LOGITS, {})
    held, groups = [], table.groups

    def counted(path, columns, keys=None):
        for group in groups(path, columns, keys):
            held.append((path.parent.name, path.name, len(group)))
            yield group

    monkeypatch.setattr(table, "groups", counted)
    shown("--sample", rows["sample_id"][0])
    assert sorted(held) == sorted(
        (stage, "shard_0.parquet", 1)
        for stage in ("train", "sample", "compress", "filter", "logits")
    )


def test_an_unknown_sample_is_refused(folder):
    with pytest.raises(ValueError) as caught:
        show.main([str(folder), "--sample", "0a1b-0"])
    assert str(caught.value) == (f"{folder}: no sample 0a1b-0; run without --sample to list them")


@pytest.fixture
def answered(tmp_path):
    """Answers of the base student and of round 1 to a problem of a benchmark."""
    answers = {
        ("base", 0, 0, "one"): [answer("p0", "correct", 9, text="say \x1b[31m 7")],
        ("mpd", 0, 1, "one"): [
            answer("p0", "none", 3, text="say"),
            answer("p0", "wrong", 5, 1, text="say 8"),
        ],
    }
    write_answers(tmp_path, answers)
    experiment = tmp_path / "results/tiny"
    problem = {"problem_id": "p0", "question": "3+4", "gold": "[7]", "source_row": 0}
    table.write(
        *(experiment / "problems/eval/one.parquet", table.frame_of([problem], schema.PROBLEMS)),
        *(schema.PROBLEMS, {}),
    )
    return experiment / ROUND


def test_answers_to_a_problem_are_shown_below_those_of_the_base_student(answered, capsys):
    show.main([str(answered), "--benchmark", "one", "--problem", "p0"])
    lines = [line.strip(" │╭╮╰╯─") for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line] == [
        *("problem, gold [7]", "3+4"),
        *("base student: 9 tokens, stop", "say \ufffd[31m 7", "answer 7: correct"),
        *("mpd/seed_0/round_1: 3 tokens, stop", "say", "no answer: none"),
        *("mpd/seed_0/round_1: 5 tokens, stop", "say 8", "answer 8: wrong"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--benchmark", "one"), "--benchmark and --problem show answers together; give both"),
        (("--problem", "p0"), "--benchmark and --problem show answers together; give both"),
        (("--benchmark", "two", "--problem", "p0"), "no answers to two are graded; there are"),
        (("--benchmark", "one", "--problem", "p1"), "no problem p1 in benchmark one; the section"),
    ],
)
def test_answers_that_are_not_there_are_refused(answered, arguments, message):
    with pytest.raises(ValueError, match=message):
        show.main([str(answered), *arguments])
