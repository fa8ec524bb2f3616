"""Problem sets as others write them: JSON lines, JSON, Parquet and CSV files, datasets of the hub.

The library datasets reads them all, with its slices of splits.
"""

import glob
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpd.config.files import problem_files
from mpd.config.problems import Source

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def read_cells(source: Source, scratch: Path) -> list[tuple[int, Any, Any]]:
    """The number of each row, and its cells in the question and the answer column.

    Rows are numbered from the start of the file also where only a slice of it is read; where
    several slices are added up, from the start of their sum. `scratch` is a folder with room for a
    copy of the rows while they are read.
    Raises ValueError where the source cannot be read, or lacks a column or rows.
    """
    rows = _hub_rows(source) if source.source == "hub" else _file_rows(source, scratch)
    for key, column in (("question", source.question), ("answer", source.answer)):
        if column not in rows.column_names:
            raise ValueError(
                f"{source.path}: no column {column} for the {key}; "
                f"it has {', '.join(rows.column_names)}: set {key} in this problem source"
            )
    if not len(rows):
        raise ValueError(f"{source.path}: no rows in split {source.split}; fix split or the file")
    start = _first_number(rows, source.split)
    numbers = range(start, start + len(rows))
    return list(zip(numbers, rows[source.question], rows[source.answer], strict=True))


def _hub_rows(source: Source) -> "Dataset":
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(
        source.path, source.config, split=source.split, revision=source.revision
    )


def _file_rows(source: Source, scratch: Path) -> "Dataset":
    import datasets
    from datasets.exceptions import DatasetGenerationError

    datasets.disable_progress_bars()
    (path,) = problem_files(source)
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: give a file that ends in {', '.join(FORMATS)}")
    format = FORMATS[path.suffix]
    try:
        # Not the user's cache: it knows a file by path and time, not by content.
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            return datasets.load_dataset(
                format,
                data_files=glob.escape(str(path.absolute())),  # it is read as a pattern
                split=source.split,
                keep_in_memory=True,
                cache_dir=cache,
            )
    except (DatasetGenerationError, ValueError) as error:
        cause = error.__cause__ or error
        raise ValueError(
            f"{path}: no rows of split {source.split} readable as {format}: {cause}"
        ) from None


def _first_number(rows: "Dataset", split: str) -> int:
    """The number of the first row in its file; 0 where slices are added up."""
    from datasets import ReadInstruction

    lengths = {name: info.num_examples for name, info in rows.info.splits.items()}
    slices = ReadInstruction.from_spec(split).to_absolute(lengths)
    return slices[0].from_ if len(slices) == 1 else 0
