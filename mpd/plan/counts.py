"""How many problems there are: by the config, by local files, else by names of benchmarks."""

from pathlib import Path

from mpd.config import Config
from mpd.config.base import DEV
from mpd.config.problems import Source

# Rows of the published benchmarks, by a part of their names.
KNOWN = {"aime": 30, "math500": 500, "math-500": 500, "amc23": 40, "gsm8k": 1319}
ASSUMED = 500


def num_train(config: Config, given: int | None = None) -> int:
    """The number of training problems; `given` is that of the command line.

    Raises ValueError where nothing says it.
    """
    problems = config.problems
    number = problems.num_train or given
    if number:
        return number
    total = problems.train.num_problems or rows_of(problems.train_source)
    if total is None:
        raise ValueError(
            "problems.num_train: null trains on all problems of a source that is not here; set it, "
            "or give --train-problems"
        )
    return max(total - (problems.num_dev or 0), 1)


def evaluation_problems(config: Config) -> dict[str, tuple[int, bool]]:
    """For each evaluation set, the development split first: its problems, and whether assumed."""
    problems = config.problems
    sources = {name: problems.benchmark_source(name) for name in problems.benchmark_names}
    if problems.dev_source is not None:
        sources = {DEV: problems.dev_source, **sources}
    counts = {} if problems.num_dev is None else {DEV: (problems.num_dev, False)}
    for name, source in sources.items():
        number = source.num_problems or rows_of(source)
        if number is None:
            words = f"{name} {source.path}".lower()
            counts[name] = (next((KNOWN[part] for part in KNOWN if part in words), ASSUMED), True)
        else:
            counts[name] = (number, False)
    return counts


def rows_of(source: Source) -> int | None:
    """Rows of a local Parquet or JSONL file, all splits of it; None for what is not here."""
    if source.source != "file" or not source.path or not Path(source.path).is_file():
        return None
    path = Path(source.path)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return int(pyarrow.parquet.read_metadata(path).num_rows)
    if path.suffix == ".jsonl":
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    return None
