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
DRAFT_SLIP = 0.1


def prompt(content: str, thinking: bool = True) -> str:
    """What the chat template makes of one user message."""
    empty = "" if thinking else "<think></think>"
    return f"<|im_start|>user\n{content}{STOP}\n<|im_start|>assistant\n{empty}"


def completion(reasoning: str, answer: str) -> str:
    """A completion in the student's format, without its stop token."""
    return f"<think>{reasoning}</think>{answer}"


def student_writer(verbosity: float, slip: float) -> Writer:
    """Verbose solutions that slip now and then."""

    def write(rng: random.Random) -> Example:
        question = draw("train", rng)
        trace = verbose_trace(question, rng, verbosity, slip)
        return prompt(question), completion(*trace) + STOP

    return write


def teacher_writer(chattiness: float) -> Writer:
    """Half solutions, half rewrites.

    Solutions never slip; their verbosity is drawn from Beta(1, `chattiness`). Drafts are of every
    verbosity and sometimes wrong; they are learnt too, since much of a rewriting prompt is draft.
    """

    def write(rng: random.Random) -> Example:
        question = draw("train", rng)
        if rng.random() < 0.5:
            verbosity = rng.betavariate(1, chattiness)
            trace = verbose_trace(question, rng, verbosity, slip=0.0)
            return prompt(question), completion(*trace) + STOP
        draft = completion(*verbose_trace(question, rng, rng.random(), DRAFT_SLIP))
        start, end = prompt(f"{question}\n{draft}\nrewrite", thinking=False).split(draft)
        reasoning, answer = concise_trace(question)
        return start, f"{draft}{end}{reasoning}\n{answer}{STOP}"

    return write


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
