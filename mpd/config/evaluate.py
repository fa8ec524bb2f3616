"""The section evaluate, and the settings of its two stages: answers samples, evaluate grades."""

from typing import Annotated, ClassVar

from pydantic import Field

from mpd.config.base import AlsoFromKey, Count, FromKey, NamesFromKey, StageSettings, StrictModel
from mpd.config.chat import PromptChat, ReadingChat
from mpd.config.generation import BranchSeed, Decoding, EngineSettings, Generation


class Evaluate(Generation):
    """The section: how held-out problems are answered."""

    temperature: float = Field(0.6, ge=0, description="sampling temperature; 0: greedy")
    top_p: float = Field(
        0.95, gt=0, le=1, description="probability mass to sample from (nucleus sampling); 1: off"
    )
    top_k: int = Field(20, ge=0, description="number of most probable ids to sample from; 0: off")


class AnswerChat(PromptChat):
    """The plain prompt, in whose place untrained methods ask for brevity."""

    prompt: Annotated[str, AlsoFromKey("chat.concise", "for untrained methods")] = Field(
        "{problem}", description="user message; {problem} is the question"
    )


class BenchmarkAnswers(Decoding, EngineSettings):
    """The settings that the answers to one benchmark are published with."""

    section: ClassVar[str] = "evaluate"
    chat: Annotated[AnswerChat, FromKey("chat")] = AnswerChat()
    seed: BranchSeed = 0


class AnswersSettings(EngineSettings):
    """Settings of the stage answers."""

    section: ClassVar[str] = "evaluate"
    benchmarks: Annotated[
        dict[str, Decoding],
        FromKey("evaluate"),
        FromKey("problems.benchmarks"),
        NamesFromKey("problems.benchmarks.name"),
    ] = Field(description="how each benchmark is answered, by name")
    chat: Annotated[AnswerChat, FromKey("chat")] = AnswerChat()
    seed: BranchSeed = 0

    def of_benchmark(self, name: str) -> BenchmarkAnswers:
        """The settings of the answers to one benchmark."""
        common = self.model_dump(exclude={"benchmarks"})
        return BenchmarkAnswers(**self.benchmarks[name].model_dump(), **common)


class TokenLimit(StrictModel):
    """How long the answers to a benchmark may be."""

    max_new_tokens: Count = Field(
        description="longest answer, in tokens: the largest budget to grade under"
    )


class BenchmarkGrades(TokenLimit, StageSettings):
    """The settings that the grades of one benchmark are published with."""

    section: ClassVar[str] = "evaluate"
    chat: Annotated[ReadingChat, FromKey("chat")] = ReadingChat()


class EvaluateSettings(StageSettings):
    """Settings of the stage evaluate."""

    section: ClassVar[str] = "evaluate"
    benchmarks: Annotated[
        dict[str, TokenLimit],
        FromKey("evaluate"),
        FromKey("problems.benchmarks"),
        NamesFromKey("problems.benchmarks.name"),
    ] = Field(description="how long the answers to each benchmark may be, by name")
    chat: Annotated[ReadingChat, FromKey("chat")] = ReadingChat()

    def of_benchmark(self, name: str) -> BenchmarkGrades:
        """The settings of the grades of one benchmark."""
        limit = self.benchmarks[name].max_new_tokens
        return BenchmarkGrades(max_new_tokens=limit, chat=self.chat)
