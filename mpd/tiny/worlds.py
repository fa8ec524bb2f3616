"""The embedded worlds by name: their words, their problems, and what their models learn."""

from collections.abc import Callable
from dataclasses import astuple, dataclass

from mpd.tiny import solutions, stories, story_examples, task
from mpd.tiny.examples import Writer, student_writer, teacher_writer
from mpd.tiny.sizes import CONTEXT_LENGTH, STUDENT, TEACHER, Pretraining
from mpd.tiny.tokenizer import CHAINS, INSTRUCTIONS, KNOWN_WORDS, Lexicon

STORY_CONTEXT_LENGTH = 1024
STORY_STUDENT = Pretraining(
    hidden_size=64,
    intermediate_size=192,
    num_layers=3,
    num_heads=2,
    num_key_value_heads=2,
    num_steps=3700,
)
STORY_TEACHER = Pretraining(
    hidden_size=128,
    intermediate_size=384,
    num_layers=4,
    num_heads=4,
    num_key_value_heads=2,
    num_steps=3600,
)


@dataclass(frozen=True)
class Role:
    """A model of a world: its sizes, and the examples that it learns.

    `style` has the numbers of the writer: with them, the examples are others.
    """

    sizes: Pretraining
    writer: Writer
    style: tuple[object, ...]


@dataclass(frozen=True)
class World:
    """A world. `problems` makes rows of a split: question, answer and what else it has."""

    lexicon: Lexicon
    context_length: int
    student: Role
    teacher: Role
    problems: Callable[[str, int, int], list[dict[str, str]]]


WORLDS = {
    "chains": World(
        lexicon=CHAINS,
        context_length=CONTEXT_LENGTH,
        student=Role(STUDENT, student_writer(0.65, 0.2), (0.65, 0.2)),
        teacher=Role(TEACHER, teacher_writer(30.0), (30.0,)),
        problems=task.problems,
    ),
    "stories": World(
        lexicon=Lexicon(
            numbers=10,
            words=(
                *INSTRUCTIONS,
                *dict.fromkeys((*KNOWN_WORDS, *stories.words(), *solutions.WORDS)),
            ),
            marks=".,:?",
            signs="+-*=>;}() \n",
        ),
        context_length=STORY_CONTEXT_LENGTH,
        student=Role(
            STORY_STUDENT, story_examples.student_writer(), astuple(story_examples.STUDENT_STYLE)
        ),
        teacher=Role(
            STORY_TEACHER, story_examples.teacher_writer(), astuple(story_examples.TEACHER_STYLE)
        ),
        problems=solutions.problems,
    ),
}
