"""audit: what a finished cache is found to be worth, and the limits."""

import argparse
import json
import re

import polars as pl
import pytest

from mpd import audit
from mpd.store import schema, table
from tests.changes import with_changes
from tests.notes import write_note


@pytest.fixture
def run_audit(student, teacher, capsys):
    """A function that audits a shard; it returns what was printed as numbers by name."""

    def run(path, *more):
        audit.main([str(path), "--student", str(student), "--teacher", str(teacher), *more])
        printed = capsys.readouterr().out
        return {
            name.strip(): float(value)
            for name, value in re.findall(r"^(.+?) +(\S+)$", printed, re.M)
        }

    return run


@pytest.fixture
def make_cache(tmp_path, run_logits, shard, student, teacher, logits_settings):
    """A function that makes a cache with other settings."""

    def make(**changes):
        return run_logits(
            tmp_path, shard, student, teacher, with_changes(logits_settings, **changes)
        )

    return make


def test_a_whole_vocabulary_is_exact_but_for_its_rounding(make_cache, run_audit, vocabulary):
    size = vocabulary.size
    whole = {"top_k": size, "student_top_k": size, "min_contribution": 0.0}
    found = run_audit(make_cache(**whole))
    assert found["teacher mass"] == pytest.approx(1, abs=1e-6)
    assert found["student mass"] == pytest.approx(1, abs=1e-6)
    assert found["loss ratio"] == pytest.approx(1, abs=1e-3)
    assert found["gradient cosine"] > 0.9999
    assert found["gradient error"] < 0.02
    assert found["noise divergence"] < 1e-6
    assert found["noise largest"] < 1e-4


def test_hidden_states_are_exact(make_cache, run_audit):
    found = run_audit(make_cache(cache="hidden"))
    assert found["loss ratio"] == pytest.approx(1, abs=1e-6)
    assert found["gradient cosine"] == pytest.approx(1, abs=1e-6)
    assert found["gradient error"] < 1e-4


def test_masses_and_divergence_are_those_of_the_cache(cached, run_audit):
    rows = table.read(cached, schema.LOGITS)
    found = run_audit(cached, "--min-cosine", "0", "--max-loss-error", "1")
    assert found["positions"] == rows["num_tokens"].sum()
    divergences = rows["divergence"].explode()
    assert found["exact loss"] == pytest.approx(divergences.mean(), rel=1e-3)
    for who in ("teacher", "student"):
        mean = (rows[f"{who}_mass"] * rows["num_tokens"]).sum() / rows["num_tokens"].sum()
        assert found[f"{who} mass"] == pytest.approx(mean, abs=2e-3)
    assert 0 < found["loss ratio"] < 1


def test_a_limit_that_is_exceeded_is_an_error(cached, run_audit):
    message = r"gradient_cosine is 0\.\d+, below 0\.999999; run logits again"
    with pytest.raises(ValueError, match=message):
        run_audit(cached, "--min-cosine", "0.999999", "--max-loss-error", "1")


def test_a_stored_divergence_that_is_off_is_found(cached, run_audit, tmp_path):
    rows = table.read(cached, schema.LOGITS).with_columns(
        pl.col("divergence").list.eval(pl.element() + 1).cast(pl.List(pl.Float32))
    )
    path = tmp_path / "shard_0.parquet"
    table.write(path, rows, schema.LOGITS, table.check(cached, schema.LOGITS)["identity"])
    note = json.loads(cached.with_suffix(".json").read_text())
    write_note(path.with_suffix(".json"), kind="logits", settings=note["settings"])
    with pytest.raises(
        ValueError, match=r"stored_divergence_error is (0\.99|1\.0)\d+, above 0\.01"
    ):
        run_audit(path, "--min-cosine", "0", "--max-loss-error", "1")


def test_a_student_that_is_the_teacher_has_no_gradient_to_judge():
    limits = argparse.Namespace(
        min_cosine=0.9,
        max_loss_error=0.1,
        max_stored_divergence_error=0.1,
        max_noise_divergence=0.1,
    )
    good = {"stored_divergence_error": 0.0, "noise_divergence": 0.0}
    noise = {**good, "exact_loss": 1e-7, "loss_ratio": 3.0, "gradient_cosine": 0.02}
    assert audit.exceeded(noise, limits) == []
    assert audit.exceeded({**noise, "exact_loss": 1e-2}, limits) == [
        "gradient_cosine is 0.020000, below 0.9",
        "loss_error is 2, above 0.1",
    ]
    assert audit.exceeded({**noise, "noise_divergence": 0.2}, limits) == [
        "noise_divergence is 0.2, above 0.1"
    ]


def test_a_cache_of_another_student_is_refused(cached, teacher, run_audit):
    with pytest.raises(ValueError, match="its student is"):
        audit.main([str(cached), "--student", str(teacher), "--teacher", str(teacher)])


def test_a_cache_without_its_note_is_refused(make_cache, run_audit, tmp_path):
    path = tmp_path / "copy.parquet"
    path.write_bytes(make_cache().read_bytes())
    with pytest.raises(ValueError, match=r"copy\.parquet: no note beside it"):
        run_audit(path)
