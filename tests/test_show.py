"""What `show` prints of a round: its rows, and one trajectory through the stages there are."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from mpd import schema, show, table
from mpd.questions import problem_id

SAMPLE = f"{problem_id('3+3')}-0"
ROUND = "mpd/seed_0/round_1"


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


def test_a_round_without_verdicts_names_the_missing_file(folder):
    shutil.rmtree(folder / "filter")
    with pytest.raises(ValueError) as caught:
        show.main([str(folder)])
    assert str(caught.value) == (
        f"{folder}/filter/shard_0.parquet: no such file; run the stage that writes it"
    )


def test_an_unknown_sample_is_refused(folder):
    with pytest.raises(ValueError) as caught:
        show.main([str(folder), "--sample", "0a1b-0"])
    assert str(caught.value) == (f"{folder}: no sample 0a1b-0; run without --sample to list them")
