"""What a setting of a stage comes from, in words."""

import pytest

from mpd.config.keys import key_of

ASKED = "compress.prompt or compress.refine or compress.structure"
REWRITING = {"rewriter": "teacher", "prompt": "{problem} {trajectory}"}


@pytest.mark.parametrize(
    ("rule", "settings", "path", "words"),
    [
        ("filter", {}, "max_ratio", "filter.max_ratio"),
        ("filter", {}, "kept", "kept of the method"),
        ("filter", {}, "chat.close", "chat.close"),
        ("sample", {}, "dtype", "models.dtype"),
        ("sample", {}, "seed", "seed of the branch"),
        ("sample", {}, "engine_arguments.a.b", "sample.engine_arguments.a.b"),
        ("sample", {"trajectories": "own.jsonl"}, "chat.open", "chat.open"),
        ("compress", REWRITING, "prompt", ASKED),
        ("compress", {"rewriter": "none"}, "rewriter", "rewriter of the method"),
        # Another kind of settings had this one.
        ("compress", {"rewriter": "none"}, "temperature", "compress.temperature"),
        ("logits", {"context": "concise", "prompt": ""}, "prompt", "chat.concise"),
        (
            *("logits", {"context": "rewriting", "prompt": ""}, "prompt"),
            "compress.prompt or compress.refine or compress.structure",
        ),
        ("distill", {}, "learning_rate", "distill.learning_rate or distill.round_decay"),
        ("distill", {}, "lora", "distill.lora"),
        ("distill", {}, "lora.rank", "distill.lora.rank"),
        ("problems", {}, "train.path", "problems.train.path or problems.path"),
        ("problems", {}, "train.form", "problems.train.form"),
        ("report", {}, "samplers.mpd", "sampler of the method mpd"),
        ("report", {}, "given", "sample.trajectories"),
        ("head", {}, "dtype", "models.dtype"),
        ("filter", {}, "heat", "heat"),
    ],
    ids=str,
)
def test_a_setting_is_named_by_its_key(rule, settings, path, words):
    assert key_of(rule, settings, path) == words


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_model_is_that_of_its_role(role):
    assert key_of("models", {}, "num_steps", role=role) == f"models.{role}.num_steps"


@pytest.mark.parametrize(
    ("rule", "path", "benchmark", "words"),
    [
        (
            *("answers", "temperature", "hard"),
            "benchmark hard: evaluate.temperature or problems.benchmarks.temperature",
        ),
        # The development split is no entry of problems.benchmarks.
        ("answers", "temperature", "dev", "benchmark dev: evaluate.temperature"),
        ("answers", "chat.prompt", "hard", "chat.prompt or chat.concise"),
        ("answers", "engine", "hard", "evaluate.engine"),
        (
            *("evaluate", "max_new_tokens", "hard"),
            "benchmark hard: evaluate.max_new_tokens or problems.benchmarks.max_new_tokens",
        ),
        (
            *("report", "max_new_tokens.hard", ""),
            "benchmark hard: evaluate.max_new_tokens or problems.benchmarks.max_new_tokens",
        ),
        ("benchmark_problems", "answer", "hard", "benchmark hard: problems.benchmarks.answer"),
        ("benchmark_problems", "seed", "hard", "problems.seed"),
    ],
)
def test_a_setting_of_a_benchmark_is_named_with_it(rule, path, benchmark, words):
    assert key_of(rule, {}, path, benchmark=benchmark) == words
