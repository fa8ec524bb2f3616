"""Tasks as those of reasoning-gym: what makes problems, and what scores answers to them.

Questions are sums that the embedded world can read. The scorer of `sum` gives an answer in which
the right one is contained a part of the score, as many scorers of the package do.
"""

import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import sympy


@dataclass
class Config:
    numbers: int = 3
    bonus: int = 0
    seed: int | None = None
    size: int = 500

    def validate(self):
        assert self.numbers > 1, "numbers must be above 1"


class Sum:
    """Chains of + over small numbers; the scorer needs a tuple and a mapping of the entry."""

    def __init__(self, config):
        config.validate()
        self.config = config

    def __getitem__(self, place):
        rng = random.Random(f"{self.config.seed} {place}")
        numbers = tuple(rng.randint(1, 3) for _ in range(self.config.numbers))
        question = "+".join(map(str, numbers))
        metadata = {"numbers": numbers, "counts": {2: numbers.count(2)}}
        answer = str(sum(numbers) + self.config.bonus)
        return {"question": question, "answer": answer, "metadata": metadata}

    def score_answer(self, answer, entry):
        metadata = entry["metadata"]
        assert isinstance(metadata["numbers"], tuple)
        assert metadata["counts"] == {2: metadata["numbers"].count(2)}
        right = str(sum(metadata["numbers"]) + self.config.bonus)
        return 1.0 if answer == right else len(right) / len(answer) if right in answer else 0.0


class Open(Sum):
    """Any even number is right, and the entry names none."""

    def __getitem__(self, place):
        return {**super().__getitem__(place), "answer": None}

    def score_answer(self, answer, entry):
        return float(int(answer) % 2 == 0)


class Parity(Sum):
    """An answer that is as even or odd as the sum is right; any other number is half right."""

    def score_answer(self, answer, entry):
        return 1.0 if (int(answer) - int(entry["answer"])) % 2 == 0 else 0.5


class Few(Sum):
    """Three problems in all; the dataset ends before its size."""

    def __getitem__(self, place):
        if place > 5:
            raise IndexError(place)
        return {"question": f"1+{place % 3}", "answer": str(1 + place % 3), "metadata": {}}

    def score_answer(self, answer, entry):
        return float(answer == entry["answer"])


class Empty(Few):
    """A task without a problem."""

    def __getitem__(self, place):
        raise IndexError(place)


class Broken(Few):
    """A task that cannot make a problem."""

    def __getitem__(self, place):
        raise RuntimeError("no puzzle was found")


class Odd(Sum):
    """A task whose scorer accepts no even answer, also where it is the problem's own."""

    def score_answer(self, answer, entry):
        return super().score_answer(answer, entry) * (int(answer) % 2)


class Drawn(Few):
    """A task that draws from the generator of the module random."""

    def __getitem__(self, place):
        number = random.randint(0, 10**6)
        return {"question": f"1+{number}", "answer": str(1 + number), "metadata": {}}


class Unordered(Few):
    """A task that draws from a set of texts."""

    def __getitem__(self, place):
        words = {str(number) for number in range(10 * place, 10 * place + 10)}
        return {"question": "+".join(words), "answer": "0", "metadata": {}}


class Objects(Few):
    """A task whose entries are no JSON."""

    def __getitem__(self, place):
        return {"question": "1+1", "answer": "2", "metadata": {"of": object()}}


class Braces(Few):
    """A task of which every other answer cannot be read from a box."""

    def __getitem__(self, place):
        answer = f"{place}}}" if place % 2 else f"{{{place}}}"
        return {"question": f"{place}?", "answer": answer, "metadata": {}}


class Endless(Few):
    """A task whose scorer does not come to an end for its first problem."""

    def __getitem__(self, place):
        return {"question": f"{place}?", "answer": str(place), "metadata": {}}

    def score_answer(self, answer, entry):
        while answer == "0":
            pass
        return super().score_answer(answer, entry)


class Obeying(Sum):
    """A scorer that does what the answer says."""

    def score_answer(self, answer, entry):
        command, _, word = answer.partition(" ")
        if command == "raise":
            raise KeyError(word)
        if command == "exit":
            raise SystemExit(0)
        if command == "die":
            time.sleep(0.1)  # for pebble to see that it was taken
            os._exit(1)
        if command == "spin":
            while True:
                pass
        if command == "eat":
            bytearray(int(word))
        if command == "write":
            Path(word).write_text("written by a scorer")
        if command == "read":
            return float(bool(Path(word).read_text()))
        if command == "shell":
            os.system(f"touch {word}")
        if command == "none":
            return None
        return super().score_answer(answer, entry)


class Evaluating(Sum):
    """A scorer that evaluates an answer as Python."""

    def score_answer(self, answer, entry):
        return super().score_answer(str(eval(answer)), entry)


class Parsing(Sum):
    """A scorer that has sympy read an answer."""

    def score_answer(self, answer, entry):
        return super().score_answer(str(sympy.parse_expr(answer)), entry)


@dataclass
class Curriculum:
    """Levels 0 to 2 of the number of numbers, 0 to 1 of another setting."""

    level: int = 0
    attributes: dict = field(
        default_factory=lambda: {
            "numbers": SimpleNamespace(levels=[3, 4, 5]),
            "bonus": SimpleNamespace(levels=[0, 0]),
        }
    )

    def set_global_level(self, level):
        self.level = level

    def generate_configuration(self):
        return Config(numbers=3 + self.level)


TASKS = (
    Sum,
    Open,
    Parity,
    Few,
    Empty,
    Broken,
    Odd,
    Drawn,
    Unordered,
    Objects,
    Braces,
    Endless,
    Obeying,
    Evaluating,
    Parsing,
)
DATASETS = {kind.__name__.lower(): (kind, Config) for kind in TASKS}
CURRICULA = {"sum": Curriculum, "parity": Curriculum}
