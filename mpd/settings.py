"""What each stage is told: of the validated configuration, what gives its result its meaning.

`resources` are left out, since they cannot change a result: they stand in the rules.
"""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpd.config import Config, Decoding, Section, Source


def model_files(source: Mapping[str, Any]) -> list[Path]:
    """The local files that a model comes from; none for the hub and the embedded world.

    Raises ValueError where they are missing.
    """
    if source["source"] == "folder":
        folder = Path(source["path"])
        kinds = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
        files = sorted(path for kind in kinds for path in folder.glob(kind))
        if not files:
            raise ValueError(f"{folder}: no model folder; give one with safetensors weights")
        return [path for path in files if path.name != "manifest.json"]
    if source["source"] == "gguf":
        path = Path(source["path"])
        if source["path"].startswith("package:"):
            package, _, name = source["path"].removeprefix("package:").partition("/")
            found = importlib.util.find_spec(package)
            if found is None or not found.submodule_search_locations:
                raise ValueError(f"{source['path']}: no such package; pip install {package}")
            path = Path(found.submodule_search_locations[0]) / name
        if not path.is_file():
            raise ValueError(f"{path}: no such GGUF file; mend models.*.path")
        return [path]
    return []


def problem_files(source: Mapping[str, Any]) -> list[Path]:
    """The local file that problems come from; none for the hub and the embedded world.

    Raises ValueError where it is missing or empty, or `datasets` would take its path for another.
    """
    if source["source"] != "file":
        return []
    path = Path(source["path"])
    odd = next((sign for sign in ("$", "::") if sign in str(path.absolute())), None)
    if odd:
        raise ValueError(
            f"{path.absolute()}: the library datasets reads no path with {odd} in it; rename the "
            "file or its folder"
        )
    if not path.is_file() or not path.stat().st_size:
        state = "an empty file" if path.is_file() else "no such file"
        raise ValueError(f"{path}: {state}; mend the path of this problem source in the config")
    return [path]


def stage_settings(config: Config, stage: str, **of: Any) -> str:
    """The settings of one stage as JSON: everything that gives its result its meaning.

    `of` narrows them down where the stage needs it: `role` and `seed` for models, `benchmark`
    for a benchmark's problems, `method` for what the method grid decides, `round` for distill.
    """
    settings = _SETTINGS[stage](config.of(of["method"]) if "method" in of else config, **of)
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
    own = config.sample.trajectories
    if own and round == 1:  # the user's trajectories are not those of a later student
        chat = _rendering(config, "prompt", "thinking", "think", "open", "close")
        return {"trajectories": own, "chat": chat}
    decoding = {**_dump(config.sample), "trajectories": None}
    chat = _rendering(config, "prompt", "thinking")
    # A student is another one in each round; the teacher stays and is to say something else.
    drawn = f"{seed}.{round}" if config.method(method).sampler == "teacher" else seed
    return {**decoding, "chat": chat, "dtype": config.models.dtype, "seed": drawn}


def _compress(config: Config, method: str, seed: int) -> dict[str, Any]:
    row = config.method(method)
    keys = "think", "open", "close"
    if row.rewriter == "none":
        return {"rewriter": "none", "sampler": row.sampler, "chat": _chat(config, *keys)}
    own = _dump(config.compress, "refine")
    return {
        **own,
        "prompt": _rewriting_prompt(config, method),
        "rewriter": row.rewriter,
        "sampler": row.sampler,
        "chat": _rendering(config, *keys),
        "dtype": config.models.dtype,
        "seed": seed,
    }


def _rewriting_prompt(config: Config, method: str) -> str:
    refines = config.method(method).instruction == "refine"
    return config.compress.refine if refines else config.compress.prompt


def _filter(config: Config, method: str) -> dict[str, Any]:
    row, own = config.method(method), _dump(config.filter)
    chat = _chat(config, "think", "close")
    asked = {"rewriter": row.rewriter, "instruction": row.instruction}
    return {**own, "kept": own["kept"] or row.kept, **asked, "chat": chat}


def _logits(config: Config, method: str) -> dict[str, Any]:
    context = scorer_context(config, method)
    settings = {**_dump(config.logits), "context": context, "dtype": config.models.dtype}
    if context == "problem":
        return {**settings, "chat": _chat(config, "think", "close")}
    concise, rewriting = config.chat.concise, _rewriting_prompt(config, method)
    chat = _rendering(config, "think", "close", "thinking")
    return {**settings, "chat": chat, "prompt": concise if context == "concise" else rewriting}


def scorer_context(config: Config, method: str) -> str:
    """What the scorer of a method sees; `config` is that of its branch."""
    return config.logits.context or config.method(method).context


def _distill(config: Config, method: str, round: int, seed: int) -> dict[str, Any]:
    own = _dump(config.distill, "round_decay")
    own["learning_rate"] *= config.distill.round_decay ** (round - 1)
    own["divergence"] = own["divergence"] or config.method(method).divergence
    return {**own, "seed": seed}


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
    if method != "base" and not config.method(method).trained:
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
    samplers = {name: config.method(name).sampler for name in config.methods}
    limits = {name: of["max_new_tokens"] for name, of in _decodings(config).items()}
    contexts = {name: scorer_context(config.of(name), name) for name in config.methods}
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
