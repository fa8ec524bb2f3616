"""distill: what it refuses, and the folder that it leaves."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import polars as pl
import psutil
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mpd import distill
from mpd.config.distill import DistillSettings
from mpd.distill import copy_beside_weights, model_card
from mpd.scoring.output_head import load_head
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.store.tokenizer_files import chat_template
from mpd.training.cache_checks import require_ids
from tests.changes import with_changes

SETTINGS = DistillSettings(learning_rate=1e-3, epochs=2, batch_size=8, min_kept=8)


@pytest.fixture
def words(tmp_path, student, shard, cached):
    """A function that gives the arguments of the stage."""

    def words(
        *more, name="student", of=student, logits=(cached,), verdicts=(shard["filter"],), **s
    ):
        output = tmp_path / name / "manifest.json"
        arguments = ["--settings", with_changes(SETTINGS, **s).model_dump_json()]
        arguments += ["--student", str(of)]
        arguments += ["--output", str(output), "--store", str(tmp_path / f"store-{name}")]
        return [*arguments, "--logits", *map(str, logits), "--filter", *map(str, verdicts), *more]

    return words


@pytest.fixture
def run(tmp_path, words):
    """A function that runs the stage; it returns the folder of the trained student."""

    def run(*more, name="student", **changes):
        distill.main(words(*more, name=name, **changes))
        return tmp_path / name

    return run


@pytest.fixture
def rewritten(tmp_path, cached):
    """A function that writes the cache again with other rows or another identity."""

    def write(name, rows=None, **identity):
        path = tmp_path / name
        rows = table.read(cached, schema.LOGITS) if rows is None else rows
        identity = {**table.check(cached, schema.LOGITS)["identity"], **identity}
        table.write(path, rows, schema.LOGITS, identity)
        return path

    return write


def test_min_kept_is_a_gate_and_trains_nothing_again(run, caplog):
    caplog.set_level(logging.INFO, "mpd")
    run(min_kept=1)
    caplog.clear()
    run(min_kept=8)
    (again,) = caplog.messages
    assert again.startswith("reused student")


def test_ids_that_are_not_those_that_were_scored_are_refused(cached, rewritten):
    require_ids(cached)
    rows = table.read(cached, schema.LOGITS)
    swapped = rewritten("swapped.parquet", rows.with_columns(pl.col("ids_digest").reverse()))
    with pytest.raises(ValueError, match=f"the ids of row {rows['sample_id'][0]} are not"):
        require_ids(swapped)


def test_ids_are_checked_before_training(run, rewritten, cached):
    rows = table.read(cached, schema.LOGITS).with_columns(pl.col("ids_digest").reverse())
    with pytest.raises(ValueError, match="are not those that the teacher scored"):
        run(logits=[rewritten("logits.parquet", rows)])


@pytest.mark.parametrize("key", ["token_map", "student"])
def test_a_cache_of_another_student_is_refused(run, rewritten, key):
    with pytest.raises(ValueError, match=f"its {key} is other, but .* is wanted"):
        run(logits=[rewritten("logits.parquet", **{key: "other"})])


def test_caches_of_two_teachers_are_refused(run, rewritten, cached):
    other = rewritten("logits.parquet", teacher="other")
    with pytest.raises(ValueError, match=rf"{other}: expected the teacher \w+ of {cached}, fo"):
        run(logits=[cached, other])


def test_a_cache_that_does_not_fit_the_verdicts_is_refused(run, rewritten, cached):
    short = rewritten("logits.parquet", table.read(cached, schema.LOGITS)[1:])
    with pytest.raises(ValueError, match="the cache has 7 rows, but filter keeps 8"):
        run(logits=[short])


def test_a_cache_of_other_verdicts_is_refused(run, rewritten, shard):
    other = rewritten("logits.parquet", filter="another")
    with pytest.raises(ValueError) as caught:
        run(logits=[other])
    verdicts, content = shard["filter"], table.content_digest(shard["filter"], schema.FILTER)
    assert str(caught.value) == (
        f"{other}: it was made from filter another, but {verdicts} is {content[:12]}: of another "
        "experiment, round, seed, shard or benchmark, or of another run; run again with "
        f"--forcerun {verdicts} {other}"
    )
    with pytest.raises(ValueError, match="--logits names 1 shards and --filter 2; give all"):
        run(verdicts=[verdicts, verdicts])


def test_a_cache_of_other_candidates_is_refused(run, rewritten, shard, tmp_path):
    """As many rows, but not the same ones."""
    verdicts = table.read(shard["filter"], schema.FILTER)
    path = tmp_path / "filter.parquet"
    others = verdicts.with_columns(candidate=pl.lit(1, pl.Int32))
    content = table.write(path, others, schema.FILTER, {})
    message = "has 8 rows, but filter keeps 8 candidates, 8 of which are not cached"
    with pytest.raises(ValueError, match=message):
        run(verdicts=[path], logits=[rewritten("logits.parquet", filter=content)])


def test_too_few_kept_rows_stop_the_run(run, rewritten, empty_verdicts, tmp_path):
    path = tmp_path / "filter.parquet"
    content = table.write(path, empty_verdicts, schema.FILTER, {})
    cache = rewritten("logits.parquet", filter=content)
    with pytest.raises(ValueError, match=r"0 of 8 candidates survived.*8 wrong_answer"):
        run(verdicts=[path], logits=[cache])
    with pytest.raises(ValueError, match=r"8 of 8 candidates survived.*min_kept is 9"):
        run(min_kept=9)
    assert not (tmp_path / "student").exists()


def test_tokenizer_and_configs_are_taken_over(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    folder.mkdir()
    taken = {"config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"}
    left = {
        "manifest.json",
        "README.md",
        "metrics.parquet",
        "provenance.json",
        ".provenance.receipt",
    }
    left |= {"model.safetensors", "model-1.safetensors", "model.safetensors.index.json"}
    for name in taken | left:
        (source / name).write_text(name)
        (source / name).chmod(0o444)
    copy_beside_weights(source, folder)
    assert {path.name for path in folder.iterdir()} == taken
    for path in folder.iterdir():
        assert path.read_text() == path.name
        path.write_text("may be written again")


def test_the_model_card_says_where_a_student_comes_from(student):
    manifest = read_manifest(student)
    card = model_card(SETTINGS, manifest, 8)
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert f"Trained from weights {manifest['weights'][:16]}, token map " in card
    assert "by reverse_kl on\n" in card
    assert "\n8 trajectories that its teacher has scored" in card


def test_the_folder_is_a_whole_model(run, student, vocabulary, tiny_prompts):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run()
    before = read_manifest(student)
    manifest = read_manifest(folder / "manifest.json")
    assert {path.name for path in folder.iterdir()} == {
        *manifest["files"],
        "manifest.json",
        "provenance.json",
        ".provenance.receipt",
    }
    assert set(manifest["files"]) == {*before["files"], "README.md", "metrics.parquet"}
    for key in ("token_map", "tokenizer", "chat_template", "context_length"):
        assert manifest[key] == before[key]
    for key in ("weights", "digest"):
        assert manifest[key] != before[key]
    provenance = json.loads((folder / "provenance.json").read_text())
    without_gate = SETTINGS.model_dump(mode="json", exclude={"min_kept"})
    assert provenance["settings"] == without_gate
    assert provenance["inputs"]["student"] == before["digest"]
    assert len(table.read(folder / "metrics.parquet", schema.METRICS)) == 2

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype.is_floating_point and model.dtype.itemsize == 4
    assert model.generation_config.eos_token_id == vocabulary.stop_ids[0]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == chat_template(student.parent)
    messages = [{"role": "user", "content": "1+2"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == tiny_prompts.problem_ids("1+2")


def test_the_same_cache_is_not_trained_on_twice(run, caplog):
    with caplog.at_level(logging.INFO, "mpd"):
        run()
        first = len(caplog.messages)
        run()
    assert any(message.startswith("computed student") for message in caplog.messages[:first])
    (again,) = caplog.messages[first:]
    assert again.startswith("reused student")


def assert_same_training(one, other):
    """Two folders of students with equal weights and metrics, but for rounding and padding."""
    weights = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, values in weights[0].items():
        assert (values - weights[1][name]).abs().max() < 1e-5
    metrics = [
        table.read(folder / "metrics.parquet", schema.METRICS).to_dicts() for folder in (one, other)
    ]
    for row, same in zip(*metrics, strict=True):
        assert row["num_tokens"] == same["num_tokens"]
        assert row == pytest.approx(same | {"padding_share": row["padding_share"]}, rel=1e-4)


TWO_PROCESSES = ("--resources", '{"num_processes": 2, "micro_batch_size": 2}')


def test_two_processes_make_the_same_update(run):
    assert_same_training(run(*TWO_PROCESSES, name="two"), run(name="one"))


def training_under_way(words, tmp_path, num_processes):
    """A job that has saved a state of its training, with the processes that it started."""
    resources = {"num_processes": num_processes, "checkpoint_steps": 1}
    job = subprocess.Popen(
        [
            *(sys.executable, "-m", "mpd.distill"),
            *words("--resources", json.dumps(resources), epochs=2000),
        ],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    store = tmp_path / "store-student"
    while not list(store.rglob("trained_*")):
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.05)
    processes = psutil.Process(job.pid).children(recursive=True)
    assert (len(processes) > num_processes) == (num_processes > 1)
    return job, processes


@pytest.mark.parametrize("num_processes", [1, 2])
def test_ctrl_c_ends_every_process_of_a_training(words, tmp_path, num_processes):
    job, processes = training_under_way(words, tmp_path, num_processes)
    os.killpg(job.pid, signal.SIGINT)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("distill: stopped; run the same command again")
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    assert list(tmp_path.rglob("trained_*"))


def test_no_process_of_a_training_outlives_its_job(words, tmp_path):
    job, processes = training_under_way(words, tmp_path, num_processes=2)
    job.kill()
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    job.communicate()


@pytest.mark.parametrize(
    "lora", [None, {"rank": 4, "alpha": 8.0, "dropout": 0.2, "targets": "all-linear"}], ids=str
)
def test_two_processes_in_bfloat16_make_the_same_update(run, lora):
    """Two micro-batches, in one process or in two: the same gradients are summed in float32."""
    settings = {"batch_size": 4, "mixed_precision": "bf16", "lora": lora}
    one = run("--resources", '{"micro_batch_size": 2}', name="one", **settings)
    assert_same_training(run(*TWO_PROCESSES, name="two", **settings), one)


@pytest.fixture
def hidden(tmp_path, run_logits, shard, student, teacher, logits_settings):
    """A cache of hidden states and the teacher's output head."""
    from mpd import head

    settings = with_changes(logits_settings, cache="hidden")
    path = run_logits(tmp_path / "hidden", shard, student, teacher, settings)
    output = tmp_path / "head.safetensors"
    arguments = ["--settings", json.dumps({"dtype": "float32"}), "--teacher", str(teacher)]
    head.main([*arguments, "--output", str(output), "--store", str(tmp_path / "head-store")])
    return path, output


def test_a_sparse_cache_has_no_temperature(run):
    with pytest.raises(ValueError, match=r"distill\.temperature is 2\.0, but the tail of a sparse"):
        run(temperature=2.0)


def test_two_processes_make_the_same_update_from_hidden_states(run, hidden):
    path, output = hidden
    given = {"logits": [path], "temperature": 2.0}
    two = run("--head", str(output), *TWO_PROCESSES, name="two", **given)
    assert_same_training(two, run("--head", str(output), name="one", **given))


@pytest.mark.parametrize("changes", [{"temperature": 2.0}, {"tail": "truncated"}], ids=str)
def test_cross_entropy_has_neither_temperature_nor_tail(run, hidden, changes):
    path, output = hidden
    with pytest.raises(ValueError, match="cross_entropy has neither temperature nor tail"):
        run("--head", str(output), logits=[path], divergence="cross_entropy", **changes)


def test_a_hidden_cache_has_no_tail_and_needs_its_head(run, hidden, write_model, tmp_path):
    path, output = hidden
    with pytest.raises(ValueError, match="give the teacher's output head by --head"):
        run(logits=[path])
    with pytest.raises(
        ValueError, match=r"with logits\.cache: hidden there is no tail; set bucket"
    ):
        run("--head", str(output), logits=[path], tail="truncated")
    folder = run("--head", str(output), logits=[path], temperature=2.0)
    assert (folder / "model.safetensors").is_file()


def test_the_head_of_another_teacher_is_refused(run, hidden, student, teacher, tmp_path):
    from mpd import head

    path, _ = hidden
    output = tmp_path / "other" / "head.safetensors"
    arguments = ["--settings", json.dumps({"dtype": "float32"}), "--teacher", str(student)]
    head.main([*arguments, "--output", str(output), "--store", str(tmp_path / "head-store")])
    digests = [read_manifest(of)["digest"][:12] for of in (teacher, student)]
    with pytest.raises(ValueError) as caught:
        run("--head", str(output), logits=[path])
    assert str(caught.value) == (
        f"{output}: expected the output head of teacher {digests[0]}, which the cache is of, found "
        f"that of teacher {digests[1]}; run again with --forcerun {output} --config store=refresh, "
        "which computes it again"
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", "damaged, or cut ("),
        ("empty", "expected a safetensors file with metadata, found a damaged header"),
        ("flipped", "expected content with the digest "),
        ("teacher", "expected content with the digest "),
        ("key", "expected a safetensors file with metadata, found a damaged header"),
        ("missing", "no such file"),
    ],
)
@pytest.mark.parametrize("reader", ["distill", "training"])
def test_a_damaged_head_is_refused(run, hidden, tmp_path, damage, message, reader):
    path, output = hidden
    content = output.read_bytes()
    head = tmp_path / "damaged" / "head.safetensors"
    head.parent.mkdir()
    place = content.index(b'"teacher":"') + 11
    damaged = {
        "cut": content[:-9],
        "empty": b"",
        "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "teacher": content[:place] + b"?" * 64 + content[place + 64 :],
        "key": content.replace(b'"digest"', b'"digesT"'),
    }
    if damage != "missing":
        head.write_bytes(damaged[damage])
    with pytest.raises(ValueError) as caught:
        if reader == "distill":
            run("--head", str(head), logits=[path])
        else:
            load_head(head, torch.device("cpu"))
    assert str(caught.value).startswith(f"{head}: {message}")
    assert str(caught.value).endswith(
        f"; run again with --forcerun {head} --config store=refresh, which computes it again"
    )


def test_a_head_of_an_earlier_version_is_used(run, hidden, tmp_path):
    path, output = hidden
    with safe_open(output, framework="pt") as file:
        metadata = {key: value for key, value in file.metadata().items() if key != "digest"}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    old = tmp_path / "old.safetensors"
    save_file(tensors, old, metadata=metadata)
    assert run("--head", str(old), logits=[path]).is_dir()


def test_sparse_and_hidden_shards_do_not_mix(run, hidden, cached):
    with pytest.raises(ValueError, match=rf"{hidden[0]}: expected the cache sparse of {cached}"):
        run("--head", str(hidden[1]), logits=[cached, hidden[0]])
