"""Problems that occur twice, or in a benchmark too."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mpd.text.questions import Run, boilerplate_runs, boilerplate_texts, problem_id, word_runs

log = logging.getLogger("mpd")

NUM_PHRASES = 5  # of boilerplate, that the log names

Row = dict[str, Any]


def without_duplicates(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """First occurrences, and the rest with the reason duplicate."""
    seen: set[str] = set()
    first, duplicates = [], []
    for row in rows:
        if row["problem_id"] in seen:
            duplicates.append({**row, "reason": "duplicate"})
        else:
            seen.add(row["problem_id"])
            first.append(row)
    return first, duplicates


def without_benchmarks(
    rows: Sequence[Row], benchmarks: Sequence[Sequence[str]], name: str = "benchmark"
) -> tuple[list[Row], list[Row]]:
    """Rows that occur in no benchmark; the rest with the reason in_benchmark or overlaps_benchmark.

    `benchmarks` has the questions of each, and `name` is what reasons call them. Boilerplate is no
    overlap: words that a large share of the problems has, of the rows, of a benchmark or of all
    together; it is logged.
    """
    questions = [question for benchmark in benchmarks for question in benchmark]
    training = [row["question"] for row in rows]
    boilerplate = boilerplate_runs([training, *benchmarks, [*training, *questions]])
    _log_boilerplate([*training, *questions], boilerplate)
    benchmark_ids = {problem_id(question) for question in questions}
    benchmark_runs = set().union(*(word_runs(question, boilerplate) for question in questions))
    clean, removed = [], []
    for row in rows:
        if row["problem_id"] in benchmark_ids:
            removed.append({**row, "reason": f"in_{name}"})
        elif not benchmark_runs.isdisjoint(word_runs(row["question"], boilerplate)):
            removed.append({**row, "reason": f"overlaps_{name}"})
        else:
            clean.append(row)
    return clean, removed


def _log_boilerplate(questions: list[str], boilerplate: set[Run]) -> None:
    if not boilerplate:
        return
    parts = Counter(
        text for question in questions for text in boilerplate_texts(question, boilerplate)
    )
    for text, count in parts.most_common(NUM_PHRASES):
        log.info("not counted as overlap, since many problems have it: %r (%d times)", text, count)
    if len(parts) > NUM_PHRASES:
        log.info("... and %d more phrases that are not counted", len(parts) - NUM_PHRASES)
