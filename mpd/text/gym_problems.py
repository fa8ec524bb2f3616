"""Problems that tasks of reasoning-gym make: as many different ones as a source asks for."""

import hashlib
import logging
import multiprocessing
import os
import random
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from typing import Any

from mpd.config.problems import Source
from mpd.text.grading.extraction import MAX_CHARACTERS, extract
from mpd.text.grading.golds import ScoredProblem
from mpd.text.grading.grader import Grader
from mpd.text.gym import Generator
from mpd.text.questions import problem_id
from mpd.text.rows import is_blank

log = logging.getLogger("mpd")

SMALLEST, LARGEST = 100, 10_000  # problems of one dataset; some tasks divide them into kinds
MAX_FRUITLESS = 1_000  # problems in a row, none of them new, after which there are no others
NO_GOLD = "(any that the scorer accepts)"  # where several answers are right, and the task has none


def problems_of(
    source: Source, seed: int, split: str, excluded: Collection[str] = frozenset()
) -> list[dict[str, Any]]:
    """What `made_problems` gives, the same in every run: some tasks draw from sets of texts.

    Their order is that of hashes, which are new in each process unless PYTHONHASHSEED is 0.
    """
    if not sys.flags.hash_randomization:
        return made_problems(source, seed, split, excluded)
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(made_problems, source, seed, split, excluded).result()
    finally:
        del os.environ["PYTHONHASHSEED"]
        if before is not None:
            os.environ["PYTHONHASHSEED"] = before


def made_problems(
    source: Source, seed: int, split: str, excluded: Collection[str] = frozenset()
) -> list[dict[str, Any]]:
    """The problems of a source with tasks, with the columns of its artifact.

    No two have the same problem_id, and none has one that is `excluded`. `split` and `seed` decide
    which problems are made; each task and level draws from a seed of its own, and so does a level
    that comes in a later round.
    Raises ValueError where there is no such task, level or setting, where a task cannot make
    problems, and where it has too few; the sentence says how many there are.
    """
    assert source.num_problems is not None, "its model needs it"
    seen = set(excluded)
    rows: list[dict[str, Any]] = []
    with Grader() as grader:
        for part, number in source.shares.items():
            generator = Generator(part.task, part.level, part.settings)
            words = f"{split}:{seed}" + ("" if part.first_round == 1 else f":{part.first_round}")
            rounds = {"first_round": part.first_round, "last_round": part.last_round}
            made = _new_rows(generator, words, seen, number, grader)
            rows += [{**row, **rounds} for row in made]
    return [{"source_row": number, **row} for number, row in enumerate(rows)]


def _new_rows(
    generator: Generator, seed: str, seen: set[str], number: int, grader: Grader
) -> Iterator[dict[str, Any]]:
    """So many problems whose problem_id is not in `seen`, which they are added to."""
    scorer = generator.scorer
    found = fruitless = without_score = 0
    limit = max(MAX_FRUITLESS, number)
    for entry in _entries(generator, seed, min(max(number, SMALLEST), LARGEST)):
        question = entry.get("question")
        key = None if is_blank(question) else problem_id(str(question))
        is_new = key is not None and key not in seen
        row = _row(generator, scorer, entry, grader) if is_new else None
        if row is not None:
            found, fruitless = found + 1, 0
            seen.add(str(key))
            yield {"problem_id": key, **row}
        else:
            fruitless += 1
            without_score += is_new
        if found == number or fruitless == limit:
            break
    if without_score:
        log.warning(
            "%s: %d problems were left out, whose own answer has more than %d characters, or is "
            "not accepted by the scorer as it is read from a box",
            *(generator, without_score, MAX_CHARACTERS),
        )
    if found < number:
        raise ValueError(
            f"reasoning_gym: {generator}, settings {generator.settings}, has {found} different "
            f"problems that are not in a benchmark or of another part of the mix, but {number} are "
            f"wanted ({fruitless} tries in a row gave no other): lower num_problems, or take a "
            "harder level or other settings"
        )


def _entries(generator: Generator, seed: str, size: int) -> Iterator[dict[str, Any]]:
    """Entries of one dataset after another, without end unless the task has none."""
    for chunk in count():
        words = f"{generator.task}:{generator.level}:{generator.settings}:{seed}:{chunk}"
        number = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "little")
        random.seed(number)  # some tasks draw from the generator of the module
        dataset = generator.dataset(number, size)
        for place in range(size):
            try:
                entry = dataset[place]
            except IndexError:  # a task may have fewer problems than its dataset was made for
                if place == 0:
                    return
                break
            except Exception as error:
                raise ValueError(
                    f"reasoning_gym: {generator}, settings {generator.settings}, makes no problem "
                    f"({type(error).__name__}: {error}); change its level or settings"
                ) from error
            yield entry


def _row(
    generator: Generator, scorer: str, entry: dict[str, Any], grader: Grader
) -> dict[str, Any] | None:
    """The row of a problem; None where its own answer would not count in a completion."""
    answer = entry.get("answer")
    try:
        stored = generator.stored(entry)
    except TypeError as error:
        raise ValueError(
            f"reasoning_gym: {generator} has entries that cannot be stored ({error}); take another "
            "task"
        ) from error
    if isinstance(answer, str):
        read = extract(rf"\boxed{{{answer}}}", think_close=None)
        if grader.grade([ScoredProblem(scorer, stored)], [read]) != ["correct"]:
            return None
    return {
        "question": str(entry["question"]),
        "gold": NO_GOLD if is_blank(answer) else str(answer),
        "scorer": scorer,
        "entry": stored,
    }
