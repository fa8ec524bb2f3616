"""docs/config.md: current, and right about the stages whose settings a key is in."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from mpd.config import Config, parse_config, reference
from mpd.config.words import type_of
from tests.config.test_config import ANYWHERE, COPSD, HASH, changed, text_of

REPOSITORY = Path(__file__).parents[2]


def test_the_reference_is_current() -> None:
    written = (REPOSITORY / "docs/config.md").read_text()
    assert written == reference.config_reference(), (
        "run: python -m mpd.config.reference > docs/config.md"
    )


def test_every_key_of_config_yaml_is_in_the_reference() -> None:
    text = reference.config_reference()
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    inner = [key for part in raw.values() if isinstance(part, dict) for key in part]
    assert [key for key in inner if f"`{key}`" not in text and f".{key}" not in text] == []
    assert [key for key in raw if f"`{key}`" not in text and f"## {key}\n" not in text] == []


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a field of the configuration may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections(argument)


def keys(model: type[BaseModel], section: str = "") -> Iterator[str]:
    """Everything that config.yaml can set, such as problems.train.path."""
    for name, field in model.model_fields.items():
        key = f"{section}.{name}".lstrip(".")
        inner = list(sections(field.annotation))
        for part in inner:
            yield from keys(part, key)
        if not inner:
            yield key


# Every method, and what mpd is with each other context.
ALL = {
    "methods": [*ANYWHERE, "concise", "rewriting", "structured"],
    "custom": [
        {
            "name": "structured",
            "like": "mpd",
            "axes": {"context": "rewriting", "instruction": "structure"},
        },
        *(
            {"name": context, "like": "mpd", "axes": {"context": context}}
            for context in ("concise", "rewriting")
        ),
    ],
    "chat__think": "none",
}
GIVEN = {"sample__trajectories": "own.jsonl"}
HUB = {"source": "hub", "path": "a/b", "revision": HASH}
STEPS = {"distill__budget": "steps", "distill__amount": 5}
GYM = {"source": "reasoning_gym", "task": "chain_sum", "num_problems": 5}
MIX = {"source": "reasoning_gym", "tasks": [{"task": "chain_sum"}], "num_problems": 5}
OWN_DEV = {"problems__num_dev": None}
BANK = {
    "models__embedder": HUB,
    "compress__bank": {},
    "methods": ["drpc"],
    "custom": [],
}
SECTION = "the whole section"
# Another value of each key; of some with what has to be set before. SECTION: all of its section.
EDITS: dict[str, Any] = {
    **{
        f"models.{role}.{key}": (value, {f"models__{role}": source})
        for role in ("student", "teacher")
        for key, value, source in [
            ("source", {SECTION: {"source": "gguf", "path": "a"}}, {"source": "tiny"}),
            ("num_steps", 9, {"source": "tiny"}),
            ("world", "stories", {"source": "tiny"}),
            ("path", "b", {"source": "folder", "path": "a"}),
            ("revision", "1" * 40, HUB),
        ]
    },
    "models.embedder.source": ({SECTION: {"source": "folder", "path": "a"}}, BANK),
    "models.embedder.path": ("b", BANK),
    "models.embedder.revision": ("1" * 40, BANK),
    "models.dtype": "bfloat16",
    "chat.prompt": "Q: {problem}",
    "chat.concise": "Brief: {problem}",
    "chat.thinking": False,
    "chat.think": "tags",
    "chat.open": "[think]",
    "chat.close": "[/think]",
    "chat.date": "2025-01-31",
    "problems.path": "new.jsonl",
    "problems.num_train": 5,
    "problems.num_dev": 5,
    "problems.num_shards": 2,
    "problems.seed": 1,
    "problems.on_bad_row": "drop",
    **{
        f"problems.{place}.{key}": (
            value,
            {f"problems__{place.replace('.', '__')}": source, **more},
        )
        for place, source, more in [
            ("train", {"source": "hub", "path": "a", "revision": HASH}, {}),
            ("dev", {"source": "hub", "path": "a", "revision": HASH}, OWN_DEV),
            ("benchmarks.0", {"name": "one", "source": "hub", "path": "a", "revision": HASH}, {}),
        ]
        for key, value in [
            ("path", "b"),
            ("config", "main"),
            ("split", "test"),
            ("revision", "1" * 40),
            ("question", "q"),
            ("answer", "a"),
            ("form", "hash"),
        ]
    },
    "problems.train.original": ("other", COPSD),
    "problems.train.solution": ("other", COPSD),
    "chat.solution": ("{problem} {original} {solution}", COPSD),
    "distill.max_entry": (0.1, COPSD),
    "problems.train.source": {SECTION: {"source": "tiny", "num_problems": 5}},
    "problems.train.world": (
        "stories",
        {"problems__train": {"source": "tiny", "num_problems": 5}},
    ),
    "problems.train.num_problems": (6, {"problems__train": {"source": "tiny", "num_problems": 5}}),
    "problems.train.curriculum": (
        "add",
        {
            "problems__train": {**GYM, "levels": [0, 1], "curriculum": "replace"},
            "methods": ["mpd", "sft"],
        },
    ),
    "problems.dev.source": (
        {SECTION: {"source": "tiny", "num_problems": 5}},
        {"problems__dev": {"source": "file"}, **OWN_DEV},
    ),
    "problems.dev.world": (
        "stories",
        {"problems__dev": {"source": "tiny", "num_problems": 5}, **OWN_DEV},
    ),
    "problems.dev.num_problems": (5, {"problems__dev": {"source": "file"}, **OWN_DEV}),
    **{
        f"problems.{place}.{key}": (
            value,
            {f"problems__{place.replace('.', '__')}": source, **more},
        )
        for place, name, more in [
            ("train", {}, {}),
            ("dev", {}, OWN_DEV),
            ("benchmarks.0", {"name": "one"}, {}),
        ]
        for key, value, source in [
            ("task", "gcd", {**name, **GYM}),
            ("levels", [1], {**name, **GYM}),
            ("settings", {"max_terms": 3}, {**name, **GYM}),
            *(
                (f"tasks.0.{key}", value, {**name, **MIX})
                for key, value in [
                    ("task", "gcd"),
                    ("levels", [1]),
                    ("settings", {"max_terms": 3}),
                    ("weight", 2.0),
                ]
            ),
        ]
    },
    "problems.benchmarks.0.source": {SECTION: {"name": "one", "source": "tiny", "num_problems": 5}},
    "problems.benchmarks.0.world": (
        "stories",
        {"problems__benchmarks__0": {"name": "one", "source": "tiny", "num_problems": 5}},
    ),
    "problems.benchmarks.0.num_problems": 5,
    "problems.benchmarks.0.name": "other",
    "problems.benchmarks.0.num_samples": 3,
    "problems.benchmarks.0.temperature": 0.5,
    "problems.benchmarks.0.top_p": 0.5,
    "problems.benchmarks.0.top_k": 5,
    "problems.benchmarks.0.max_new_tokens": 5,
    **{
        f"{stage}.{key}": value
        for stage in ("sample", "compress", "evaluate")
        for key, value in [
            ("engine", "vllm"),
            ("engine_arguments", ({"seed": 1}, {f"{stage}__engine": "vllm"})),
            ("num_samples", 3),
            ("temperature", 0.5),
            ("top_p", 0.5),
            ("top_k", 5),
            ("max_new_tokens", 5),
        ]
    },
    "sample.trajectories": ("other.jsonl", {"methods": ["mpd"]}),
    "compress.prompt": "{problem} {trajectory} shorter",
    "compress.refine": "{problem} {trajectory} better",
    "compress.structure": "{problem} in steps",
    "compress.route": ("{problem} along {route}", BANK),
    "compress.bank.eps": (0.5, BANK),
    "compress.bank.dimensions": (2, BANK),
    "compress.bank.near_duplicate": (0.5, BANK),
    "compress.bank.flush": (5, BANK),
    "compress.thinking": True,
    "filter.min_ratio": 0.5,
    "filter.max_ratio": 0.5,
    "filter.max_overlap": 0.5,
    "filter.max_tokens": 5,
    "filter.leaks": ["the solution"],
    "filter.copies": "drop",
    "filter.max_repeats": 5,
    "logits.engine": ("vllm", {"logits": {"support": "teacher", "tail_buckets": 1}}),
    "logits.engine_arguments": (
        {"seed": 1},
        {"logits": {"engine": "vllm", "support": "teacher", "tail_buckets": 1}},
    ),
    "logits.cache": ("hidden", {"methods": ["mpd"]}),
    "logits.support": "teacher",
    "logits.top_k": 5,
    "logits.student_top_k": 5,
    "logits.min_contribution": 0.5,
    "logits.tail_buckets": 5,
    "distill.learning_rate": 0.5,
    "distill.round_decay": 0.5,
    "distill.schedule": "cosine",
    "distill.warmup": 0.5,
    "distill.budget": ("tokens", STEPS),
    "distill.epochs": 5.0,
    "distill.amount": (6, STEPS),
    "distill.batch_size": 5,
    "distill.beta": 0.25,
    "distill.forward_share": 0.25,
    "distill.tail": ("truncated", {"methods": ["mpd"]}),
    "distill.temperature": (2.0, {"methods": ["mpd"], "logits__cache": "hidden"}),
    "distill.merge_stop_ids": (True, {"methods": ["mpd"]}),
    "distill.loss": "sequence_mean",
    "distill.weight_decay": 0.5,
    "distill.betas": [0.5, 0.5],
    "distill.max_gradient_norm": 0.5,
    "distill.mixed_precision": "bf16",
    "distill.lora.rank": (4, {"distill__lora": {}}),
    "distill.lora.alpha": (4.0, {"distill__lora": {}}),
    "distill.lora.dropout": (0.5, {"distill__lora": {}}),
    "distill.lora.targets": (["q_proj"], {"distill__lora": {}}),
    "distill.relaxed.mixture": (0.5, {"distill__relaxed": {}}),
    "distill.relaxed.floor": ("scaled_log", {"distill__relaxed": {}}),
    "distill.relaxed.exploration": (0.25, {"distill__relaxed": {}}),
    "distill.relaxed.entropy_share": (0.5, {"distill__relaxed": {}}),
    "distill.relaxed.importance_ratio": (False, {"distill__relaxed": {}}),
    "distill.fixed_advantage.max_probability": (0.5, {"distill__fixed_advantage": {}}),
    "distill.fixed_advantage.advantage": (-0.5, {"distill__fixed_advantage": {}}),
    "distill.min_kept": 5,
    "report.max_accuracy_drop": 0.5,
}
# Of which no stage has a setting: the reference says in words what they do.
ELSEWHERE = ("experiment", "methods", "custom", "seeds", "rounds", "store", "resources")


def texts_of(config: Config) -> dict[str, list[str]]:
    """By stage the settings of all its jobs."""
    embedder = ["embedder"] if config.models.embedder else []
    texts = {
        "models": [
            text_of(config, "models", role=role)
            for role in ("teacher", "student_seed_0", *embedder)
        ],
        "problems": [
            text_of(config, "problems"),
            *(
                text_of(config, "benchmark_problems", benchmark=benchmark.name)
                for benchmark in config.problems.benchmarks
            ),
        ],
        **{rule: [text_of(config, rule)] for rule in ("head", "evaluate", "report")},
    }
    for rule in ("sample", "bank", "compress", "filter", "logits", "distill", "answers"):
        texts[rule] = [
            text_of(config, rule, method=method, seed=0, round=round)
            for method in config.methods
            for round in (1, 2)
        ]
    return texts


def changed_stages(base: dict[str, Any], key: str, value: Any) -> set[str]:
    """The stages of which an edit changes some settings."""
    place = key.replace(".", "__")
    if isinstance(value, dict) and SECTION in value:
        place, value = place.rpartition("__")[0], value[SECTION]
    edits = copy.deepcopy(base), {**copy.deepcopy(base), place: value}
    before, after = (texts_of(parse_config(changed(**edit))) for edit in edits)
    return {stage for stage in before if before[stage] != after[stage]}


def test_settings_come_from_keys_that_there_are() -> None:
    assert set(reference.readers()) <= set(keys(Config))


def test_every_key_has_an_edit() -> None:
    stems = {key.replace(".0.", ".") for key in EDITS}
    assert stems == {key for key in keys(Config) if key.partition(".")[0] not in ELSEWHERE}


@pytest.mark.parametrize("key", EDITS)
def test_the_stages_of_a_key_are_those_whose_settings_it_is_in(key: str, fake_gym: None) -> None:
    edit = EDITS[key]
    value, base = edit if isinstance(edit, tuple) else (edit, {})
    stages = changed_stages({**ALL, **base}, key, value)
    # Given trajectories are a student's.
    of_student = {**base, **GIVEN, "methods": ["mpd"], "chat__think": "none", "custom": []}
    if key != "problems.train.curriculum":  # it chooses the problems of round 1
        stages |= changed_stages(of_student, key, value)
    words = reference.stages_of(key.replace(".0.", "."))
    assert stages == set(re.sub(r" \(.*?\)| is visited.*", "", words).split(", "))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("chat.date", "sample, compress (where the teacher rewrites), logits (with context: "
         "concise; with context: rewriting; with context: solution), answers"),
        ("chat.concise", "logits (with context: concise), answers (for untrained methods)"),
        ("chat.open", "sample, compress"),
        ("compress.refine", "compress (for methods that refine), logits (with context: "
         "rewriting, for methods that refine)"),
        ("distill.round_decay", "distill (from round 2 on)"),
        ("distill.min_kept", "distill is visited; its result stays"),
        ("problems.benchmarks", "problems, answers, evaluate, report"),
        ("models.student", "models"),
        ("compress.bank", "bank"),
        ("compress.route", "compress (for structural rationales with a bank, from round 2 on)"),
        ("seeds", "jobs of new branches, report"),
        ("custom.axes", "jobs of the row"),
        ("resources.sample.batch_size", "nothing"),
    ],
)  # fmt: skip
def test_stages_are_said_with_their_conditions(key: str, words: str) -> None:
    assert reference.stages_of(key) == words


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1}, "integer, at least 1"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number, above 0, at most 1"),
        ({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, "`a`, `b` or null"),
        ({"type": "array", "items": {"type": "string"}}, "list of text"),
        ({"$ref": "#/$defs/Lora"}, "section"),
    ],
)
def test_types_in_words(schema: dict, words: str) -> None:
    assert type_of(schema) == words
