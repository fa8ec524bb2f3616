"""Which shards belong together, by what their footers name."""

import polars as pl
import pytest

from mpd.store import schema, table
from mpd.store.lineage import require_made_from, rewritten_by, sampled_by


@pytest.fixture
def verdicts(tmp_path):
    """A function that writes a filter shard without rows under an identity."""

    def write(**identity):
        path = tmp_path / "filter.parquet"
        table.write(path, table.frame_of([], schema.FILTER), schema.FILTER, identity)
        return path

    return write


def test_a_shard_names_what_it_was_made_from(verdicts):
    path = verdicts(sample="a", compress="b")
    require_made_from(path, schema.FILTER, sample="a", compress="b")
    with pytest.raises(ValueError) as caught:
        require_made_from(path, schema.FILTER, sample="a", compress="c")
    assert str(caught.value) == (
        f"{path}: it was made from another compress shard than the one given here: of another "
        "round, seed or shard number, or before compress ran again; give shards of one round, or "
        "run filter again"
    )


def test_a_shard_that_names_nothing_is_refused(verdicts):
    with pytest.raises(ValueError, match="it was made from another sample shard"):
        require_made_from(verdicts(), schema.FILTER, sample="a")


def test_samples_are_asked_for_their_student_unless_they_were_given(tmp_path):
    path, manifest = tmp_path / "sample.parquet", {"token_map": "t", "digest": "d", "weights": "w"}
    nothing: pl.DataFrame = table.frame_of([], schema.SAMPLE)
    table.write(path, nothing, schema.SAMPLE, {"token_map": "t"})
    assert sampled_by(path, manifest) == {"token_map": "t"}
    table.write(path, nothing, schema.SAMPLE, {"token_map": "t", "student": "another"})
    assert sampled_by(path, manifest) == {"token_map": "t", "student": "d"}


def test_samples_of_the_teacher_are_asked_for_it(tmp_path):
    path, nothing = tmp_path / "sample.parquet", table.frame_of([], schema.SAMPLE)
    student, teacher = ({"token_map": "t", "digest": digest} for digest in ("d", "e"))
    for named, asked in (("d", "d"), ("e", "e"), ("another", "d")):
        table.write(path, nothing, schema.SAMPLE, {"token_map": "t", "student": named})
        assert sampled_by(path, student, teacher) == {"token_map": "t", "student": asked}


def test_who_rewrote_has_to_score(tmp_path):
    path, nothing = tmp_path / "compress.parquet", table.frame_of([], schema.COMPRESS)
    scorer = {"token_map": "t", "teacher": "e"}
    table.write(path, nothing, schema.COMPRESS, {"token_map": "t", "teacher": "another"})
    assert rewritten_by(path, scorer) == scorer
    with pytest.raises(ValueError, match="its teacher is another"):
        table.check(path, schema.COMPRESS, rewritten_by(path, scorer))
    table.write(path, nothing, schema.COMPRESS, {"token_map": "t"})
    assert rewritten_by(path, scorer) == {"token_map": "t"}
