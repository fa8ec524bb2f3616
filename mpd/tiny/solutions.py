r"""Ways of solving a story of the hard world.

The student writes down the result of each step at once, which is a guess where digits carry, and
may check it column by column:

    17+28=35. Check: 7+8=15, 1+2+1=4, 45. No, 17+28=45.

It may also restate the question, announce each step, and copy all steps at the end; these tell
nothing new. A shortened solution has the steps and their checks. The notes of the teacher have
another notation: their numbers begin with the units.

    71+82>54;
"""

import random
from dataclasses import dataclass

from mpd.tiny.stories import (
    MAX_VALUE,
    Operation,
    Story,
    apply,
    draw_many,
    draw_operation,
    is_hard,
    run,
)

EASY_SLIP = 0.2  # how much less often a step slips that has no carry

DRILL_STEPS = 6
DRILL_EASY, DRILL_HARD = 0.7, 0.3  # share of steps whose result is written at once
WORDS = ("Check", "No", "again", "times")

Trace = tuple[str, str]  # reasoning and answer


@dataclass(frozen=True)
class Style:
    """How a solution is written; each number is a probability.

    Attributes:
        verbosity: of the restatement, each announcement, the copy of all steps, and the last
            sentence.
        check_hard: of checking a step with a carry.
        check_easy: of checking another one.
        slip: of a first result that is wrong, of a step with a carry.
    """

    verbosity: float
    check_hard: float
    check_easy: float
    slip: float


SHORT = Style(verbosity=0.0, check_hard=1.0, check_easy=1.0, slip=0.0)


def solution(story: Story, style: Style, rng: random.Random) -> Trace:
    """Reasoning and answer in the student's notation.

    A wrong first result that is checked is corrected; after another the chain goes on from it.
    With `rng` in the same state, the acts hardly depend on `style.slip`.
    """
    slips = random.Random(rng.getrandbits(32))
    sentences: list[str] = []
    steps: list[str] = []
    value = story.first
    if rng.random() < style.verbosity:
        sentences.append(f"So the question is: {story.last_sentence}")
    for number, operation in enumerate(story.operations):
        sign, operand = operation
        if rng.random() < style.verbosity:
            sentences.append(f"Now {ANNOUNCEMENTS[sign].format(n=operand, value=value)}.")
        right = result = apply(value, operation)
        hard = is_hard(value, operation)
        if slips.random() < style.slip * (1.0 if hard else EASY_SLIP):
            result = _wrong(right, hard, story.operations[number + 1 :], slips)
        step = f"{value}{sign}{operand}"
        sentences.append(f"{step}={result}.")
        if rng.random() < (style.check_hard if hard else style.check_easy):
            verdict = "Yes." if result == right else f"No, {step}={right}."
            sentences.append(f"Check: {columns(value, operation)}, {right}. {verdict}")
            result = right
        steps.append(f"{step}={result}.")
        value = result
    if rng.random() < style.verbosity:
        sentences += ["Let me verify all:", *steps]
    if rng.random() < style.verbosity:
        sentences.append(f"So the answer is {value}.")
    return " ".join(sentences), rf"\boxed{{{value}}}"


def shortened(story: Story) -> Trace:
    """Each step and its check."""
    return solution(story, SHORT, random.Random(0))


def notes(story: Story) -> Trace:
    """The steps in the teacher's notation, and nothing else."""
    steps = zip(story.values, story.operations, story.values[1:], strict=False)
    lines = [f"{_turned(a)}{sign}{_turned(n)}>{_turned(result)};" for a, (sign, n), result in steps]
    return "".join(lines), rf"\boxed{{{story.values[-1]}}}"


def drill(rng: random.Random) -> Trace:
    """Single steps without a story: the result at once or the columns, so that none is copied."""
    sentences = []
    result = 0
    for _ in range(DRILL_STEPS):
        value = rng.randint(2, MAX_VALUE)
        operation = draw_operation(value, rng)
        result = apply(value, operation)
        step = f"{value}{operation[0]}{operation[1]}"
        if rng.random() < (DRILL_HARD if is_hard(value, operation) else DRILL_EASY):
            sentences.append(f"{step}={result}.")
        else:
            sentences.append(f"{step}. Check: {columns(value, operation)}, {result}.")
    return " ".join(sentences), rf"\boxed{{{result}}}"


def columns(value: int, operation: Operation) -> str:
    """The columns of a step: 17+28 gives 7+8=15, 1+2+1=4."""
    sign, operand = operation
    (tens, units), (other_tens, other_units) = divmod(value, 10), divmod(operand, 10)
    if sign == "*":
        carry = units * operand // 10
        carried = f"+{carry}" if carry else ""
        return f"{units}*{operand}={units * operand}, {tens}*{operand}{carried}=" + str(
            tens * operand + carry
        )
    carry = int(is_hard(value, operation))
    carried = f"{sign}1" if carry else ""
    units += 10 * carry if sign == "-" else 0
    first = f"{units}{sign}{other_units}={apply(units, (sign, other_units))}"
    rest = apply(apply(tens, (sign, other_tens)), (sign, carry))
    return f"{first}, {tens}{sign}{other_tens}{carried}={rest}"


ANNOUNCEMENTS = {
    "+": "add {n} to {value}",
    "-": "take {n} from {value}",
    "*": "take {value} {n} times",
}


def _turned(number: int) -> str:
    return str(number)[::-1]


def _wrong(right: int, hard: bool, rest: tuple[Operation, ...], rng: random.Random) -> int:
    """A result near the right one, from which the rest of the chain stays in range, if any does.

    Where digits carry it mostly has the tens wrong.
    """
    near = (10, -10, 1, -1, 2, -2, 9, -9) if hard else (1, -1, 2, -2)
    wrong = [
        right + change
        for change in near
        if all(0 <= value <= MAX_VALUE for value in run(right + change, rest))
    ]
    return rng.choice(wrong) if wrong else right


def problems(split: str, num: int, seed: int) -> list[dict[str, str]]:
    """`num` different problems of a split.

    Their keys are question, answer, question_translated (in the second language), and solution
    (shortened, in the student's notation). Raises ValueError where the split is unknown.
    """
    return [
        {
            "question": story.question,
            "answer": str(story.values[-1]),
            "question_translated": story.translation,
            "solution": "\n".join(shortened(story)),
        }
        for story in draw_many(split, num, seed)
    ]
