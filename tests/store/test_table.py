import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import xxhash

from mpd.store import schema, table, table_writer
from mpd.store.schema import Artifact, Column
from tests.ordinary import ORDINARY

DTYPES = {
    "string": pl.String,
    "bool": pl.Boolean,
    "int32": pl.Int32,
    "int64": pl.Int64,
    "float32": pl.Float32,
    "float64": pl.Float64,
    "list<int32>": pl.List(pl.Int32),
    "list<float32>": pl.List(pl.Float32),
}
EVERYTHING = Artifact(
    "everything",
    3,
    "a nullable column of each dtype",
    ("key",),
    (
        Column("key", "int32", "", ""),
        *(Column(dtype, dtype, "", "", nullable=True) for dtype in DTYPES),
    ),
)
VALUES = {
    "string": ["", None, "ÿ→\n\0", "1"],
    "bool": [True, None, False, True],
    "int32": [-(2**31), None, 2**31 - 1, 0],
    "int64": [-(2**63), None, 2**63 - 1, 0],
    "float32": [-0.0, None, math.inf, 0.1],
    "float64": [-0.0, None, -math.inf, 0.1],
    "list<int32>": [[], None, [2**31 - 1, -1], [0]],
    "list<float32>": [[], None, [-math.inf, 0.5], [0.1]],
}
FRAME = pl.DataFrame(
    {"key": [0, 1, 2, 3], **VALUES}, schema={"key": pl.Int32, **DTYPES}, strict=False
)
PAIR = Artifact(
    "pair", 1, "", ("a", "b"), (Column("a", "string", "", ""), Column("b", "int32", "", ""))
)
PAIRS = pl.DataFrame({"a": ["x", "x"], "b": [1, 2]}, schema={"a": pl.String, "b": pl.Int32})

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some rows.parquet"


def write_pairs(path, artifact=PAIR, identity=None):
    table.write(path, PAIRS, artifact, identity or {})


def test_every_dtype_comes_back_as_it_went(path):
    table.write(path, FRAME, EVERYTHING, {})
    found = table.read(path, EVERYTHING)
    assert found.equals(FRAME)
    assert found.schema == FRAME.schema
    assert math.copysign(1, found["float64"][0]) == -1
    assert [path.name for path in path.parent.iterdir()] == ["some rows.parquet"]


def test_schemas_use_only_these_dtypes():
    used = {column.dtype for artifact in schema.ARTIFACTS for column in artifact.columns}
    assert used <= set(DTYPES)


def test_polars_opens_the_file(path):
    table.write(path, FRAME, EVERYTHING, {})
    assert pl.read_parquet(path).equals(FRAME)


def test_empty_frame_keeps_its_columns(path):
    table.write(path, FRAME.clear(), EVERYTHING, {})
    assert table.read(path, EVERYTHING).schema == FRAME.schema
    assert table.read(path, EVERYTHING).is_empty()


def test_groups_of_some_keys_are_read_only_where_these_are(path, monkeypatch):
    monkeypatch.setattr(table_writer, "ROW_GROUP_BYTES", 1)  # a row group for each row
    rows = pl.DataFrame({"a": ["x", "y", "z", "y"], "b": [1, 2, 3, 4]}, schema=PAIRS.schema)
    table.write(path, rows, PAIR, {})
    assert [group.rows() for group in table.groups(path, ["b"])] == [[(1,)], [(2,)], [(3,)], [(4,)]]
    keys = pl.DataFrame({"a": ["y", "w"]})
    assert [group.rows() for group in table.groups(path, ["b"], keys)] == [[(2,)], [(4,)]]
    assert list(table.groups(path, ["b"], keys[1:])) == []


def test_nan_comes_back(path):
    frame = FRAME.head(1).with_columns(float64=pl.lit(math.nan))
    table.write(path, frame, EVERYTHING, {})
    assert math.isnan(table.read(path, EVERYTHING)["float64"][0])


def test_lists_are_split_bytes_and_everything_is_zstd(path):
    table.write(path, FRAME, EVERYTHING, {})
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    split = {column.path_in_schema for column in columns if "BYTE_STREAM_SPLIT" in column.encodings}
    assert split == {"list<int32>.list.element", "list<float32>.list.element"}
    assert {column.compression for column in columns} == {"ZSTD"}


def test_frame_of_rows():
    rows = [{"a": "x", "b": 1}, {"b": 2, "a": "x"}]
    assert table.frame_of(rows, PAIR).equals(PAIRS)
    assert table.frame_of([], EVERYTHING).schema == FRAME.schema


def test_frame_of_rows_leaves_out_what_is_no_column():
    assert table.frame_of([{"a": "x", "b": 1, "c": 0}], PAIR).equals(PAIRS.head(1))


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"a": 1, "b": 1}, TypeError),
        ({"a": "x", "b": "1"}, TypeError),
        ({"a": "x", "b": 1.5}, TypeError),
        ({"a": "x", "b": 2**31}, TypeError),
        ({"a": "x"}, KeyError),
    ],
    ids=["number as text", "text as number", "fraction", "too large", "missing"],
)
def test_frame_of_rows_refuses_another_type(row, error):
    with pytest.raises(error):
        table.frame_of([row], PAIR)


@pytest.mark.parametrize(
    "frame",
    [
        PAIRS.drop("b"),
        PAIRS.with_columns(c=1),
        PAIRS.select("b", "a"),
        PAIRS.rename({"b": "B"}),
        PAIRS.cast({"b": pl.Int64}),
        PAIRS.cast({"a": pl.Categorical}),
    ],
    ids=["missing", "one more", "order", "name", "dtype", "categorical"],
)
def test_other_columns_are_refused(path, frame):
    with pytest.raises(ValueError) as caught:
        table.write(path, frame, PAIR, {})
    start = f"{path}: expected the columns a: large_string, b: int32; found "
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    assert not path.exists()


def test_null_is_refused_where_it_has_no_meaning(path):
    frame = pl.DataFrame({"a": ["x", None], "b": [1, 2]}, schema=PAIRS.schema)
    with pytest.raises(ValueError) as caught:
        table.write(path, frame, PAIR, {})
    assert str(caught.value) == f"{path}: a must not be null"


def test_duplicate_key_is_refused(path):
    frame = pl.DataFrame({"a": ["x", "y", "x"], "b": [1, 1, 1]}, schema=PAIRS.schema)
    with pytest.raises(ValueError) as caught:
        table.write(path, frame, PAIR, {})
    assert str(caught.value) == f"{path}: two rows have the same a, b"


def message_of_read(path, artifact=PAIR, identity=None):
    """The one message with which reading and reading the digest fail."""
    with pytest.raises(ValueError) as caught:
        table.read(path, artifact, identity)
    with pytest.raises(ValueError) as caught_too:
        table.content_digest(path, artifact, identity)
    assert str(caught.value) == str(caught_too.value)
    return str(caught.value)


def test_missing_file_is_refused(path):
    assert message_of_read(path) == f"{path}: no such file; run the stage that writes it"


@pytest.mark.parametrize("size", [0, 3, 100, -1])
def test_truncated_file_is_refused(path, size):
    write_pairs(path)
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    message = message_of_read(path)
    assert message.startswith(f"{path}: not a whole Parquet file (")
    assert message.endswith(
        f"); run again with --forcerun {path} --config store=refresh, which computes it again"
    )
    assert "\n" not in message


def damage(path):
    with path.open("r+b") as file:
        file.seek(10)
        file.write(bytes(20))


def test_damaged_rows_are_refused(path):
    write_pairs(path)
    damage(path)
    with pytest.raises(ValueError) as caught:
        table.read(path, PAIR)
    message = str(caught.value)
    assert message.startswith(f"{path}: damaged (")
    assert message.endswith(
        f"); run again with --forcerun {path} --config store=refresh, which computes it again"
    )


def test_damaged_part_is_named(tmp_path, path):
    part = tmp_path / "part"
    write_pairs(part)
    damage(part)
    with pytest.raises(ValueError) as caught:
        table.concatenate(path, [part], PAIR, {})
    assert str(caught.value).startswith(f"{part}: damaged (")
    assert str(caught.value).endswith("); delete it and run again")


def test_foreign_parquet_file_is_refused(path):
    PAIRS.write_parquet(path)
    assert message_of_read(path) == (
        f"{path}: expected pair version 1, found a foreign file version None; run its stage again"
    )


def test_other_artifact_is_refused(path):
    write_pairs(path)
    other = Artifact("other", 1, "", PAIR.key, PAIR.columns)
    assert message_of_read(path, other) == (
        f"{path}: expected other version 1, found pair version 1; run its stage again"
    )


def test_other_version_is_refused(path):
    write_pairs(path)
    newer = Artifact("pair", 2, "", PAIR.key, PAIR.columns)
    assert message_of_read(path, newer) == (
        f"{path}: expected pair version 2, found pair version 1; run its stage again"
    )


def test_other_columns_of_the_same_version_are_refused(path):
    write_pairs(path)
    columns = (*PAIR.columns, Column("c", "bool", "", ""))
    assert message_of_read(path, Artifact("pair", 1, "", PAIR.key, columns)) == (
        f"{path}: expected the columns a: large_string, b: int32, c: bool; "
        "found a: large_string, b: int32; "
        "after a change of columns bump the version in mpd/store/schema/ and run its stage again"
    )


def test_other_dtypes_of_the_same_version_are_refused(path):
    write_pairs(path)
    columns = (PAIR.columns[0], Column("b", "int64", "", ""))
    assert message_of_read(path, Artifact("pair", 1, "", PAIR.key, columns)) == (
        f"{path}: expected the columns a: large_string, b: int64; "
        "found a: large_string, b: int32; "
        "after a change of columns bump the version in mpd/store/schema/ and run its stage again"
    )


@pytest.mark.parametrize("artifact", schema.ARTIFACTS, ids=lambda artifact: artifact.name)
def test_every_artifact_comes_back_with_its_dtypes(path, artifact):
    table.write(path, table.frame_of([], artifact), artifact, {})
    assert pq.read_schema(path) == table.arrow_schema(artifact)
    table.check(path, artifact)


def test_other_identity_is_refused(path):
    write_pairs(path, identity={"teacher": "123", "tokens": "abc"})
    assert table.read(path, PAIR, {"teacher": "123"}).equals(PAIRS)
    assert table.read(path, PAIR, {"teacher": "123", "tokens": "abc"}).equals(PAIRS)
    assert message_of_read(path, identity={"tokens": "abc", "teacher": "456"}) == (
        f"{path}: its teacher is 123, but 456 is wanted; it was made by another model: "
        "run its stage again with this one"
    )
    assert message_of_read(path, identity={"student": "456"}).startswith(
        f"{path}: its student is None, but 456 is wanted; "
    )


def test_footer_holds_what_a_reader_refuses_on_and_no_more(path):
    digest = table.write(path, PAIRS, PAIR, {"teacher": "123"})
    footer = json.loads(pq.ParquetFile(path).metadata.metadata[b"mpd"])
    # Null flags, lengths and bytes of texts; null flags and numbers; each with name and size.
    texts = b" null 2 \0\0 length 16 " + struct.pack("<2q", 1, 1) + b" value 2 xx"
    numbers = b" null 2 \0\0 value 8 " + struct.pack("<2i", 1, 2)
    checksums = {
        name: [xxhash.xxh3_64_hexdigest(of)]
        for name, of in zip("ab", (texts, numbers), strict=True)
    }
    expected = {
        "artifact": "pair",
        "version": 1,
        "content": digest,
        "identity": {"teacher": "123"},
        "checksums": checksums,
    }
    assert table.check(path, PAIR) == expected
    checksum = xxhash.xxh3_64_hexdigest(json.dumps(expected, sort_keys=True).encode())
    assert footer == {**expected, "checksum": checksum}
    assert table.content_digest(path, PAIR) == digest
    assert len(digest) == 32


def test_equal_rows_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        table.write(tmp_path / name, FRAME, EVERYTHING, {"x": "1", "y": "2"})
    table.write(tmp_path / "c", FRAME, EVERYTHING, {"y": "2", "x": "1"})
    contents = {name: (tmp_path / name).read_bytes() for name in "abc"}
    assert contents["a"] == contents["b"] == contents["c"]


@pytest.mark.parametrize("cuts", [[], [2], [1, 2, 3], [0, 0, 4, 4]])
def test_digest_and_rows_do_not_depend_on_parts(tmp_path, cuts):
    whole = table.write(tmp_path / "whole", FRAME, EVERYTHING, {})
    parts = []
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, 4], strict=True)):
        parts.append(tmp_path / f"part_{number}")
        table.write(parts[-1], FRAME[start:stop], EVERYTHING, {})
    path = tmp_path / "joined"
    assert table.concatenate(path, parts, EVERYTHING, {}) == whole
    assert table.content_digest(path, EVERYTHING) == whole
    assert table.read(path, EVERYTHING).equals(FRAME)
    assert pq.ParquetFile(path).num_row_groups == len(parts)


def test_digest_of_some_columns_depends_on_no_others(path):
    def digests():
        return [table.column_digest(path, PAIR, columns) for columns in (["a"], ["b"], ["a", "b"])]

    write_pairs(path)
    first = digests()
    assert first[2] == table.content_digest(path, PAIR)
    table.write(path, PAIRS.with_columns(b=pl.Series([1, 3], dtype=pl.Int32)), PAIR, {})
    changed = [one != other for one, other in zip(first, digests(), strict=True)]
    assert changed == [False, True, True]
    with pytest.raises(ValueError, match="expected everything version 3, found pair version 1"):
        table.column_digest(path, EVERYTHING, ["key"])


def test_digest_of_no_rows_does_not_depend_on_parts(tmp_path):
    whole = table.write(tmp_path / "whole", FRAME.clear(), EVERYTHING, {})
    parts = [tmp_path / "whole"] * 2
    assert table.concatenate(tmp_path / "joined", parts, EVERYTHING, {}) == whole


def test_digest_does_not_depend_on_chunks_in_memory(tmp_path):
    chunked = pl.concat([FRAME[:1], FRAME[1:]], rechunk=False)
    assert chunked.n_chunks() == 2
    assert table.write(tmp_path / "chunked", chunked, EVERYTHING, {}) == table.write(
        tmp_path / "whole", FRAME, EVERYTHING, {}
    )


LIST, TEXT, NUMBER = "list<int32>", "string", "int64"


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        (NUMBER, [1, 2], [1, 3]),
        (NUMBER, [1, 2], [2, 1]),
        (NUMBER, [0, 1], [None, 1]),
        (NUMBER, [1, None], [None, 1]),
        ("bool", [True, False], [True, None]),
        ("float64", [0.0, 1.0], [-0.0, 1.0]),
        ("float32", [math.nan, 1.0], [None, 1.0]),
        (TEXT, ["ab", "c"], ["a", "bc"]),
        (TEXT, ["", "a"], [None, "a"]),
        (TEXT, ["a", "A"], ["a", "a"]),
        (LIST, [[1], [2]], [[1, 2], []]),
        (LIST, [[1, 2], [3]], [[1], [2, 3]]),
        (LIST, [[], [1]], [None, [1]]),
        (LIST, [[1, 2], [3]], [[2, 1], [3]]),
        (LIST, [[1], [0]], [[1], [None]]),
    ],
)
def test_digest_depends_on_values_nulls_lengths_and_order(tmp_path, column, one, other):
    digests = []
    for values in (one, other):
        frame = FRAME.head(2).with_columns(pl.Series(column, values, DTYPES[column]))
        digests.append(table.write(tmp_path / "rows", frame, EVERYTHING, {}))
    assert digests[0] != digests[1]


def test_digest_depends_on_which_column_holds_a_value(tmp_path):
    one = FRAME.head(2).with_columns(int64=pl.lit(1), float64=pl.lit(None, pl.Float64))
    other = FRAME.head(2).with_columns(int64=pl.lit(None, pl.Int64), float64=pl.lit(1.0))
    assert table.write(tmp_path / "a", one.cast({"int64": pl.Int64}), EVERYTHING, {}) != (
        table.write(tmp_path / "b", other, EVERYTHING, {})
    )


def test_digest_is_stable_over_releases(tmp_path):
    """A changed digest would make the store forget everything."""
    assert (
        table.write(tmp_path / "rows", FRAME, EVERYTHING, {}) == "9d6ff01b5ff8b919df6d3faa8e277b8f"
    )


def fill_the_disk(path):
    """Overwrite an artifact where no file can grow beyond 20 kB. Prints the error's fields."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    noise = [os.urandom(20).hex() for _ in range(5_000)]
    frame = pl.DataFrame({"a": noise, "b": range(5_000)}, schema=PAIRS.schema)
    try:
        table.write(Path(path), frame, PAIR, {})
    except OSError as error:
        print(json.dumps([error.filename, error.errno, error.strerror]))


def test_full_disk_names_the_file_and_leaves_the_artifact_as_it_was(tmp_path, path):
    write_pairs(path)
    before = path.read_bytes()
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            "import sys; from tests.store import test_table; test_table.fill_the_disk(sys.argv[1])",
            str(path),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    filename, number, reason = json.loads(done.stdout)
    assert filename == str(path)
    assert os.strerror(number) == "File too large"
    assert "File too large" in reason
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_may_not_be_read_is_not_said_to_be_damaged(path):
    table.write(path, PAIRS, PAIR, {})
    path.chmod(0)
    code = "import sys; from pathlib import Path; from mpd.store.row_groups import RowGroups; "
    command = [*ORDINARY, sys.executable, "-c", f"{code} RowGroups(Path(sys.argv[1]))", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (
        done.stderr.splitlines()[-1] == f"PermissionError: [Errno 13] Permission denied: '{path}'"
    )
