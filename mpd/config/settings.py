"""What each stage is told: of the validated configuration, what gives its result its meaning.

`resources` are left out, since they cannot change a result: they stand in the rules.
"""

import json
from typing import Any

from mpd.config.base import Section
from mpd.config.branches import Branch
from mpd.config.config import Config
from mpd.config.generation import Decoding
from mpd.config.problems import Source


def stage_settings(config: Config, stage: str, **of: Any) -> str:
    """The settings of one stage as JSON: everything that gives its result its meaning.

    `of` narrows them down where the stage needs it: `role` and `seed` for models, `benchmark`
    for a benchmark's problems, `method` for what the method grid decides, `round` for distill.
    """
    settings = _SETTINGS[stage](config, **of)
    return json.dumps(settings, sort_keys=True)


def _dump(section: Section, *without: str) -> dict[str, Any]:
    return section.model_dump(mode="json", exclude=set(without))


def _models(config: Config, role: str) -> dict[str, Any]:
    settings = _dump(config.models.teacher if role == "teacher" else config.models.student)
    if settings["source"] == "tiny":
        settings["role"] = role.split("_")[0]
        # The embedded world trains its base student, so that has a seed.
        settings["seed"] = 0 if role == "teacher" else int(role.removeprefix("student_seed_"))
    return settings


def problem_sources(config: Config) -> list[dict[str, Any]]:
    """The source of the training problems and those of the benchmarks, paths filled in."""
    problems = config.problems
    return [_source(config, source) for source in (problems.train, *problems.benchmarks)]


def _source(config: Config, source: Source) -> dict[str, Any]:
    settings = {name: getattr(source, name) for name in Source.model_fields}
    if source.source != "tiny":
        settings["path"] = source.path or config.problems.path
    return settings


def train_source(config: Config) -> dict[str, Any]:
    """The source of the training problems, its path filled in."""
    return _source(config, config.problems.train)


def benchmark_source(config: Config, name: str) -> dict[str, Any]:
    """The source of a benchmark, its path filled in."""
    found = next(entry for entry in config.problems.benchmarks if entry.name == name)
    return _source(config, found)


def _benchmark(config: Config, benchmark: str) -> dict[str, Any]:
    return {**benchmark_source(config, benchmark), "seed": config.problems.seed}


def _problems(config: Config) -> dict[str, Any]:
    rest = _dump(config.problems, "train", "benchmarks", "path")
    return {**rest, "train": train_source(config)}


def _chat(config: Config, *keys: str) -> dict[str, Any]:
    """The keys of `chat` that a stage needs; see mpd.chat.ChatFormat."""
    return {key: getattr(config.chat, key) for key in keys}


def _rendering(config: Config, *keys: str) -> dict[str, Any]:
    """Those of a stage that renders prompts: with the date, where one is set."""
    date = {"date": config.chat.date} if config.chat.date else {}
    return {**_chat(config, *keys), **date}


def _sample(config: Config, method: str, round: int, seed: int) -> dict[str, Any]:
    branch = config.branches[method]
    own = branch.sample.trajectories
    if own and round == 1:  # the user's trajectories are not those of a later student
        chat = _rendering(config, "prompt", "thinking", "think", "open", "close")
        return {"trajectories": own, "chat": chat}
    decoding = {**_dump(branch.sample), "trajectories": None}
    chat = _rendering(config, "prompt", "thinking")
    # A student is another one in each round; the teacher stays and is to say something else.
    drawn = f"{seed}.{round}" if branch.method.sampler == "teacher" else seed
    return {**decoding, "chat": chat, "dtype": config.models.dtype, "seed": drawn}


def _compress(config: Config, method: str, seed: int) -> dict[str, Any]:
    branch = config.branches[method]
    row = branch.method
    keys = "think", "open", "close"
    if row.rewriter == "none":
        return {"rewriter": "none", "sampler": row.sampler, "chat": _chat(config, *keys)}
    own = _dump(branch.compress, "refine")
    return {
        **own,
        "prompt": _rewriting_prompt(branch),
        "rewriter": row.rewriter,
        "sampler": row.sampler,
        "chat": _rendering(config, *keys),
        "dtype": config.models.dtype,
        "seed": seed,
    }


def _rewriting_prompt(branch: Branch) -> str:
    refines = branch.method.instruction == "refine"
    return branch.compress.refine if refines else branch.compress.prompt


def _filter(config: Config, method: str) -> dict[str, Any]:
    branch = config.branches[method]
    row, own = branch.method, _dump(branch.filter)
    chat = _chat(config, "think", "close")
    asked = {"rewriter": row.rewriter, "instruction": row.instruction}
    return {**own, "kept": row.kept, **asked, "chat": chat}


def _logits(config: Config, method: str) -> dict[str, Any]:
    branch = config.branches[method]
    context = branch.method.context
    settings = {**_dump(branch.logits), "context": context, "dtype": config.models.dtype}
    if context == "problem":
        return {**settings, "chat": _chat(config, "think", "close")}
    concise, rewriting = config.chat.concise, _rewriting_prompt(branch)
    chat = _rendering(config, "think", "close", "thinking")
    return {**settings, "chat": chat, "prompt": concise if context == "concise" else rewriting}


def _distill(config: Config, method: str, round: int, seed: int) -> dict[str, Any]:
    branch = config.branches[method]
    own = _dump(branch.distill, "round_decay")
    own["learning_rate"] *= branch.distill.round_decay ** (round - 1)
    return {**own, "divergence": branch.method.divergence, "seed": seed}


def _decodings(config: Config) -> dict[str, dict[str, Any]]:
    """How each benchmark is decoded, the development split first."""
    common = {key: getattr(config.evaluate, key) for key in Decoding.model_fields}
    decodings = {"dev": common}
    for benchmark in config.problems.benchmarks:
        changed = {key: getattr(benchmark, key) for key in common}
        own = {key: value for key, value in changed.items() if value is not None}
        decodings[benchmark.name] = {**common, **own}
    return decodings


def _answers(config: Config, method: str, seed: int) -> dict[str, Any]:
    engine = _dump(config.evaluate, *Decoding.model_fields)
    chat = _rendering(config, "prompt", "thinking")
    if method != "base" and not config.branches[method].method.trained:
        chat["prompt"] = config.chat.concise
    rest = {"chat": chat, "dtype": config.models.dtype, "seed": seed, **engine}
    return {"benchmarks": _decodings(config), **rest}


def _evaluate(config: Config) -> dict[str, Any]:
    limits = {
        name: {"max_new_tokens": of["max_new_tokens"]} for name, of in _decodings(config).items()
    }
    return {"benchmarks": limits, "chat": _chat(config, "think", "close")}


def _report(config: Config) -> dict[str, Any]:
    given = config.sample.trajectories is not None  # no one drew the first round's samples
    methods = {name: config.branches[name].method for name in config.methods}
    samplers = {name: method.sampler for name, method in methods.items()}
    limits = {name: of["max_new_tokens"] for name, of in _decodings(config).items()}
    contexts = {name: method.context for name, method in methods.items()}
    told = {"samplers": samplers, "given": given, "max_new_tokens": limits, "contexts": contexts}
    return {**_dump(config.report), **told}


def _head(config: Config) -> dict[str, Any]:
    return {"dtype": config.models.dtype}


_SETTINGS: dict[str, Any] = {
    "head": _head,
    "models": _models,
    "benchmark": _benchmark,
    "problems": _problems,
    "sample": _sample,
    "compress": _compress,
    "filter": _filter,
    "logits": _logits,
    "distill": _distill,
    "answers": _answers,
    "evaluate": _evaluate,
    "report": _report,
}
