"""Pretraining examples of the embedded world, all from the train split.

An example is a prompt as the chat template renders it, and the text after it that is learnt.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpd.tiny.task import concise_trace, draw, verbose_trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Example = tuple[str, str]  # prompt, learnt text
Writer = Callable[[random.Random], Example]
Batch = list[tuple[list[int], int]]  # the ids of each example, and where the learnt ones begin

STOP = "<|im_end|>"
STUDENT_CONCISE = 1 / 6  # share of the student's examples that are asked to be concise
# Shares of the teacher's examples; their shares of its tokens are 0.16, 0.07, 0.40 and 0.37.
TEACHER_KINDS = {"solve": 0.35, "concise": 0.15, "rewrite": 0.3, "refine": 0.2}
TEACHER_THINKING = 1 / 3  # share of rewrites and refinements with thinking on
DRAFT_SLIP = 0.15


def prompt(content: str, thinking: bool = True) -> str:
    """One user message, as the chat template renders it."""
    empty = "" if thinking else "<think></think>"
    return f"<|im_start|>user\n{content}{STOP}\n<|im_start|>assistant\n{empty}"


def completion(reasoning: str, answer: str) -> str:
    """A completion in the student's format, without its stop token."""
    return f"<think>{reasoning}</think>{answer}"


def student_writer(verbosity: float, slip: float) -> Writer:
    """A writer of verbose solutions with slips, half as verbose where asked to be concise."""

    def write(rng: random.Random) -> Example:
        question = draw("train", rng)
        if rng.random() < STUDENT_CONCISE:
            trace = verbose_trace(question, rng, verbosity / 2, slip)
            return solved(f"{question}\nconcise", trace)
        return solved(question, verbose_trace(question, rng, verbosity, slip))

    return write


def teacher_writer(chattiness: float) -> Writer:
    """A writer of solutions and of better versions of a draft, in the shares of TEACHER_KINDS.

    Solutions have no slips. Their verbosity is drawn from Beta(1, `chattiness`), and is 0 where
    they are asked to be concise. Drafts have any verbosity and are sometimes wrong; they are learnt
    too, since much of a prompt is draft. A rewrite is concise; a refinement is the draft without
    its slips. With thinking off both are plain text, with thinking on they are in the student's
    format, in which the teacher scores them.
    """
    kinds, shares = list(TEACHER_KINDS), list(TEACHER_KINDS.values())

    def write(rng: random.Random) -> Example:
        question = draw("train", rng)
        (kind,) = rng.choices(kinds, shares)
        if kind == "solve":
            verbosity = rng.betavariate(1, chattiness)
            return solved(question, verbose_trace(question, rng, verbosity, slip=0.0))
        if kind == "concise":
            return solved(f"{question}\nconcise", concise_trace(question))
        verbosity, acts = rng.random(), rng.getrandbits(32)
        draft = completion(*verbose_trace(question, random.Random(acts), verbosity, DRAFT_SLIP))
        better = concise_trace(question)
        if kind == "refine":
            better = verbose_trace(question, random.Random(acts), verbosity, slip=0.0)
        return edited(question, draft, kind, better, rng)

    return write


def edited(
    question: str, draft: str, instruction: str, better: tuple[str, str], rng: random.Random
) -> Example:
    """The example of a better version of a draft, which is learnt too."""
    thinking = rng.random() < TEACHER_THINKING
    start, end = prompt(f"{question}\n{draft}\n{instruction}", thinking).split(draft)
    answer = completion(*better) if thinking else "\n".join(better)
    return start, f"{draft}{end}{answer}{STOP}"


def solved(content: str, trace: tuple[str, str]) -> Example:
    """The example of a solution: the user message, and reasoning and answer."""
    return prompt(content), completion(*trace) + STOP


def batches(
    writer: Writer,
    tokenizer: "PreTrainedTokenizerFast",
    seed: int,
    group: int,
    num_batches: int,
    num_tokens: int,
) -> list[Batch]:
    """`num_batches` batches of about `num_tokens` ids each; `seed` and `group` alone decide them.

    A batch holds examples of similar length, so that little of it is padding.
    """
    rng = random.Random(f"{seed}:{group}")
    examples: Batch = []
    budget = num_batches * num_tokens
    while budget > 0:
        before, learnt = writer(rng)
        first = len(tokenizer(before).input_ids)
        examples.append((tokenizer(before + learnt).input_ids, first))
        budget -= len(examples[-1][0])
    examples.sort(key=lambda example: len(example[0]))
    by_length: list[Batch] = [[] for _ in range(num_batches)]
    total = sum(len(ids) for ids, _ in examples)
    num_before = 0
    for ids, first in examples:
        by_length[num_before * num_batches // total].append((ids, first))
        num_before += len(ids)
    rng.shuffle(by_length)
    return by_length
