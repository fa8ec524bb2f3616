"""Which shards belong together, by what their footers name."""

from pathlib import Path

import polars as pl
import pytest

from mpd.store import schema, table
from mpd.store.lineage import contents_of, require_made_from, rewritten_by, sampled_by
from tests.damage import before_checksums


@pytest.fixture
def verdicts(tmp_path):
    """A function that writes a filter shard without rows under an identity."""

    def write(**identity):
        path = tmp_path / "filter.parquet"
        table.write(path, table.frame_of([], schema.FILTER), schema.FILTER, identity)
        return path

    return write


def test_a_shard_names_what_it_was_made_from(verdicts):
    path, sample, compress = verdicts(sample="a", compress="b"), Path("s"), Path("c")
    require_made_from(path, schema.FILTER, {"sample": (sample, "a"), "compress": (compress, "b")})
    with pytest.raises(ValueError) as caught:
        require_made_from(
            path, schema.FILTER, {"sample": (sample, "a"), "compress": (compress, "d" * 32)}
        )
    assert str(caught.value) == (
        f"{path}: it was made from compress b, but c is dddddddddddd: of another experiment, "
        "round, seed, shard or benchmark, or of another run; run again with --forcerun c "
        f"{path}"
    )


def test_a_shard_that_names_nothing_is_refused(verdicts):
    with pytest.raises(ValueError, match="it was made from sample None, but s is a: "):
        require_made_from(verdicts(), schema.FILTER, {"sample": (Path("s"), "a")})


def test_a_shard_from_before_checksums_need_not_name_every_source(verdicts):
    path = verdicts(sample="a")
    before_checksums(path)
    require_made_from(path, schema.FILTER, {"problems": (Path("p"), "b"), "sample": (path, "a")})
    with pytest.raises(ValueError, match="it was made from sample a, but s is b: "):
        require_made_from(path, schema.FILTER, {"sample": (Path("s"), "b")})


def test_the_shards_of_a_round_are_made_from_each_other(tmp_path):
    """Each names all that come before it."""
    paths = {name: tmp_path / name for name in ("problems", "sample", "filter")}
    artifacts = dict(zip(paths, (schema.PROBLEMS, schema.SAMPLE, schema.FILTER), strict=True))
    contents: dict[str, str] = {}
    for name, artifact in artifacts.items():
        rows = table.frame_of([], artifact)
        contents[name] = table.write(paths[name], rows, artifact, dict(contents))
    shards = {name: (paths[name], artifacts[name]) for name in paths}
    assert contents_of(shards) == contents
    table.write(paths["filter"], rows, schema.FILTER, {"sample": contents["sample"]})
    with pytest.raises(ValueError, match=f"^{paths['filter']}: it was made from problems None"):
        contents_of(shards)


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
