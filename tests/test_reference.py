"""docs/config.md: current, and right about what a key is part of."""

from pathlib import Path

import pytest
import yaml

from mpd import reference
from mpd.config import parse_config
from mpd.methods import METHODS
from mpd.settings import stage_settings

REPOSITORY = Path(__file__).parents[1]
BRANCH = {"method": "mpd", "round": 2, "seed": 0}
WANTED = {
    "models": {"role": "teacher"},
    "problems": {},
    "sample": BRANCH,
    "compress": {"method": "mpd", "seed": 0},
    "filter": {"method": "mpd"},
    "logits": {"method": "mpd"},
    "distill": BRANCH,
    "answers": {"method": "mpd", "seed": 0},
    "evaluate": {},
    "report": {},
    "head": {},
}


def test_the_reference_is_current() -> None:
    written = (REPOSITORY / "docs/config.md").read_text()
    assert written == reference.markdown(), "run: python -m mpd.reference > docs/config.md"


def changed_stages(key: str, value: object) -> set[str]:
    """The stages whose settings an edit of the embedded world's configuration changes."""
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    before = parse_config(raw)
    *sections, last = key.split(".")
    place = raw
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    after = parse_config(raw)
    return {
        stage
        for stage, of in WANTED.items()
        if stage_settings(before, stage, **of) != stage_settings(after, stage, **of)
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("models.teacher", {"source": "tiny", "num_steps": 1}),
        ("models.dtype", "bfloat16"),
        ("chat.prompt", "{problem} "),
        ("chat.open", "<think> "),
        ("chat.close", " </think>"),
        ("problems.num_train", 1),
        ("problems.num_shards", 2),
        ("sample.temperature", 0.5),
        ("compress.max_new_tokens", 1),
        ("filter.max_repeats", 1),
        ("logits.top_k", 1),
        ("distill.epochs", 1.0),
        ("evaluate.top_k", 1),
        ("evaluate.max_new_tokens", 1),
        ("report.max_accuracy_drop", 0.5),
    ],
)
def test_the_stages_of_a_key_are_those_whose_settings_it_is_in(key: str, value: object) -> None:
    assert changed_stages(key, value) == set(reference.stages_of(key).split(", "))


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [
        ("chat.think", "none", {"compress", "filter", "logits", "evaluate"}),
        ("chat.date", "2025-01-31", {"sample", "compress", "answers"}),
        ("distill.round_decay", 0.25, {"distill"}),
        ("distill.min_kept", 2, {"distill"}),
        ("sample.trajectories", "own.jsonl", {"report"}),  # another round than the first
        ("resources.sample", {"batch_size": 1}, set()),
        ("store", "refresh", set()),
    ],
)
def test_stages_that_the_reference_has_in_words(key: str, value: object, stages: set[str]) -> None:
    assert changed_stages(key, value) == stages


def test_thinking_is_part_of_scores_under_another_than_the_plain_prompt() -> None:
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    plain = {**raw["chat"], "think": "none"}
    configs = [parse_config({**raw, "chat": {**plain, "thinking": on}}) for on in (True, False)]
    told = {
        name: {stage_settings(config, "logits", method=name) for config in configs}
        for name, method in METHODS.items()
        if method.trained
    }
    differ = {name for name, settings in told.items() if len(settings) > 1}
    assert differ == {name for name in told if METHODS[name].context != "problem"}
    assert reference.stages_of("chat.thinking").endswith("; logits but of context: problem")


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
    assert reference.type_of(schema) == words


def test_every_key_of_config_yaml_is_in_the_reference() -> None:
    text = reference.markdown()
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    inner = [key for part in raw.values() if isinstance(part, dict) for key in part]
    assert [key for key in inner if f"`{key}`" not in text and f".{key}" not in text] == []
    assert [key for key in raw if f"`{key}`" not in text and f"## {key}\n" not in text] == [
        "resources"  # a table for each stage
    ]
