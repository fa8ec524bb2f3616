"""Mistakes that show before anything runs."""

import json
import random
import shutil

import pytest
import yaml

from mpd.config import parse_config
from mpd.job.preflight import check_config, check_gpus
from mpd.tiny.tokenizer import unknown_piece
from tests.config.test_config import REPOSITORY, changed

TINY = {
    "problems__path": None,
    "problems__train": {"source": "tiny", "num_problems": 5},
    "problems__benchmarks": [],
}


def message_of(**changes):
    with pytest.raises(ValueError) as caught:
        check_config(parse_config(changed(**{**TINY, **changes})))
    return str(caught.value)


def test_the_default_config_passes():
    check_config(parse_config(yaml.safe_load((REPOSITORY / "config.yaml").read_text())))


def test_missing_files_are_named(tmp_path):
    path = str(tmp_path / "nothing.jsonl")
    assert message_of(sample__trajectories=path) == (
        f"{path}: no such file; fix sample.trajectories in the config"
    )
    fix = "fix the path of this problem source in the config"
    train = {"source": "file", "path": path}
    assert message_of(problems__train=train) == f"{path}: no such file; {fix}"
    held_out = [{"name": "one", "source": "file", "path": path}]
    assert message_of(problems__benchmarks=held_out) == f"{path}: no such file; {fix}"
    for role in ("student", "teacher", "embedder"):
        model = {"source": "folder", "path": str(tmp_path)}
        assert message_of(**{f"models__{role}": model}) == (
            f"{tmp_path}: not a model folder; give one with safetensors weights"
        )


def test_braces_in_a_path_are_refused(tmp_path):
    folder = tmp_path / "{a}"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("{}\n")
    (folder / "model.safetensors").touch()
    path = str(folder / "rows.jsonl")
    advice = "Snakemake takes braces for wildcards; rename the file or its folder"
    assert message_of(problems__train={"source": "file", "path": path}) == f"{path}: {advice}"
    assert message_of(sample__trajectories=path) == f"{path}: {advice}"
    model = {"source": "folder", "path": str(folder)}
    assert message_of(models__teacher=model) == f"{folder / 'model.safetensors'}: {advice}"


LACKS = "the embedded world has no word 'Zebra'; its words are in mpd/tiny/tokenizer.py"


@pytest.mark.parametrize(
    ("key", "template"),
    [("chat.prompt", "{problem} Zebra"), ("compress.prompt", "{problem} Zebra {trajectory}")],
)
def test_a_word_that_the_embedded_world_cannot_say_is_named(key, template):
    place = key.replace(".", "__")
    assert message_of(**{place: template}) == f"config: {key}: {LACKS}"


@pytest.mark.parametrize(
    ("method", "key", "template"),
    [
        ("opsdc", "chat.concise", "{problem} Zebra"),
        ("prompt_only", "chat.concise", "{problem} Zebra"),
        ("trd", "compress.refine", "{problem} {trajectory} Zebra"),
    ],
)
def test_words_of_prompts_are_checked_where_a_method_has_them(method, key, template):
    given = {key.replace(".", "__"): template}
    assert message_of(**given, methods=["mpd", method]) == f"config: {key}: {LACKS}"
    check_config(parse_config(changed(**TINY, **given)))


def test_prompts_are_those_of_the_branch():
    prompt = {"compress": {"prompt": "{problem} Zebra {trajectory}"}}
    rows = [{"name": "mine", "like": "mpd", **prompt}, {"name": "plain", "like": "opd", **prompt}]
    assert message_of(methods=["mine"], custom=rows) == f"config: compress.prompt: {LACKS}"
    check_config(
        parse_config(changed(**TINY, methods=["plain"], custom=rows))
    )  # it has no rewriter
    row = {"name": "mpd", "like": "mpd", "axes": {"context": "concise"}}
    given = {"custom": [row], "chat__concise": "{problem} Zebra"}
    assert message_of(**given) == f"config: chat.concise: {LACKS}"


def test_unknown_words_are_those_that_the_tokenizer_has_no_token_for(tokenizer):
    rng = random.Random(0)
    parts = [*"+-=}() \n.,:?<>123", "Wait ", "Yes", "no", "\\boxed{", "<think>", "<|im_end|>"]
    parts += ["Zebra", "é", "\t", "waits"]
    counts = {True: 0, False: 0}
    for _ in range(2000):
        text = "".join(rng.choice(parts) for _ in range(rng.randint(0, 6)))
        lacks = tokenizer.unk_token_id in tokenizer(text).input_ids
        assert (unknown_piece(text) is not None) == lacks, text
        counts[lacks] += 1
    assert min(counts.values()) > 300


def test_other_models_may_know_more_words(student):
    folder = {"source": "folder", "path": str(student.parent)}
    prompts = {"chat__prompt": "Zebra {problem}", "compress__prompt": "Zebra {problem}{trajectory}"}
    assert message_of(**prompts, models__student=folder).startswith("config: compress.prompt: ")
    assert message_of(**prompts, models__teacher=folder).startswith("config: chat.prompt: ")


def test_a_training_has_the_nodes_and_processes_that_it_is_to_use(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    assert message_of(resources__distill={"nodes": 2}) == (
        "config: resources.distill.nodes is 2, and a run can use 1 here: run it in a Slurm "
        "allocation of as many nodes (salloc or sbatch), or lower nodes"
    )
    assert message_of(resources__distill={"sharding": "full"}) == (
        "config: resources.distill.sharding is full, but there is one process to share the "
        "weights: raise num_processes and gpu, or set none"
    )
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    for resources in (
        {"num_processes": 8, "threads": 8},  # on a CPU
        {"num_processes": 8, "gpu": 8, "nodes": 2},
        {"nodes": 2, "sharding": "full"},
    ):
        check_config(parse_config(changed(**TINY, resources__distill=resources)))


@pytest.mark.parametrize("stage", ["models", "sample", "compress", "logits", "distill", "evaluate"])
def test_more_gpus_than_a_run_has_are_refused(stage):
    more = {"num_processes": 3} if stage == "distill" else {}
    config = parse_config(changed(**{**TINY, f"resources__{stage}": {"gpu": 3, **more}}))
    check_gpus(config, 3)
    with pytest.raises(ValueError, match="--workflow-profile slurm") as caught:
        check_gpus(config, 2)
    assert str(caught.value).startswith(
        f"config: resources.{stage}.gpu is 3, but this run has 2: lower it, give the run more by "
        "--resources gpu=3"
    )


@pytest.fixture
def swapped(teacher, tmp_path):
    """A copy of the teacher in which two tokens have each other's ids."""
    folder = tmp_path / "swapped"
    shutil.copytree(teacher.parent, folder)
    state = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = state["model"]["vocab"]
    vocabulary["1"], vocabulary["2"] = vocabulary["2"], vocabulary["1"]
    (folder / "tokenizer.json").write_text(json.dumps(state))
    return folder


def folders(student, teacher):
    """The changes that make the two folders the models."""
    models = {"models__student": student, "models__teacher": teacher}
    return {key: {"source": "folder", "path": str(path)} for key, path in models.items()}


def test_folders_of_different_tokens_are_refused(student, teacher, swapped):
    assert message_of(**folders(student.parent, swapped)) == (
        f"{student.parent} and {swapped} have different token maps: the teacher cannot score the "
        "student's ids; choose models.student and models.teacher from one family"
    )
    check_config(parse_config(changed(**{**TINY, **folders(student.parent, teacher.parent)})))


def test_folders_of_different_tokens_pass_where_no_method_needs_scores(student, swapped):
    models = folders(student.parent, swapped)
    methods = ["sft", "sft_rewrites", "prompt_only"]
    check_config(parse_config(changed(**{**TINY, **models, "methods": methods})))
    assert "different token maps" in message_of(**models, methods=["sft", "off_policy"])


def test_tokens_of_the_embedded_world_are_known_before_a_run(student, swapped):
    chains, stories = ({"source": "tiny", "world": world} for world in ("chains", "stories"))
    folder = {"source": "folder", "path": str(swapped)}
    for models, names in (
        ((chains, folder), f"the world chains and {swapped}"),
        ((folder, chains), f"{swapped} and the world chains"),
        ((chains, stories), "the world chains and the world stories"),
    ):
        message = message_of(models__student=models[0], models__teacher=models[1])
        assert message.startswith(f"{names} have different token maps: the teacher cannot score")
    same = {"models__student": chains, "models__teacher": {**folder, "path": str(student.parent)}}
    check_config(parse_config(changed(**{**TINY, **same})))


def test_a_damaged_tokenizer_is_named_and_a_missing_one_left_to_its_stage(student, swapped):
    path = swapped / "tokenizer.json"
    path.write_text("{")
    message = message_of(**folders(student.parent, swapped))
    assert message.startswith(f"{path}: not JSON (")
    path.unlink()
    check_config(parse_config(changed(**{**TINY, **folders(student.parent, swapped)})))


def test_added_and_unigram_tokens_count(swapped):
    """Two tokenizer files of different form, but with the same tokens."""
    first, second = swapped.parent / "first", swapped
    path = second / "tokenizer.json"
    state = {"model": {"vocab": [["a", -1.0], ["b", -2.0]]}, "added_tokens": []}
    path.write_text(json.dumps(state))
    shutil.copytree(second, first)
    added = [{"content": "b", "id": 1}]
    other = {"model": {"vocab": {"a": 0}}, "added_tokens": added}
    (first / "tokenizer.json").write_text(json.dumps(other))
    check_config(parse_config(changed(**{**TINY, **folders(first, second)})))
    other["added_tokens"][0]["id"] = 2
    (first / "tokenizer.json").write_text(json.dumps(other))
    assert "different token maps" in message_of(**folders(first, second))
