"""Requests of rows, and rows of completions, with an engine that finishes last first."""

import polars as pl
import pytest

from mpd.config.generation import Decoding
from mpd.engines.base import PROMPT_TOO_LONG, Completion, Engine, Request
from mpd.engines.tasks import Task, complete

GREEDY = Decoding(temperature=0, max_new_tokens=16)


class Last(Engine):
    """An engine that finishes last first; a completion is the request's prompt and seed."""

    def __init__(self, manifest):
        super().__init__(manifest)
        self.submitted = []

    def _complete(self, requests, decoding, advance):
        self.submitted.append([number for number, _ in requests])
        for number, request in requests[::-1]:
            advance(1, 2)
            yield number, Completion([len(request.prompt_ids), request.seed], [], "stop")


class Counted:
    """A progress that keeps its calls."""

    def __init__(self):
        self.sequences = self.tokens = 0

    def advance(self, sequences, tokens):
        self.sequences += sequences
        self.tokens += tokens


@pytest.fixture
def last(student):
    return Last(student)


@pytest.fixture
def task(last):
    """The task of rows that say how long their prompt is and how many requests they have."""

    def ask(row):
        return [Request([1] * row["length"], 10 * row["row"] + of) for of in range(row["number"])]

    def answer(rows, completions):
        seen = [[done.token_ids for done in of] for of in completions]
        return rows.select("row").with_columns(seen=pl.Series(seen, dtype=pl.List(pl.List(int))))

    return Task(last, GREEDY, ask, answer, Counted())


ASKED = pl.DataFrame({"row": range(5), "length": [3, 7, 5, 7, 4], "number": [1, 2, 0, 1, 3]})
# Of each row: prompt length and seed of each of its completions, in the order of its requests.
SEEN = [[[3, 0]], [[7, 10], [7, 11]], [], [[7, 30]], [[4, 40], [4, 41], [4, 42]]]


def test_the_longest_prompts_are_submitted_first_and_samples_of_one_stay_together(last):
    lengths = [3, 7, 7, 7, 5, 7]
    list(last.stream([Request([1] * length, 0) for length in lengths], GREEDY))
    assert last.submitted == [[1, 2, 3, 5, 4, 0]]


def test_completions_come_in_the_order_of_their_requests(last):
    requests = [Request([1] * length, seed) for seed, length in enumerate([3, 999, 7, 5])]
    done = last.generate(requests, GREEDY)
    assert [of.token_ids for of in done] == [[3, 0], [], [7, 2], [5, 3]]
    assert done[1] == PROMPT_TOO_LONG
    assert last.submitted == [[2, 3, 0]]


def test_where_no_prompt_fits_nothing_is_submitted(last):
    assert last.generate([Request([1] * 999, 0)] * 2, GREEDY) == [PROMPT_TOO_LONG] * 2
    assert last.submitted == []


def test_a_task_gives_rows_their_own_completions_in_order(task):
    rows = task(ASKED)
    assert rows["row"].to_list() == [0, 1, 2, 3, 4]
    assert rows["seen"].to_list() == SEEN
    assert (task.progress.sequences, task.progress.tokens) == (7, 14)


@pytest.mark.parametrize("rows_per_part", [1, 2, 4, 9])
def test_a_task_streams_whole_rows_as_they_finish(task, rows_per_part):
    parts = list(task.stream(ASKED, rows_per_part))
    # Row 2 asks for nothing; then rows 0, 4, and of the longest prompts the later one.
    order = [2, 0, 4, 3, 1]
    cut = [order[at : at + rows_per_part] for at in range(0, 5, rows_per_part)]
    assert [part["row"].to_list() for part in parts] == [sorted(rows) for rows in cut]
    for part in parts:
        assert part["seen"].to_list() == [SEEN[row] for row in part["row"]]


def test_a_task_streams_before_all_is_done(task, last):
    first = next(task.stream(ASKED, 2))
    assert first["row"].to_list() == [0, 2]
    assert task.progress.sequences == 1


def test_a_task_without_rows_gives_no_part(task):
    assert list(task.stream(ASKED.clear(), 3)) == []
    assert len(task(ASKED.clear())) == 0


class Noted:
    """Stands in for the parts of an artifact; notes by which of its ways it is filled."""

    def __init__(self):
        self.frames = []

    def map(self, rows, rows_per_part, prepare):
        self.way = ("map", rows_per_part)
        self.frames.append(prepare()(rows))

    def gather(self, rows, work):
        self.way = "gather"
        self.frames += work(rows)


def test_batches_stay_within_parts_and_other_engines_are_kept_full(task):
    mapped = Noted()
    complete(mapped, ASKED, 2, "transformers", lambda: task)
    assert mapped.way == ("map", 2)
    for engine in ("vllm", "server"):
        gathered = Noted()
        complete(gathered, ASKED, 2, engine, lambda: task)
        assert gathered.way == "gather"
        assert [len(frame) for frame in gathered.frames] == [2, 2, 1]
        assert pl.concat(gathered.frames).sort("row").equals(mapped.frames[0])
