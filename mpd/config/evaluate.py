"""The section evaluate, and the settings of its stages: answers samples, evaluate grades."""

from typing import Annotated, ClassVar

from pydantic import Field

from mpd.config.base import AlsoFromKey, Count, FromKey, NamesFromKey, StageSettings, StrictModel
from mpd.config.chat import PromptChat, ReadingChat
from mpd.config.generation import BranchSeed, Decoding, EngineSettings, Generation


class Evaluate(Generation):
    temperature: float = Field(0.6, ge=0, description="0 is greedy")
    top_p: float = Field(0.95, gt=0, le=1, description="share of the mass to sample from; 1: off")
    top_k: int = Field(20, ge=0, description="most probable ids to sample from; 0: off")


class AnswerChat(PromptChat):
    prompt: Annotated[str, AlsoFromKey("chat.concise", "of untrained methods")] = Field(
        "{problem}", description="user message; {problem} is the question"
    )


class BenchmarkAnswers(Decoding, EngineSettings):
    """Settings of the answers to one benchmark, which they are published with."""

    section: ClassVar[str] = "evaluate"
    chat: Annotated[AnswerChat, FromKey("chat")] = AnswerChat()
    seed: BranchSeed = 0


class AnswersSettings(EngineSettings):
    """Settings of the answers to all benchmarks."""

    section: ClassVar[str] = "evaluate"
    benchmarks: Annotated[
        dict[str, Decoding],
        FromKey("evaluate"),
        FromKey("problems.benchmarks"),
        NamesFromKey("problems.benchmarks.name"),
    ] = Field(description="how the problems of each are answered, by name")
    chat: Annotated[AnswerChat, FromKey("chat")] = AnswerChat()
    seed: BranchSeed = 0

    def of_benchmark(self, name: str) -> BenchmarkAnswers:
        """The settings of the answers to one benchmark."""
        common = self.model_dump(exclude={"benchmarks"})
        return BenchmarkAnswers(**self.benchmarks[name].model_dump(), **common)


class TokenLimit(StrictModel):
    max_new_tokens: Count = Field(description="of its answers: the largest budget that counts")


class BenchmarkGrades(TokenLimit, StageSettings):
    """Settings of the grades of one benchmark, which they are published with."""

    section: ClassVar[str] = "evaluate"
    chat: Annotated[ReadingChat, FromKey("chat")] = ReadingChat()


class EvaluateSettings(StageSettings):
    """Settings of the grades of all benchmarks."""

    section: ClassVar[str] = "evaluate"
    benchmarks: Annotated[
        dict[str, TokenLimit],
        FromKey("evaluate"),
        FromKey("problems.benchmarks"),
        NamesFromKey("problems.benchmarks.name"),
    ] = Field(description="of each, by name")
    chat: Annotated[ReadingChat, FromKey("chat")] = ReadingChat()

    def of_benchmark(self, name: str) -> BenchmarkGrades:
        """The settings of the grades of one benchmark."""
        limit = self.benchmarks[name].max_new_tokens
        return BenchmarkGrades(max_new_tokens=limit, chat=self.chat)
