"""The settings of every job: the part of the configuration that its result depends on.

`resources` is left out, since it cannot change a result; the rules pass it on.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from mpd.config.bank import BankSettings
from mpd.config.base import BASE, DEV, StageSettings, StrictModel
from mpd.config.branches import Branch
from mpd.config.chat import PromptChat, ReadingChat, StudentChat, WritingChat
from mpd.config.compress import CompressSettings, NoRewrite, RewritingChat, TeacherRewrite
from mpd.config.config import Config
from mpd.config.distill import AnyDistillSettings, Training, distill_settings
from mpd.config.evaluate import AnswersSettings, EvaluateSettings, TokenLimit
from mpd.config.filter import FilterSettings
from mpd.config.generation import Decoding, GenerationEngineChoice
from mpd.config.gym import gym_version
from mpd.config.logits import (
    ConciseScores,
    HeadSettings,
    LogitsSettings,
    PlainScores,
    RewritingScores,
    ScoringChat,
    SolutionScores,
)
from mpd.config.models import (
    FolderSettings,
    GgufSettings,
    HubSettings,
    ModelsSettings,
    TinySettings,
)
from mpd.config.problem_settings import BenchmarkProblems, TrainingProblems
from mpd.config.problems import ProblemSplit, Source
from mpd.config.report import ReportSettings
from mpd.config.sample import DrawnSample, GivenSample, SampleSettings

Wildcards = Mapping[str, Any]  # of a job: its role, its benchmark, or its method, seed and round
Part = TypeVar("Part", bound=StrictModel)


def stage_settings(config: Config, rule: str, **wildcards: str | int) -> StageSettings:
    """The settings of a job, by its rule and those of its wildcards that they depend on."""
    return RULES[rule].build(config, wildcards)


def as_text(settings: StageSettings) -> str:
    """Settings as JSON for a command line; equal settings give equal texts."""
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True)


def _part(kind: type[Part], section: StrictModel) -> Part:
    """The keys of a section that another model has, as that model."""
    return kind(**{name: getattr(section, name) for name in kind.model_fields})


def _models(config: Config, wildcards: Wildcards) -> StageSettings:
    """The source of a model; a model of the embedded world also has its role and a seed."""
    role, _, seed = wildcards["role"].partition("_seed_")
    source = config.models.source_of(role)
    keys = dict(source)
    if source.source == "tiny":  # pretraining the base student takes a seed
        return TinySettings(**keys, role=role, seed=int(seed or 0))
    if role == "embedder":
        keys["embeds"] = True
    kinds = {"folder": FolderSettings, "hub": HubSettings, "gguf": GgufSettings}
    return kinds[source.source](**keys)


def _problems(config: Config, wildcards: Wildcards) -> StageSettings:
    split, problems = _part(ProblemSplit, config.problems), config.problems
    train, dev = problems.train_source, problems.dev_source
    version = _gym_version(train) or (None if dev is None else _gym_version(dev))
    return TrainingProblems(**dict(split), train=train, dev=dev, gym_version=version)


def _benchmark_problems(config: Config, wildcards: Wildcards) -> StageSettings:
    source = config.problems.benchmark_source(wildcards["benchmark"])
    split = {name: getattr(config.problems, name) for name in ("seed", "on_bad_row")}
    return BenchmarkProblems(**dict(source), **split, gym_version=_gym_version(source))


def _gym_version(source: Source) -> str | None:
    """The version of the package that makes the problems, if one does."""
    return gym_version() if source.source == "reasoning_gym" else None


def _sample(config: Config, wildcards: Wildcards) -> StageSettings:
    """The user's trajectories where they replace the samples of the round, else how to sample."""
    branch, seed, number = _branch(config, wildcards), wildcards["seed"], wildcards["round"]
    trajectories = branch.sample.given_trajectories(int(number))
    if trajectories:
        return GivenSample(trajectories=trajectories, chat=_part(StudentChat, config.chat))
    # Each round has another student; the teacher stays, so that only a seed makes other samples.
    from_teacher = branch.method.sampler == "teacher"
    has_rounds = config.problems.train.curriculum is not None
    return DrawnSample(
        **{**dict(branch.sample), "trajectories": None},
        chat=_part(PromptChat, config.chat),
        dtype=config.models.dtype,
        seed=f"{seed}.{number}" if from_teacher else int(seed),
        needs_scores=branch.method.needs_scores or not from_teacher,
        format=_part(WritingChat, config.chat) if from_teacher else None,
        round=int(number) if has_rounds else None,
    )


def _bank(config: Config, wildcards: Wildcards) -> StageSettings:
    """How the bank of a branch that has one is made."""
    return BankSettings(**dict(_branch(config, wildcards).bank or ()))


def _compress(config: Config, wildcards: Wildcards) -> StageSettings:
    """How the teacher rewrites, or that it does not."""
    branch = _branch(config, wildcards)
    method, keys = branch.method, dict(branch.compress)
    # The student of the job is the one that sampled, be it the base student or a later one.
    sampler: Literal["student", "teacher"] = "teacher" if method.sampler == "teacher" else "student"
    if method.rewriter == "none":
        chat = _part(WritingChat, config.chat)
        needed = method.needs_scores
        return NoRewrite(rewriter="none", sampler=sampler, needs_scores=needed, chat=chat)
    for key in ("refine", "structure", "bank"):
        keys.pop(key)
    if branch.bank is None or int(wildcards["round"]) == 1:
        keys["route"] = None
    seed = int(wildcards["seed"])
    is_new = method.instruction == "structure" and method.sampler != "base"
    return TeacherRewrite(
        **{**keys, "prompt": branch.compress.asking(method.instruction)},
        instruction=method.instruction,
        rewriter=method.rewriter,
        sampler=sampler,
        needs_scores=method.needs_scores,
        chat=_part(RewritingChat, config.chat),
        dtype=config.models.dtype,
        # Where the prompt is the same in every round, only a seed makes other rewrites.
        seed=f"{seed}.{wildcards['round']}" if is_new else seed,
    )


def _filter(config: Config, wildcards: Wildcards) -> StageSettings:
    branch = _branch(config, wildcards)
    return FilterSettings(
        **dict(branch.filter),
        kept=branch.method.kept,
        rewriter=branch.method.rewriter,
        instruction=branch.method.instruction,
        chat=_part(ReadingChat, config.chat),
    )


def _logits(config: Config, wildcards: Wildcards) -> StageSettings:
    """What the cache holds, and under which prompt the scorer scores."""
    branch = _branch(config, wildcards)
    needed = branch.method.needs_scores
    keys = {**dict(branch.logits), "dtype": config.models.dtype, "needs_scores": needed}
    if branch.method.context == "problem":
        return PlainScores(**keys, context="problem", chat=_part(ReadingChat, config.chat))
    chat = _part(ScoringChat, config.chat)
    if branch.method.context == "concise":
        return ConciseScores(**keys, context="concise", prompt=config.chat.concise, chat=chat)
    if branch.method.context == "solution":
        return SolutionScores(**keys, context="solution", prompt=config.chat.solution, chat=chat)
    prompt = branch.compress.asking(branch.method.instruction)
    return RewritingScores(**keys, context="rewriting", prompt=prompt, chat=chat)


def _head(config: Config, wildcards: Wildcards) -> StageSettings:
    return HeadSettings(dtype=config.models.dtype)


def _distill(config: Config, wildcards: Wildcards) -> StageSettings:
    """How the round trains, with its own learning rate."""
    branch = _branch(config, wildcards)
    keys = dict(_part(Training, branch.distill))
    keys["learning_rate"] *= branch.distill.round_decay ** (int(wildcards["round"]) - 1)
    keys |= {"divergence": branch.method.divergence, "seed": int(wildcards["seed"])}
    return distill_settings(branch.distill, keys)


def _answers(config: Config, wildcards: Wildcards) -> StageSettings:
    """How benchmarks are answered; an untrained method asks for brevity."""
    chat = _part(PromptChat, config.chat)
    if wildcards["method"] != BASE and not _branch(config, wildcards).method.trained:
        chat = chat.model_copy(update={"prompt": config.chat.concise})
    return AnswersSettings(
        **dict(_part(GenerationEngineChoice, config.evaluate)),
        benchmarks=_decodings(config),
        chat=dict(chat),
        dtype=config.models.dtype,
        seed=int(wildcards["seed"]),
    )


def _evaluate(config: Config, wildcards: Wildcards) -> StageSettings:
    """How answers are read, and the largest budget of each benchmark."""
    limits = {
        name: TokenLimit(max_new_tokens=decoding.max_new_tokens)
        for name, decoding in _decodings(config).items()
    }
    return EvaluateSettings(benchmarks=limits, chat=_part(ReadingChat, config.chat))


def _report(config: Config, wildcards: Wildcards) -> StageSettings:
    """What the report says of methods and benchmarks beside what their files have."""
    methods = {name: config.branches[name].method for name in config.methods}
    return ReportSettings(
        **dict(config.report),
        samplers={name: method.sampler for name, method in methods.items()},
        contexts={name: method.context for name, method in methods.items()},
        given=config.sample.trajectories is not None,
        max_new_tokens={
            name: decoding.max_new_tokens for name, decoding in _decodings(config).items()
        },
    )


def _branch(config: Config, wildcards: Wildcards) -> Branch:
    return config.branches[wildcards["method"]]


def _decodings(config: Config) -> dict[str, Decoding]:
    """How each benchmark is decoded, the development split first."""
    common = _part(Decoding, config.evaluate)
    decodings = {DEV: common}
    for benchmark in config.problems.benchmarks:
        keys = {name: getattr(benchmark, name) for name in Decoding.model_fields}
        changes = {name: value for name, value in keys.items() if value is not None}
        decodings[benchmark.name] = common.model_copy(update=changes)
    return decodings


@dataclass(frozen=True)
class Rule:
    """A rule of the workflow: the model of its jobs' settings, or a union, and its function."""

    settings: Any
    build: Callable[[Config, Wildcards], StageSettings]


# In the order of the workflow.
RULES = {
    "models": Rule(ModelsSettings, _models),
    "problems": Rule(TrainingProblems, _problems),
    "benchmark_problems": Rule(BenchmarkProblems, _benchmark_problems),
    "sample": Rule(SampleSettings, _sample),
    "bank": Rule(BankSettings, _bank),
    "compress": Rule(CompressSettings, _compress),
    "filter": Rule(FilterSettings, _filter),
    "logits": Rule(LogitsSettings, _logits),
    "head": Rule(HeadSettings, _head),
    "distill": Rule(AnyDistillSettings, _distill),
    "answers": Rule(AnswersSettings, _answers),
    "evaluate": Rule(EvaluateSettings, _evaluate),
    "report": Rule(ReportSettings, _report),
}
