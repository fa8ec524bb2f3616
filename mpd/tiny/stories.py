r"""Stories of the hard world: chains of operations on numbers below 100, told in words.

    Tom has 17 coins. Ann has 28 more than Tom. Bob has 2 times as many as Ann. How many has Bob?

Each operation acts on the result of the one before, so that no intermediate result can be skipped.
A story is a list, the fate of one person's things, or a comparison of several people; it can be
told in a second language too, Esperanto, whose numerals are words. Problems have 3 operations, and
pretraining has stories of 2, too.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from mpd.tiny.task import split_of

MAX_VALUE = 99
MIN_OPERATIONS, MAX_OPERATIONS = 2, 3
MAX_OPERAND = {"+": 60, "-": 60, "*": 5}
MIN_OPERAND = {"+": 3, "-": 3, "*": 2}
SIGNS = {"+": 0.4, "-": 0.4, "*": 0.2}
EASY_REFUSED = 0.3  # share of drawn operations without a carry that are drawn again
SPLITS = ("train", "test")

NAMES = ("Tom", "Ann", "Bob", "Eve", "Max", "Zoe")
THINGS = {"coins": "moneroj", "books": "libroj", "stones": "sxtonoj", "nuts": "nuksoj"}
DIGITS = ("nul", "unu", "du", "tri", "kvar", "kvin", "ses", "sep", "ok", "naux")

Operation = tuple[str, int]  # sign and operand


@dataclass(frozen=True)
class Story:
    """A problem: a first number, operations, and how they are told."""

    kind: str  # list, fate or people
    first: int
    operations: tuple[Operation, ...]
    names: tuple[str, ...]
    thing: str

    @property
    def values(self) -> list[int]:
        """The running values; the last is the answer."""
        return run(self.first, self.operations)

    @property
    def question(self) -> str:
        """The text in the first language."""
        return _tell(self, ENGLISH[self.kind], str, self.thing)

    @property
    def last_sentence(self) -> str:
        """What is asked, in the first language."""
        return self.question.rpartition(". ")[2]

    @property
    def translation(self) -> str:
        """The text in the second language."""
        return _tell(self, ESPERANTO[self.kind], numeral, THINGS[self.thing])


# By sign the sentence of an operation; {n} is its operand, {a} and {b} are people.
ENGLISH = {
    "list": {
        "first": "Start with {n}.",
        "+": "Add {n}.",
        "-": "Take {n}.",
        "*": "Multiply by {n}.",
        "last": "What is it?",
    },
    "fate": {
        "first": "{a} has {n} {thing}.",
        "+": "{a} gets {n} more.",
        "-": "{a} loses {n}.",
        "*": "They become {n} times as many.",
        "last": "How many {thing} has {a}?",
    },
    "people": {
        "first": "{b} has {n} {thing}.",
        "+": "{b} has {n} more than {a}.",
        "-": "{b} has {n} fewer than {a}.",
        "*": "{b} has {n} times as many as {a}.",
        "last": "How many {thing} has {b}?",
    },
}
ESPERANTO = {
    "list": {
        "first": "Komencu per {n}.",
        "+": "Adiciu {n}.",
        "-": "Forprenu {n}.",
        "*": "Multigu per {n}.",
        "last": "Kio estas gxi?",
    },
    "fate": {
        "first": "{a} havas {n} {thing}.",
        "+": "{a} ricevas {n} pli.",
        "-": "{a} perdas {n}.",
        "*": "Ili estas {n} oble.",
        "last": "Kiom da {thing} havas {a}?",
    },
    "people": {
        "first": "{b} havas {n} {thing}.",
        "+": "{b} havas {n} pli ol {a}.",
        "-": "{b} havas {n} malpli ol {a}.",
        "*": "{b} havas {n} oble {a}.",
        "last": "Kiom da {thing} havas {b}?",
    },
}


def numeral(number: int) -> str:
    """A number below 100 in Esperanto: 45 is kvar dek kvin."""
    tens, units = divmod(number, 10)
    words = [] if tens == 0 else ["dek"] if tens == 1 else [DIGITS[tens], "dek"]
    return " ".join([*words, *([DIGITS[units]] if units or not tens else [])])


def apply(value: int, operation: Operation) -> int:
    """The result of an operation."""
    sign, operand = operation
    return value + operand if sign == "+" else value - operand if sign == "-" else value * operand


def run(first: int, operations: tuple[Operation, ...]) -> list[int]:
    """The running values of a chain."""
    values = [first]
    for operation in operations:
        values.append(apply(values[-1], operation))
    return values


def is_hard(value: int, operation: Operation) -> bool:
    """Whether an operation has a carry or a borrow between its digits."""
    sign, operand = operation
    if sign == "-":
        return value % 10 < operand % 10
    return apply(value % 10, (sign, operand % 10)) > 9


def draw(split: str, rng: random.Random) -> Story:
    """One story of a split."""
    while True:
        length = rng.randint(MIN_OPERATIONS, MAX_OPERATIONS)
        first = rng.randint(5, 60)
        value = first
        operations: list[Operation] = []
        while len(operations) < length:
            operations.append(draw_operation(value, rng))
            value = apply(value, operations[-1])
        kind = rng.choice(list(ENGLISH))
        names = tuple(rng.sample(NAMES, length + 1))
        story = Story(kind, first, tuple(operations), names, rng.choice(list(THINGS)))
        if split_of(story.question) == split:
            return story


def draw_operation(value: int, rng: random.Random) -> Operation:
    """An operation on a value whose result stays in range."""
    while True:
        (sign,) = rng.choices(list(SIGNS), list(SIGNS.values()))
        operation = (sign, rng.randint(MIN_OPERAND[sign], MAX_OPERAND[sign]))
        if not 2 <= apply(value, operation) <= MAX_VALUE:
            continue
        if is_hard(value, operation) or rng.random() >= EASY_REFUSED:
            return operation


def _tell(story: Story, sentences: dict[str, str], number: Callable[[int], str], thing: str) -> str:
    people = story.names if story.kind == "people" else story.names[:1] * len(story.names)

    def sentence(key: str, place: int, operand: int = 0) -> str:
        before = people[max(place - 1, 0)]
        return sentences[key].format(n=number(operand), a=before, b=people[place], thing=thing)

    parts = [sentence("first", 0, story.first)]
    for place, (sign, operand) in enumerate(story.operations, 1):
        parts.append(sentence(sign, place, operand))
    return " ".join([*parts, sentence("last", len(people) - 1)])


def draw_many(split: str, num: int, seed: int) -> list[Story]:
    """`num` different stories of a split, with MAX_OPERATIONS each.

    Raises ValueError where the split is unknown.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: the embedded world has {', '.join(SPLITS)}")
    rng = random.Random(f"stories:{split}:{seed}")
    stories: dict[str, Story] = {}
    while len(stories) < num:
        story = draw(split, rng)
        if len(story.operations) == MAX_OPERATIONS:
            stories[story.question] = story
    return list(stories.values())


def words() -> list[str]:
    """All words that a story can have."""
    texts = [*NAMES, *DIGITS, "dek", *THINGS, *THINGS.values()]
    for sentences in (*ENGLISH.values(), *ESPERANTO.values()):
        texts += [re.sub(r"\{\w+\}", "", sentence) for sentence in sentences.values()]
    return re.findall("[A-Za-z]+", " ".join(texts))
