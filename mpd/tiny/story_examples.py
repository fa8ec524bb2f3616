"""Pretraining examples of the hard world, all from the train split."""

import random
from dataclasses import replace

from mpd.tiny.examples import Example, Writer, completion, edited, solved
from mpd.tiny.solutions import Style, drill, notes, shortened, solution
from mpd.tiny.stories import draw

# Shares of the student's examples. It rarely sees the second language and the teacher's notation.
STUDENT_KINDS = {
    "solve": 0.5,
    "drill": 0.26,
    "concise": 0.1,
    "translated": 0.02,
    "again": 0.08,
    "notes": 0.04,
}
STUDENT_STYLE = Style(verbosity=0.8, check_hard=0.8, check_easy=0.6, slip=0.35)
TEACHER_KINDS = {
    "solve": 0.3,
    "drill": 0.2,
    "notes": 0.08,
    "concise": 0.08,
    "rewrite": 0.24,
    "refine": 0.1,
}
TEACHER_STYLE = Style(verbosity=0.03, check_hard=0.8, check_easy=0.05, slip=0.05)
TEACHER_TRANSLATED = 0.1  # share of the teacher's problems in the second language


def student_writer(style: Style = STUDENT_STYLE) -> Writer:
    """A writer of verbose solutions with slips, in the shares of STUDENT_KINDS.

    Where they are asked to be concise, they are half as verbose, and half as often checked. Where a
    solution is shown, nothing slips.
    """
    kinds, shares = list(STUDENT_KINDS), list(STUDENT_KINDS.values())
    concise = Style(style.verbosity / 2, style.check_hard / 2, style.check_easy / 2, style.slip)

    def write(rng: random.Random) -> Example:
        story = draw("train", rng)
        (kind,) = rng.choices(kinds, shares)
        if kind == "concise":
            return solved(f"{story.question}\nconcise", solution(story, concise, rng))
        if kind == "translated":
            return solved(story.translation, solution(story, style, rng))
        if kind == "again":
            shown = "\n".join(shortened(story))
            right = solution(story, replace(style, slip=0.0), rng)
            return solved(f"{story.question}\n{shown}\nagain", right)
        if kind == "drill":
            return solved("again", drill(rng))
        if kind == "notes":
            return solved(story.question, notes(story))
        return solved(story.question, solution(story, style, rng))

    return write


def teacher_writer(style: Style = TEACHER_STYLE) -> Writer:
    """A writer of solutions and of better versions of a draft, in the shares of TEACHER_KINDS.

    A draft has any verbosity, checks and slips, and is learnt too. A rewrite is short; a
    refinement is the draft without its slips.
    """
    kinds, shares = list(TEACHER_KINDS), list(TEACHER_KINDS.values())

    def write(rng: random.Random) -> Example:
        story = draw("train", rng)
        (kind,) = rng.choices(kinds, shares)
        translated = rng.random() < TEACHER_TRANSLATED
        question = story.translation if translated else story.question
        if kind == "solve":
            return solved(question, solution(story, style, rng))
        if kind == "drill":
            return solved("again", drill(rng))
        if kind == "notes":
            return solved(question, notes(story))
        if kind == "concise":
            return solved(f"{question}\nconcise", notes(story))
        acts = rng.getrandbits(32)
        manner = Style(rng.random(), rng.random(), rng.random(), STUDENT_STYLE.slip)
        draft = completion(*solution(story, manner, random.Random(acts)))
        better = shortened(story)
        if kind == "refine":
            better = solution(story, replace(manner, slip=0.0), random.Random(acts))
        return edited(question, draft, kind, better, rng)

    return write
