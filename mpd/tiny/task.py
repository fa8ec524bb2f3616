r"""Chains of + and − over 3 to 6 numbers, and two ways of solving them: concise and verbose.

    problems("train", 1, seed=0)  ->  [{"question": "1+3+4-5+5", "answer": "8"}]
    concise_trace("1+3-2")        ->  ("1+3=4. 4-2=2.", r"\boxed{2}")

A verbose trace restates the question, announces every step, doubts it, and verifies all steps at
the end. A slip is a step with a wrong result.
"""

import hashlib
import random
import re

MIN_NUMBERS, MAX_NUMBERS = 3, 6
MAX_NUMBER = 6
MAX_VALUE = 12  # the running value stays in 0..MAX_VALUE
MAX_SLIP = 2  # a slip is off by this much at most
TEST_SHARE = 5  # one expression in five is held out
NUM_PROBLEMS = {"train": 352_708, "test": 88_068}

Operation = tuple[str, int]  # sign and operand


def split_of(expression: str) -> str:
    """The split of an expression, train or test, by its hash."""
    digest = hashlib.sha256(expression.encode()).digest()
    return "test" if int.from_bytes(digest[:4], "little") % TEST_SHARE == 0 else "train"


def problems(split: str, num: int, seed: int) -> list[dict[str, str]]:
    """`num` different problems of a split, with the keys question and answer.

    All lengths are equally frequent, as far as there are enough short chains.
    Raises ValueError where the split is unknown or has fewer problems.
    """
    if split not in NUM_PROBLEMS:
        raise ValueError(f"split {split!r}: the embedded world has {', '.join(NUM_PROBLEMS)}")
    if num > NUM_PROBLEMS[split]:
        raise ValueError(
            f"{num} problems asked for, but split {split} of the embedded world has "
            f"{NUM_PROBLEMS[split]}; lower num_problems"
        )
    rng = random.Random(f"problems:{split}:{seed}")
    answers: dict[str, str] = {}
    while len(answers) < num:
        question = draw(split, rng)
        answers[question] = str(values(question)[-1])
    return [{"question": question, "answer": answer} for question, answer in answers.items()]


def draw(split: str, rng: random.Random) -> str:
    """One expression of a split."""
    while True:
        numbers = rng.randint(MIN_NUMBERS, MAX_NUMBERS)
        value = rng.randint(1, MAX_NUMBER)
        expression = str(value)
        while numbers > 1:
            sign, operand = rng.choice("+-"), rng.randint(1, MAX_NUMBER)
            if 0 <= _apply(value, (sign, operand)) <= MAX_VALUE:
                value = _apply(value, (sign, operand))
                expression += f"{sign}{operand}"
                numbers -= 1
        if split_of(expression) == split:
            return expression


def values(expression: str) -> list[int]:
    """The running values: 1+3-2 gives [1, 4, 2]. Raises ValueError where it is no such chain."""
    first, operations = _parse(expression)
    return _run(first, operations)


def concise_trace(expression: str) -> tuple[str, str]:
    """Reasoning and answer: each step once, and nothing else."""
    return verbose_trace(expression, random.Random(), verbosity=0.0, slip=0.0)


def verbose_trace(
    expression: str, rng: random.Random, verbosity: float, slip: float
) -> tuple[str, str]:
    """Reasoning and answer, with every redundant act at probability `verbosity`.

    Each step is a slip with probability `slip`. Half of the slips are noticed and corrected; after
    the others the chain goes on from the wrong value. With `rng` in the same state, the acts are
    the same whatever `slip` is.
    """
    first, operations = _parse(expression)
    slips = random.Random(rng.getrandbits(32))
    sentences: list[str] = []
    steps: list[str] = []
    value = first

    def chance() -> bool:
        return rng.random() < verbosity

    if chance():
        sentences.append(f"So the question is {expression}.")
    if chance():
        sentences.append(f"Start with {first}.")
    for number, operation in enumerate(operations):
        sign, operand = operation
        if chance():
            act, side = ("add", "to") if sign == "+" else ("take", "from")
            sentences.append(f"Now {act} {operand} {side} {value}.")
        right = result = _apply(value, operation)
        if slips.random() < slip:
            result = slips.choice(_wrong(right, operations[number + 1 :]))
        step = f"{value}{sign}{operand}={result}"
        sentences.append(f"{step}.")
        if result != right and slips.random() < 0.5:
            result = right
            step = f"{value}{sign}{operand}={result}"
            sentences.append(f"Wait, no, {step}.")
        if chance():
            sentences.append(f"Wait, is {step}? Yes.")
        steps.append(f"{step}.")
        value = result
    if chance():
        sentences += ["Let me verify all:", *steps]
    if chance():
        sentences.append(f"So the answer is {value}.")
    return " ".join(sentences), rf"\boxed{{{value}}}"


def _parse(expression: str) -> tuple[int, list[Operation]]:
    if not re.fullmatch(r"\d+([+-]\d+)*", expression):
        raise ValueError(f"{expression!r}: not a chain of + and - over numbers")
    first, *rest = re.findall(r"[+-]?\d+", expression)
    return int(first), [(part[0], int(part[1:])) for part in rest]


def _apply(value: int, operation: Operation) -> int:
    sign, operand = operation
    return value + operand if sign == "+" else value - operand


def _run(first: int, operations: list[Operation]) -> list[int]:
    running = [first]
    for operation in operations:
        running.append(_apply(running[-1], operation))
    return running


def _wrong(right: int, rest: list[Operation]) -> list[int]:
    """Values near `right` from which the rest of the chain stays in range; [right] if none does."""
    near = range(right - MAX_SLIP, right + MAX_SLIP + 1)
    wrong = [
        value
        for value in near
        if value != right and all(0 <= running <= MAX_VALUE for running in _run(value, rest))
    ]
    return wrong or [right]
