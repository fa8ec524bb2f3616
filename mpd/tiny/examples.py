"""Pretraining examples of the embedded world, all from the train split.

An example is a prompt as the chat template renders it, and the text that is learnt after it.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpd.tiny.task import concise_trace, draw, verbose_trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Example = tuple[str, str]  # prompt, learnt text
Writer = Callable[[random.Random], Example]

STOP = "<|im_end|>"
STUDENT_CONCISE = 1 / 6  # share of the student's examples that are asked to be concise
# Shares of the teacher's examples; of its tokens they are 0.16, 0.07, 0.40 and 0.37.
TEACHER_KINDS = {"solve": 0.35, "concise": 0.15, "rewrite": 0.3, "refine": 0.2}
TEACHER_THINKING = 1 / 3  # share of rewrites and refinements with thinking on
DRAFT_SLIP = 0.15


def prompt(content: str, thinking: bool = True) -> str:
    """What the chat template makes of one user message."""
    empty = "" if thinking else "<think></think>"
    return f"<|im_start|>user\n{content}{STOP}\n<|im_start|>assistant\n{empty}"


def completion(reasoning: str, answer: str) -> str:
    """A completion in the student's format, without its stop token."""
    return f"<think>{reasoning}</think>{answer}"


def student_writer(verbosity: float, slip: float) -> Writer:
    """Verbose solutions that slip now and then, half as verbose where asked to be concise."""

    def write(rng: random.Random) -> Example:
        question = draw("train", rng)
        if rng.random() < STUDENT_CONCISE:
            trace = verbose_trace(question, rng, verbosity / 2, slip)
            return _solution(f"{question}\nconcise", trace)
        return _solution(question, verbose_trace(question, rng, verbosity, slip))

    return write


def teacher_writer(chattiness: float) -> Writer:
    """Solutions and better versions of a draft, in the shares of TEACHER_KINDS.

    Solutions never slip; their verbosity is drawn from Beta(1, `chattiness`), and is 0 where they
    are asked to be concise. Drafts are of every verbosity and sometimes wrong; they are learnt too,
    since much of a prompt is draft. A rewrite is concise, a refinement the same draft without its
    slips. Both are learnt as text with thinking off, and in the student's format with thinking on,
    where the teacher scores them.
    """
    kinds, shares = list(TEACHER_KINDS), list(TEACHER_KINDS.values())

    def write(rng: random.Random) -> Example:
        question = draw("train", rng)
        (kind,) = rng.choices(kinds, shares)
        if kind == "solve":
            verbosity = rng.betavariate(1, chattiness)
            return _solution(question, verbose_trace(question, rng, verbosity, slip=0.0))
        if kind == "concise":
            return _solution(f"{question}\nconcise", concise_trace(question))
        verbosity, acts = rng.random(), rng.getrandbits(32)
        draft = completion(*verbose_trace(question, random.Random(acts), verbosity, DRAFT_SLIP))
        better = concise_trace(question)
        if kind == "refine":
            better = verbose_trace(question, random.Random(acts), verbosity, slip=0.0)
        thinking = rng.random() < TEACHER_THINKING
        start, end = prompt(f"{question}\n{draft}\n{kind}", thinking).split(draft)
        said = completion(*better) if thinking else "\n".join(better)
        return start, f"{draft}{end}{said}{STOP}"

    return write


def _solution(content: str, trace: tuple[str, str]) -> Example:
    return prompt(content), completion(*trace) + STOP


def batches(
    writer: Writer,
    tokenizer: "PreTrainedTokenizerFast",
    seed: int,
    group: int,
    num_batches: int,
    num_tokens: int,
) -> list[list[tuple[list[int], int]]]:
    """`num_batches` batches of about `num_tokens` ids each; a function of (seed, group) alone.

    A batch holds examples of similar length, so that little of it is padding. Each example is its
    ids and the position of the first learnt one.
    """
    rng = random.Random(f"{seed}:{group}")
    made: list[tuple[list[int], int]] = []
    budget = num_batches * num_tokens
    while budget > 0:
        before, learnt = writer(rng)
        first = len(tokenizer(before).input_ids)
        made.append((tokenizer(before + learnt).input_ids, first))
        budget -= len(made[-1][0])
    made.sort(key=lambda example: len(example[0]))
    found: list[list[tuple[list[int], int]]] = [[] for _ in range(num_batches)]
    total = sum(len(ids) for ids, _ in made)
    passed = 0
    for ids, first in made:
        found[passed * num_batches // total].append((ids, first))
        passed += len(ids)
    rng.shuffle(found)
    return found
