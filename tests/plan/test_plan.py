"""Plans by hand-computed formulas, what cannot fit, and a plan beside a finished run."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpd.config import Config, parse_config
from mpd.plan import calibration
from mpd.plan.__main__ import main
from mpd.plan.cards import CARDS, CPU, card_of, is_card, local_card
from mpd.plan.counts import evaluation_problems, num_train
from mpd.plan.earlier import measured_rates, measured_rounds, read_tokens
from mpd.plan.estimate import Given, Plan, plan_of, world_of
from mpd.plan.lengths import Lengths, Measured
from mpd.plan.line import estimate
from mpd.plan.shapes import model_of, of_config
from mpd.plan.work import works
from mpd.store.files import checksummed
from tests.workflow import project
from tests.workflow.project import REPOSITORY, WORLD, merged

BASE = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
QWEN3 = merged(BASE, yaml.safe_load((REPOSITORY / "recipes/qwen3-1.7b.yaml").read_text()))
H100 = Given(CARDS["h100"], gpus=8)


def config_of(base: dict = QWEN3, **changes: Any) -> Config:
    return parse_config(merged(base, changes))


def planned(given: Given = H100, **changes: Any) -> Plan:
    return plan_of(world_of(config_of(**changes), given), given)


def row(plan: Plan, stage: str, number: int = 1):
    (found,) = [row for row in plan.rows if (row.stage, row.round) == (stage, number)]
    return found


def test_sizes_of_known_models_are_those_of_their_weights():
    config = config_of()
    student = model_of(config.models.student, "student")
    # A layer has 50,331,648 weights in matrices; the tied embeddings have 151,936 rows of 2,048.
    assert student.parameters == 28 * 50_331_648 + 151_936 * 2048 == 1_720_451_072
    assert model_of(config.models.teacher, "teacher").parameters == 8_190_427_136
    assert student.key_value_width * 2 == 2 * 28 * 8 * 128 * 2 == 114_688


def test_sizes_are_read_from_a_model_folder(student: Path):
    content = json.loads((student.parent / "config.json").read_text())
    found = of_config(content, "there")
    # Width 32, 2 layers, 2 heads of 16 with 1 for keys and values, MLP 32, a head of its own.
    layer = 32 * 32 * 2 + 2 * 32 * 16 + 3 * 32 * 32
    assert found.parameters == 2 * layer + 2 * content["vocab_size"] * 32
    with pytest.raises(ValueError, match="student-parameters"):
        of_config({**content, "num_experts": 8}, "there")


def test_an_unknown_model_needs_its_parameters():
    models = {"student": {"source": "folder", "path": "inputs/nobody-knows"}}
    with pytest.raises(ValueError, match="--student-parameters"):
        planned(models=models)
    given = replace(H100, student_parameters=2e9)
    world = world_of(config_of(models=models), given)
    assert world.student.parameters == 2_000_000_000


def test_tokens_and_operations_follow_the_formulas():
    """2,000 problems, 2 samples of a third of 16,384 tokens, 2 rewrites of a third of 8,192."""
    plan = planned(rounds=1)
    assert row(plan, "sample").tokens == pytest.approx(4000 * 16_384 / 3)
    assert row(plan, "compress").tokens == pytest.approx(8000 * 8192 / 3)
    kept, length = 3000, 8192 / 3
    assert row(plan, "logits").tokens == row(plan, "distill").tokens == pytest.approx(kept * length)
    assert plan.trained_tokens == pytest.approx(kept * length)
    tokens = 150 + 2731  # of a sequence: prompt and completion
    forward = 2 * 28 * 50_331_648 * tokens + 28 * 2 * 16 * 128 * tokens**2
    forward += 2 * 2048 * 151_936 * 2731
    assert row(plan, "distill").flops == 3 * kept * forward
    seconds = 3 * kept * forward / (989e12 * 0.79 * 0.5)
    assert row(plan, "distill").seconds == pytest.approx(seconds + 20)


def test_the_second_phase_of_reopold_takes_a_fourth_pass():
    """Of half the steps, by default."""
    operations = {
        method: row(planned(rounds=1, methods=[method]), "distill").flops
        for method in ("semi_opd", "reopold")
    }
    assert operations["reopold"] == pytest.approx(operations["semi_opd"] * 3.5 / 3)


def test_a_step_takes_what_was_measured_on_an_h200():
    """32 trajectories of 1,024 to 2,048 tokens in 1.39 s, and 72.5 GB of memory."""
    plan = planned(replace(H100, card=CARDS["h200"]), rounds=1)
    trained = row(plan, "distill")
    speed = trained.tokens / (trained.seconds - 20)
    assert speed == pytest.approx(32 * 1536 / 1.39, rel=0.25)


def test_memory_is_that_of_weights_gradients_and_moments():
    world = world_of(config_of(), H100)
    plan = plan_of(world, H100)
    assert row(plan, "distill").memory == pytest.approx(0.94 * 80e9)
    assert row(plan, "logits").memory == pytest.approx(53.4e9, rel=0.1)  # as measured
    assert row(plan, "sample").memory == pytest.approx(0.9 * 80e9)
    assert plan.refusals == []


@pytest.mark.parametrize(
    ("changes", "card", "key"),
    [
        ({}, "l4", "distill.lora"),
        ({"models": {"student": {"path": "inputs/Qwen3-8B"}}}, "h100", "distill.lora"),
        ({"models": {"teacher": {"path": "inputs/Qwen3-32B"}}}, "h100", "resources.logits.gpu"),
        (
            {"models": {"teacher": {"path": "Qwen3-32B"}}},
            "a100-40gb",
            "resources.compress.tensor_parallel_size",
        ),
        (
            {"models": {"dtype": "float32", "teacher": {"path": "Qwen3-14B"}}},
            "h100",
            "models.dtype",
        ),
        (
            {"resources": {"distill": {"chunk_size": 65_536}}},
            "h100",
            "resources.distill.chunk_size",
        ),
        (
            {"resources": {"distill": {"micro_batch_tokens": 400_000, "micro_batch_size": 999}}},
            "h100",
            "resources.distill.micro_batch_tokens",
        ),
        (
            {"resources": {"distill": {"gpu": 16, "num_processes": 16}}},
            "h100",
            "resources.distill.gpu",
        ),
        (
            {"sample": {"engine": "transformers"}},
            "h100",
            "resources.sample.batch_size",
        ),
    ],
)
def test_what_cannot_fit_is_refused_with_its_key(changes, card, key):
    plan = planned(replace(H100, card=CARDS[card]), **changes)
    assert any(f"change {key}" in sentence for sentence in plan.refusals), plan.refusals


def test_sharded_students_and_split_teachers_fit():
    sharded = {"gpu": 8, "num_processes": 8, "sharding": "full"}
    student = {"student": {"path": "inputs/Qwen3-8B"}}
    plan = planned(models=student, resources={"distill": sharded})
    assert plan.refusals == []
    alone = planned(models=student, resources={"distill": {"gpu": 8, "num_processes": 8}})
    assert [sentence.partition(" needs ")[0] for sentence in alone.refusals] == ["distill"]
    teacher = {"teacher": {"path": "inputs/Qwen3-32B"}}
    vllm = {"gpu": 2, "tensor_parallel_size": 2}
    split = planned(models=teacher, resources={"logits": {"gpu": 2}, "compress": vllm})
    assert split.refusals == []


def test_a_job_of_ten_shards_is_one_job():
    one = planned(problems={"num_shards": 100})
    ten = planned(problems={"num_shards": 100}, resources={"shards_per_job": 10})
    assert (row(one, "logits").jobs, row(ten, "logits").jobs) == (100, 10)
    assert row(one, "logits").tokens == row(ten, "logits").tokens
    saved = row(one, "logits").seconds - row(ten, "logits").seconds
    assert saved == pytest.approx(90 * 20.0)  # the start of a job


def test_a_round_of_a_curriculum_samples_its_share():
    train = {"source": "reasoning_gym", "task": "gcd", "levels": [0, 1], "num_problems": 400}
    train = merged(QWEN3["problems"]["train"], {**train, "revision": None, "path": None})
    sizes = {"num_train": 300, "num_dev": 100}
    plans = [
        planned(rounds=3, problems={**sizes, "train": {**train, "curriculum": curriculum}})
        for curriculum in (None, "add", "replace")
    ]
    tokens = [[row(plan, "sample", number).tokens for number in (1, 2, 3)] for plan in plans]
    whole = tokens[0][0]
    assert tokens[1][0] == tokens[2][0] == whole / 2
    shares = [[each / whole for each in of_plan] for of_plan in tokens]
    assert shares[1][1:] == pytest.approx(shares[0][1:])
    assert shares[2][1:] == pytest.approx([each / 2 for each in shares[0][1:]])


def test_a_development_split_of_its_own_has_its_number():
    dev = {"source": "tiny", "num_problems": 7}
    config = config_of(BASE, problems={"num_dev": None, "dev": dev})
    assert evaluation_problems(config)["dev"] == (7, False)
    whole = config_of(BASE, problems={"num_dev": None, "dev": dev, "num_train": None})
    assert num_train(whole) == 600


def test_ten_jobs_on_eight_gpus_take_as_long_as_two():
    sample = row(planned(problems={"num_shards": 10}), "sample")
    assert sample.wall_seconds == pytest.approx(sample.seconds / 10 * 2)


def test_methods_and_seeds_multiply_and_equal_work_is_done_once():
    """mpd and sft_rewrites share samples, rewrites and cache of round 1; sft has its own."""
    world = world_of(
        config_of(BASE, methods=["mpd", "sft_rewrites", "sft"], seeds=[0, 1], rounds=2), Given(CPU)
    )
    plan = plan_of(world, Given(CPU))
    assert row(plan, "sample").jobs == 6
    assert row(plan, "sample").linked == 2
    assert row(plan, "logits").linked == 2
    assert row(plan, "distill").linked == 0
    assert row(plan, "sample", 2).linked == 0  # by then, their students differ
    assert row(plan, "distill").jobs == 6
    assert row(plan, "answers", 0).jobs == 2  # the base student of each seed
    assert sum(row.jobs for row in plan.rows if row.stage == "models") == 3
    once = plan_of(world_of(config_of(BASE, rounds=2), Given(CPU)), Given(CPU))
    # sft trains on the teacher's samples, which are as long as its rewrites in this world.
    assert row(plan, "distill").tokens == pytest.approx(6 * row(once, "distill").tokens)
    assert {work.method for work in works(world) if work.stage == "distill"} == {
        *("mpd", "sft_rewrites", "sft")
    }


def test_a_bank_is_of_later_rounds_alone():
    """2,000 questions at .02 s, after a start of 1.3 s, and a model to embed them."""
    embedder = {"source": "folder", "path": "inputs/embedder"}
    changes = {"methods": ["drpc"], "rounds": 3, "models": {"embedder": embedder}}
    plan = planned(**changes, compress={"bank": {}})
    assert [each.round for each in plan.rows if each.stage == "bank"] == [2, 3]
    found = row(plan, "bank", 2)
    assert (found.jobs, found.linked, found.gpus) == (1, 0, 0)
    assert found.seconds == pytest.approx(1.3 + 2000 * 0.02, abs=0.1)
    without = planned(**changes)
    assert row(plan, "models", 0).jobs == row(without, "models", 0).jobs + 1
    assert "bank" not in {each.stage for each in without.rows}


def test_heads_are_those_of_the_models_that_score():
    """The teacher's once; the base student's of each seed, which are one where none is trained."""
    source = {"original": "question", "solution": "answer"}
    changes = {"methods": ["copsd"], "seeds": [0, 1], "problems": {"train": source}}

    def heads(base, **changes):
        world = world_of(config_of(base, **changes), H100)
        return world, [work for work in works(world) if work.stage == "head"]

    world, (head,) = heads(QWEN3, **changes)
    assert (head.jobs, head.linked, head.tables) == (2, 1, 1)
    assert head.disk == world.student.shape.vocab_size * world.student.shape.hidden_size * 2
    hidden = {"logits": {"cache": "hidden"}}
    world, (head,) = heads(QWEN3, methods=["mpd"], seeds=[0, 1], **hidden)
    assert (head.jobs, head.linked) == (1, 0)
    assert head.disk == world.teacher.shape.vocab_size * world.teacher.shape.hidden_size * 2
    _, found = heads(QWEN3, **{**changes, **hidden, "methods": ["mpd", "copsd"]})
    assert sorted(head.jobs for head in found) == [1, 2]
    _, (head,) = heads(BASE, **changes)
    assert (head.jobs, head.linked, head.tables) == (2, 0, 2)
    # The caches of copsd have states of the student, which has fewer numbers in each.
    disk = [
        sum(work.disk for work in works(heads(QWEN3, **changed)[0]) if work.stage == "logits")
        for changed in (changes, {**changes, **hidden, "methods": ["opd"]})
    ]
    assert disk[0] < disk[1]


def test_lengths_of_an_earlier_run_replace_assumptions():
    config = config_of(BASE)
    branch = config.branches["mpd"]
    assert Lengths(config).sample(branch, 1) == pytest.approx(320 / 3)
    measured = {("mpd", 1): Measured(sample=90.0, rewrite=40.0, trained=40.0, kept=0.9)}
    lengths = Lengths(config, measured)
    assert lengths.sample(branch, 1) == 90
    assert lengths.sample(branch, 2) == 40  # as what its student was trained on
    assert (lengths.rewrite(branch, 2), lengths.kept(branch, 2)) == (40, 0.9)


def test_the_base_students_samples_are_those_of_all_students_in_round_1():
    config = config_of(BASE, methods=["mpd", "semi_opd"], rounds=2)
    lengths = Lengths(config, {("mpd", 1): Measured(sample=60.0)})
    assert [lengths.sample(config.branches["semi_opd"], number) for number in (1, 2)] == [60, 60]
    assert lengths.answer("semi_opd", 2, 300) == lengths.answer("base", 0, 300) == 100


def rewrite_notes(experiment: Path, seconds: float) -> None:
    """Let each artifact of a method's rounds have taken so many seconds."""
    for path in experiment.glob("*/seed_*/round_*/**/*.json"):
        note = json.loads(path.read_text())
        if "spent" in note:
            note["spent"] |= {"seconds": seconds, "processor_seconds": seconds}
            path.unlink()  # another name of it is in the store
            path.write_text(json.dumps(checksummed(note)))


def test_a_plan_beside_the_notes_of_a_finished_run(finished_folder, tmp_path, monkeypatch):
    project.copied(finished_folder, tmp_path)
    monkeypatch.chdir(tmp_path)
    config = parse_config(merged(merged(BASE, WORLD), {"rounds": 1}))
    counted = read_tokens(config)
    world = world_of(config, Given(CPU), measured_rounds(counted))
    plan = plan_of(world, Given(CPU), measured_rates(world, CPU, counted))
    for stage in ("sample", "compress", "logits"):
        assert row(plan, stage).tokens == pytest.approx(counted["mpd", 1, stage][1], rel=0.01)
    files = [path for path in Path("results").rglob("*") if path.is_file()]
    inodes = {path.stat().st_ino: path.stat().st_size for path in files}
    assert plan.total("disk") == pytest.approx(sum(inodes.values()), rel=0.5)
    assert plan.total("files") == pytest.approx(len(inodes), rel=0.25)

    rewrite_notes(Path("results") / config.experiment, 503)
    rates = measured_rates(world, CPU, counted)
    assert set(rates) == {"sample", "compress", "logits", "distill", "answers"}
    again = plan_of(world, Given(CPU), rates)
    for stage in ("sample", "compress", "logits", "distill"):
        jobs = row(again, stage).jobs  # each took 3.5 seconds to start, 2.8 of them in its note
        assert row(again, stage).seconds == pytest.approx(505 * jobs, rel=0.3)
    rewrite_notes(Path("results") / config.experiment, 1.1)
    assert measured_rates(world, CPU, counted) == {}  # hardly more than their start


def test_the_world_of_a_calibration_has_work_for_each_stage():
    world = world_of(config_of(BASE, **calibration.WORLD), Given(CPU))
    plan = plan_of(world, Given(CPU), {"start": 1.0})
    for stage in ("sample", "logits", "distill"):
        assert row(plan, stage).seconds > 3
    assert row(plan, "compress").seconds < 3
    slow = plan_of(world, Given(CPU), {"start": 9.0})
    assert row(slow, "sample").seconds - row(plan, "sample").seconds == pytest.approx(8)


def test_answers_of_a_student_are_beside_the_rounds_after_it():
    plan = planned(rounds=2)
    rounds = {row.round for row in plan.rows}
    stages = {number: [row for row in plan.rows if row.round == number] for number in rounds}
    trained = sum(
        row.wall_seconds for row in plan.rows if row.stage not in ("answers", "evaluate", "report")
    )
    last = sum(row.wall_seconds for row in stages[2] if row.stage in ("answers", "evaluate"))
    first = sum(row.wall_seconds for row in stages[0])
    report = row(plan, "report", 2).seconds
    assert plan.wall_seconds == pytest.approx(max(trained + last, first) + report)
    alone = planned(replace(H100, gpus=1), rounds=2)
    hours = alone.total("gpu_hours")
    assert hours < alone.wall_seconds / 3600 < 1.01 * hours


def test_the_command_prints_tables_and_json(monkeypatch, capsys, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(BASE))
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(QWEN3))
    monkeypatch.chdir(tmp_path)
    main(["--configfile", "overlay.yaml", "--gpus", "8", "--gpu", "h100", "--explain"])
    printed = capsys.readouterr().out
    assert "plan of qwen3-1_7b on 8 × h100" in printed
    assert "consider problems.num_shards: 8" in printed
    assert "consider resources.evaluate: {gpu: 8, data_parallel_size: 8} answers by" in printed
    assert "assumed: teacher: 8.19 billion parameters, by table: qwen3-8b" in printed
    main(["--config", "rounds=1", "problems={num_train: 100}", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content["experiment"] == "tiny"
    (sampled,) = [row for row in content["rows"] if row["stage"] == "sample"]
    assert sampled["tokens"] == pytest.approx(100 * 320 / 3)
    with pytest.raises(ValueError, match=r"cannot fit:\n.*distill\.lora"):
        main(["--configfile", "overlay.yaml", "--gpu", "l4"])
    assert "plan of" in capsys.readouterr().out  # also where it is refused
    with pytest.raises(ValueError, match="h100, h100-pcie"):
        main(["--gpu", "h1000"])


def test_cards_are_known_by_the_driver(tmp_path):
    assert local_card(tmp_path) is None
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H200\n")
    assert local_card(tmp_path) == card_of("h200")
    assert is_card(CARDS["h100"], "NVIDIA H100 80GB HBM3")
    assert is_card(CARDS["rtx-4090"], "NVIDIA GeForce RTX 4090")
    assert is_card(CARDS["a100-40gb"], "NVIDIA A100-SXM4-40GB")
    assert not is_card(CARDS["l4"], "NVIDIA A100-SXM4-80GB")
    for name, device in [("l4", "NVIDIA L40"), ("h200", "NVIDIA GH200"), ("a100", "RTX A1000")]:
        assert not is_card(CARDS[name], device)


def test_one_line_for_a_run_on_gpus_and_none_without():
    line = estimate(config_of(), gpus=2)
    assert line is not None
    assert line.startswith("estimate on 2 × h100: ")
    assert "GPU hours" in line
    assert estimate(config_of(BASE), gpus=0) is None
    on_a_cluster = estimate(config_of(), gpus=None)
    assert on_a_cluster is not None
    assert on_a_cluster.startswith("estimate: ")
    assert "change" not in on_a_cluster


def test_no_model_stops_a_run(student: Path, tmp_path: Path):
    """An estimate is left out where the sizes of a model are not to be had."""
    for path in student.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = json.loads((tmp_path / "config.json").read_text())
    del content["num_attention_heads"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has no num_attention_heads; give --student-parameters"):
        of_config(content, "there")
    folder = {"source": "folder", "path": str(tmp_path)}
    assert estimate(config_of(models={"teacher": folder}), gpus=2) is None


def test_the_line_is_cheap():
    code = """
import sys, time, yaml
from mpd.config import parse_config
config = parse_config(yaml.safe_load(sys.stdin))
start = time.process_time()
from mpd.plan.line import estimate
assert estimate(config, 1)
print(time.process_time() - start, {"torch", "polars", "pyarrow", "rich"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=yaml.safe_dump(QWEN3),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, _, modules = done.stdout.partition(" ")
    assert float(seconds) < 0.3
    assert modules.strip() == "set()"
