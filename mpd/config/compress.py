"""The section compress, and the settings of its stage."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mpd.config.bank import Bank
from mpd.config.base import AlsoFromKey, Count, FromJob, FromKey, Seed, StageSettings
from mpd.config.chat import DateChat, WritingChat
from mpd.config.generation import EngineSettings, Generation, NeedsScores
from mpd.config.methods import Instruction, Sampler

# After arXiv 2605.07139; the wording is this project's.
FORM = (
    "Answer with JSON and nothing else, in this form. Double every backslash of LaTeX.\n"
    '{"route": {"category": "...", "intent": ["..."], "difficulty": 1, "budget": 2, '
    '"reasoning_path": ["FirstName", "SecondName"]}, '
    '"rationale": {"FirstName": "...", "SecondName": "..."}, "ans": "..."}'
)
STRUCTURE = (
    "{problem}\n\n"
    "Solve this problem along a short path of named steps. First rate its difficulty from 1 to 3: "
    "the budget is 2 steps at difficulty 1, and 3 steps at difficulty 2 or 3. Name each step by "
    "what it does, in TitleCase and letters only, without words that only this problem has, and "
    "without numbers such as Step1. Give one concise derivation for each step, then the final "
    "answer.\n\n" + FORM
)
# Where the bank has a path for the problem; likewise.
ROUTE = (
    "{problem}\n\n"
    "Solve this problem along the reasoning path of this route:\n\n{route}\n\n"
    "Keep the path if the problem can be solved along it. If it cannot, change reasoning_path as "
    "little as possible, to no more steps than the budget. Leave category, intent, difficulty and "
    "budget as they are. Name a new step by what it does, in TitleCase and letters only, without "
    "words that only this problem has, and without numbers such as Step1. Give one concise "
    "derivation for each step of the path, then the final answer.\n\n" + FORM
)


class Rewriting(Generation):
    """How trajectories are rewritten."""

    num_samples: Count = Field(1, description="candidate rewrites per trajectory")
    prompt: str = Field(description="user message; {problem} and {trajectory} are filled in")
    thinking: bool = Field(
        False, description="whether the rewriting prompt is rendered with thinking enabled"
    )


class Compress(Rewriting):
    """The section: how trajectories are rewritten, whatever the method asks for."""

    refine: str = Field(
        "{problem}\n\n{trajectory}\n\nCorrect this solution where it is wrong and improve it.",
        description="user message for methods that refine rather than shorten",
    )
    structure: str = Field(
        STRUCTURE,
        description="user message for methods that ask for a structural rationale in JSON; "
        "{trajectory} may be left out",
    )
    route: str = Field(
        ROUTE,
        description="user message in place of structure where a bank has a path for the problem; "
        "{route} is its route in JSON; {trajectory} may be left out",
    )
    bank: Bank | None = Field(
        None,
        description="from round 2 on, structural rationales follow paths of a bank that right ones "
        "of earlier rounds make; null: there is no bank; {}: one with the defaults below, for "
        "which models.embedder has to be set",
    )

    @model_validator(mode="after")
    def _require_placeholders(self) -> "Compress":
        for key in ("prompt", "refine"):
            for placeholder in ("{problem}", "{trajectory}"):
                if placeholder not in getattr(self, key):
                    raise ValueError(f"{key} must contain {placeholder}")
        if "{problem}" not in self.structure:
            raise ValueError("structure must contain {problem}")
        for placeholder in ("{problem}", "{route}"):
            if placeholder not in self.route:
                raise ValueError(f"route must contain {placeholder}")
        return self

    def asking(self, instruction: str) -> str:
        """The user message of an instruction of the method grid."""
        prompts = {"rewrite": self.prompt, "refine": self.refine, "structure": self.structure}
        return prompts[instruction]


WITH_BANK = "for structural rationales with a bank, from round 2 on"


class RewritingChat(WritingChat, DateChat):
    """The format of rewrites, and the date in the rewriting prompt."""


class TeacherRewrite(Rewriting, EngineSettings):
    """Settings for rewriting."""

    section: ClassVar[str] = "compress"
    when: ClassVar[str] = "where the teacher rewrites"
    prompt: Annotated[
        str,
        AlsoFromKey("compress.refine", "for methods that refine"),
        AlsoFromKey("compress.structure", "for structural rationales"),
    ] = Field(description="user message; {problem} and {trajectory} are filled in")
    instruction: Annotated[Instruction, FromJob("method")] = Field(
        "rewrite",
        exclude_if=lambda instruction: instruction != "structure",
        description="structure: a rewrite is JSON, whose steps and answer are put into the "
        "student's format",
    )
    route: Annotated[str | None, FromKey("compress.route", WITH_BANK)] = Field(
        None,
        exclude_if=lambda route: route is None,
        description="user message where the bank has a path; {problem}, {trajectory} and {route} "
        "are filled in; null: there is no bank, or none yet",
    )
    rewriter: Annotated[Literal["teacher"], FromJob("method")] = Field(
        description="teacher: the teacher rewrites"
    )
    sampler: Annotated[Sampler, FromJob("method")] = "student"
    needs_scores: NeedsScores = True
    chat: Annotated[RewritingChat, FromKey("chat")] = RewritingChat()
    seed: Annotated[Seed | str, FromJob("branch")] = Field(
        0, description="seed of the branch; for structural rationales also the round, such as 0.2"
    )


class NoRewrite(StageSettings):
    """Settings for methods without rewriting."""

    section: ClassVar[str] = "compress"
    rewriter: Annotated[Literal["none"], FromJob("method")] = Field(
        description="none: trajectories stay as they are"
    )
    sampler: Annotated[Sampler, FromJob("method")] = "student"
    needs_scores: NeedsScores = True
    chat: Annotated[WritingChat, FromKey("chat")] = WritingChat()


CompressSettings = Annotated[TeacherRewrite | NoRewrite, Field(discriminator="rewriter")]
