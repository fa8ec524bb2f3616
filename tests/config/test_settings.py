"""What the stages publish with: results that were computed before are found by it again."""

import hashlib
import json

import pytest

from mpd.config import parse_config
from mpd.config.methods import METHODS
from mpd.config.stages import stage_settings
from tests.config.test_config import changed

HUB = {"source": "hub", "path": "a/b", "revision": "0" * 40}
CONFIGS = {
    "plain": {},
    "no tags": {"chat__think": "none", "chat__thinking": False},
    "a day": {"chat__date": "2025-01-31", "models__dtype": "bfloat16"},
    "hub models": {"models__student": HUB, "models__teacher": {"source": "folder", "path": "a"}},
    "hub data": {"problems__train": {**HUB, "config": "main", "split": "train[:9]"}},
    "LoRA": {"distill__lora": {"rank": 4}, "distill__budget": "steps", "distill__amount": 9},
    "vLLM": {"sample__engine": "vllm", "sample__engine_arguments": {"quantization": "fp8"}},
    "axes": {
        "custom": [
            {
                "name": "mpd",
                "like": "mpd",
                "axes": {"kept": "all", "context": "concise", "divergence": "mix"},
                "logits": {"top_k": 4, "min_contribution": 0},
                "distill": {"tail": "truncated"},
            }
        ]
    },
}
BRANCH = {"seed": 3}
JOBS = {
    "models": [{"role": "teacher"}, {"role": "student_seed_3"}],
    "problems": [{}],
    "benchmark_problems": [{"benchmark": "one"}, {"benchmark": "two"}],
    "sample": [{**BRANCH, "round": 1}, {**BRANCH, "round": 2}],
    "compress": [BRANCH],
    "filter": [{}],
    "logits": [{}],
    "distill": [{**BRANCH, "round": 1}, {**BRANCH, "round": 2}],
    "answers": [BRANCH],
    "evaluate": [{}],
    "report": [{}],
    "head": [{}],
}
# The methods that DIGESTS are of. Others, which came later, have one digest each below.
FIRST = ("mpd", "opd", "off_policy", "sft", "sft_rewrites", "trd", "opsdc", "prompt_only")
OF_A_METHOD = ("sample", "compress", "filter", "logits", "distill", "answers")
# After a deliberate change, which computes results again: the digests that the test reports.
DIGESTS = {
    "models": "46972822d0bbae42",
    "problems": "e27ca6464de133ea",
    "benchmark_problems": "97245c690ff298a6",
    "sample": "faa93e18cb3c7ef0",
    "compress": "1596aa816fc3c904",
    "filter": "8c3a4905f5cd8197",
    "logits": "281e997c4bd12305",
    "distill": "41c27c9b052cf9f4",
    "answers": "cb4587cc61e3c3e5",
    "evaluate": "4ec13c6244829426",
    "report": "c906f50ff9e97e7a",
    "head": "9dc961d177eef4c0",
}


def meaning_of(config, stage, **wildcards):
    """The settings of a job that are part of a fingerprint, as JSON."""
    return json.dumps(stage_settings(config, stage, **wildcards).meaning(), sort_keys=True)


def texts_of(stage):
    """What a stage publishes with in all configurations and methods."""
    texts = []
    for changes in CONFIGS.values():
        config = parse_config(changed(methods=list(FIRST), rounds=2, **changes))
        for method in FIRST if stage in OF_A_METHOD else [None]:
            of_method = {} if method is None else {"method": method}
            texts += [meaning_of(config, stage, **of_method, **job) for job in JOBS[stage]]
    given = parse_config(changed(sample__trajectories="own.jsonl", chat__date="2025-01-31"))
    if stage == "sample":
        texts += [meaning_of(given, stage, method="mpd", **job) for job in JOBS[stage]]
    if stage == "report":
        texts.append(meaning_of(given, stage))
    return texts


@pytest.mark.parametrize("stage", JOBS)
def test_the_settings_of_a_stage_are_those_of_before(stage):
    assert hashlib.sha256("\n".join(texts_of(stage)).encode()).hexdigest()[:16] == DIGESTS[stage]


# As DIGESTS, of all stages of a method.
DIGESTS_OF_LATER = {
    "semi_opd": "b47dc8e024ad872d",
    "reopold": "9fbae75a77441c75",
    "fixed_advantage": "3765fcf19d5a2f4b",
    "drpc": "593db2fee1306825",
    "copsd": "e7f5925b148070ac",
}
COLUMNS = {"copsd": {"problems__train__original": "en", "problems__train__solution": "steps"}}


@pytest.mark.parametrize("method", sorted(METHODS.keys() - FIRST))
def test_the_settings_of_a_later_method_are_those_of_before(method):
    texts = []
    for changes in CONFIGS.values():
        changes = {**changes, **COLUMNS.get(method, {})}
        config = parse_config(changed(methods=[method], rounds=2, **changes))
        for stage in OF_A_METHOD:
            texts += [
                meaning_of(config, stage, method=method, **{"round": 1, **job})
                for job in JOBS[stage]
            ]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    assert digest == DIGESTS_OF_LATER[method]


@pytest.mark.parametrize(("sampler", "number"), [("student", 2), ("base", 1)])
def test_structural_rationales_are_new_in_a_round_unless_its_samples_are_not(sampler, number):
    row = {"name": "own", "like": "drpc", "axes": {"sampler": sampler}}
    config = parse_config(changed(custom=[row], methods=["own"], rounds=2))
    keys = {"method": "own", "seed": 3}
    settings = [stage_settings(config, "compress", **keys, round=one) for one in (1, 2)]
    assert len({json.dumps(one.meaning(), sort_keys=True) for one in settings}) == number
