import dataclasses
import json
import math

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from mpd.report import __main__ as report
from mpd.report import origin
from mpd.report.shipping import shipped
from mpd.report.terminal import shipping_lines
from mpd.store import schema, table
from mpd.store.digests import digest_of
from tests.notes import write_note

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'text' ]]> </pre>"


def words_of(text):
    """A text in which every space is one."""
    return " ".join(text.split())


def evaluated(*answers):
    """Answers given as problem, correct, tokens, and what differs."""
    counts, rows = {}, []
    for problem, correct, tokens, *changes in answers:
        index = counts[problem] = counts.get(problem, -1) + 1
        rows.append(
            {
                "problem_id": problem,
                "sample_index": index,
                "gold": "4",
                "finish_reason": "stop",
                "num_tokens": tokens,
                "thinking_tokens": 0,
                "answer": "4" if correct else "5",
                "verdict": "correct" if correct else "wrong",
                "correct": correct,
                "correct_budgets": [40] if correct else [],
                **(changes[0] if changes else {}),
            }
        )
    return table.frame_of(rows, schema.EVALUATE)


def summary_of(*rows):
    """Summary rows given as method, round, seed, benchmark, accuracy, tokens."""
    return table.frame_of(
        [
            {
                "method": method,
                "round": number,
                "seed": seed,
                "benchmark": benchmark,
                "num_problems": 200,
                "num_samples": 2,
                "accuracy": accuracy,
                "accuracy_se": 0.02,
                "pass_at_k": accuracy,
                "mean_tokens": tokens,
                "mean_tokens_se": 1.25,
                "tokens_p10": tokens / 2,
                "tokens_median": tokens - 2.0,
                "tokens_p90": tokens + 30.0,
                "tokens_max": 2 * tokens,
                "thinking_tokens": tokens - 4.0,
                "answer_tokens": 4.0,
                "solved_tokens": None,
                "tokens_per_correct": None,
                "truncation_rate": 0.005,
                "no_answer_rate": 0.1,
                "timeout_rate": 0.0,
                "aes": None,
            }
            for method, number, seed, benchmark, accuracy, tokens in rows
        ],
        schema.SUMMARY,
    )


BASE = ("base", 0, 0, "dev", 0.8, 100.0)


def test_shipped_compares_each_seed_with_its_own_base_student():
    summary = summary_of(
        *[("base", 0, 0, "dev", 0.8, 100.0), ("base", 0, 1, "dev", 0.6, 100.0)],
        *[("mpd", 1, 0, "dev", 0.7, 50.0), ("mpd", 2, 0, "dev", 0.7, 40.0)],
        *[("mpd", 1, 1, "dev", 0.7, 50.0), ("mpd", 2, 1, "dev", 0.7, 60.0)],
        *[("other", 1, 0, "dev", 0.8, 50.0), ("other", 1, 1, "dev", 0.5, 50.0)],
    )
    choice = shipped(summary.sample(fraction=1, shuffle=True, seed=0), 0.0)
    assert choice.select("method", "seed", "round").rows() == [
        ("mpd", 0, 0),
        ("mpd", 1, 1),
        ("other", 0, 1),
        ("other", 1, 0),
    ]
    assert shipping_lines(choice) == [
        "mpd, seed 0: none, stay with the base student",
        "mpd, seed 1: round 1",
        "other, seed 0: round 1",
        "other, seed 1: none, stay with the base student",
    ]


def stage_frames(ratios):
    """One problem, sample, candidate and verdict for each ratio; None where it is not kept."""
    names = [f"p{number}" for number in range(len(ratios))]
    problems = [
        {"problem_id": name, "question": f"{name}? {HOSTILE}", "gold": "4", "source_row": number}
        for number, name in enumerate(names)
    ]
    samples = [
        {
            "sample_id": f"{name}-0",
            "problem_id": name,
            "sample_index": 0,
            "prompt_ids": [1],
            "completion_ids": [1],
            "logprobs": None,
            "text": f"long {name} {HOSTILE}",
            "finish_reason": "stop",
            "num_tokens": 100,
        }
        for name in names
    ]
    candidates = [
        {
            "sample_id": f"{name}-0",
            "candidate": candidate,
            "status": "ok",
            "rewrite": "",
            "rewrite_tokens": 1,
            "text": f"short {name}.{candidate} {HOSTILE}",
            "completion_ids": [1],
            "num_tokens": 1,
        }
        for name in names
        for candidate in (0, 1)
    ]
    verdicts = [
        {
            "sample_id": f"{name}-0",
            "candidate": candidate,
            "problem_id": name,
            "gold": "4",
            "sample_answer": None,
            "sample_verdict": "none",
            "answer": "4",
            "verdict": "correct",
            "correct": True,
            "truncated": False,
            "too_long": False,
            "format": True,
            "sample_tokens": 100,
            "num_tokens": None if ratio is None else round(100 * ratio),
            "ratio": ratio,
            "overlap": 0.0,
            "leak": False,
            "copy": False,
            "repetition": False,
            "keep": ratio is not None and candidate == 1,
            "reason": "kept",
        }
        for name, ratio in zip(names, ratios, strict=True)
        for candidate in (0, 1)
    ]
    return (
        table.frame_of(problems, schema.PROBLEMS),
        table.frame_of(samples, schema.SAMPLE),
        table.frame_of(candidates, schema.COMPRESS),
        table.frame_of(verdicts, schema.FILTER),
    )


LOGITS_LISTS = {
    **{name: [1] for name in ("prompt_ids", "completion_ids", "control_ids")},
    **{name: [-0.5] for name in ("realised_logprob", "control_logprobs")},
}


def logits_frame(*rows):
    """Scored completions given as tokens, and the teacher's mean, closing and last log-prob."""
    return table.frame_of(
        [
            {
                **dict.fromkeys(schema.LOGITS.names),
                **LOGITS_LISTS,
                "sample_id": f"p{number}-0",
                "candidate": 1,
                "ids_digest": "",
                "num_tokens": tokens,
                "mean_teacher_logprob": mean,
                "think_close_logprob": close,
                "stop_logprob": stop,
            }
            for number, (tokens, mean, close, stop) in enumerate(rows)
        ],
        schema.LOGITS,
    )


def metrics_frame(*tokens_seen):
    """Training metrics of as many steps."""
    zeros = {
        column.name: 0 if column.dtype.startswith("int") else 0.0
        for column in schema.METRICS.columns
    }
    rows = [
        {**zeros, "step": step, "tokens_seen": tokens} for step, tokens in enumerate(tokens_seen, 1)
    ]
    return table.frame_of(rows, schema.METRICS)


def write_round(folder, ratios, logits, metrics):
    """The files of a trained round, in one shard, and its problems."""
    problems, *frames = stage_frames(ratios)
    train = folder.parents[2] / "problems/train/shard_0.parquet"
    # Each names what it was made from.
    contents = {"problems": table.write(train, problems, schema.PROBLEMS, {"shard": "0"})}
    artifacts = (schema.SAMPLE, schema.COMPRESS, schema.FILTER, schema.LOGITS)
    for artifact, frame in zip(artifacts, (*frames, logits), strict=True):
        path = folder / artifact.name / "shard_0.parquet"
        contents[artifact.name] = table.write(path, frame, artifact, dict(contents))
    identity = {"logits": digest_of([contents["logits"]])}
    table.write(folder / "student/metrics.parquet", metrics, schema.METRICS, identity)


def write_evaluations(folder, *answers):
    """Grades, and as far as the report reads them the answers and benchmarks behind them."""
    for benchmark, split in (("one", "eval"), ("dev", "train")):
        path = folder.parents[2] / "problems" / split / f"{benchmark}.parquet"
        asked = table.frame_of([], schema.PROBLEMS)
        problems = table.write(path, asked, schema.PROBLEMS, {"benchmark": benchmark})
        sampled = table.frame_of([], schema.ANSWERS)
        path = folder / "answers" / f"{benchmark}.parquet"
        content = table.write(path, sampled, schema.ANSWERS, {"seed": "0"})
        identity = {"problems": problems, "answers": content}
        path = folder / "evaluate" / f"{benchmark}.parquet"
        table.write(path, evaluated(*answers), schema.EVALUATE, identity)


def write_tokenizer(folder):
    """A model folder as far as the report reads it: a tokenizer of two words, and a manifest."""
    folder.mkdir()
    Tokenizer(WordLevel({"<unk>": 0, "one": 1}, "<unk>")).save(str(folder / "tokenizer.json"))
    sizes = {"tokenizer.json": (folder / "tokenizer.json").stat().st_size}
    texts = dict.fromkeys(("weights", "tokenizer", "chat_template", "digest"), "")
    manifest = {**texts, "token_map": "the map", "context_length": 9, "files": sizes}
    (folder / "manifest.json").write_text(json.dumps(manifest))


SETTINGS = {
    "max_accuracy_drop": 0.0,
    "samplers": {"mpd": "student"},
    "given": False,
    "max_new_tokens": {"one": 20, "dev": 40},
    "contexts": {"mpd": "problem"},
}


def write_spent(note, seconds):
    write_note(note, spent={"seconds": seconds})


@pytest.fixture
def run(tmp_path):
    """A finished run of mpd and of the base student, and the arguments of its report."""
    root = tmp_path / "results" / "my run"
    rounds = [root / "mpd/seed_0/round_1", root / "base/seed_0/round_0"]
    for folder, tokens in zip(rounds, (6, 8), strict=True):
        write_evaluations(folder, ("a", True, tokens), ("b", False, tokens + 2))
    write_round(rounds[0], [0.5, None], logits_frame((7, -1.5, -0.5, -0.25)), metrics_frame(3, 7))
    table.write(tmp_path / "problems", stage_frames([0.5, None])[0], schema.PROBLEMS, {})
    write_tokenizer(tmp_path / "student")
    write_spent(rounds[0] / "student/provenance.json", 2.5)
    arguments = ["--settings", json.dumps(SETTINGS), "--store", str(tmp_path / "store")]
    arguments += ["--rounds", *(str(folder) for folder in rounds), "--benchmarks", "one", "dev"]
    arguments += ["--num-shards", "1", "--problems", str(tmp_path / "problems")]
    arguments += ["--student", str(tmp_path / "student/manifest.json")]
    return root, [*arguments, "--output", str(root / "report.html")]


def test_main(run, capsys, caplog):
    caplog.set_level("INFO", "mpd")
    root, arguments = run
    report.main(arguments)

    summary = table.read(root / "summary.parquet", schema.SUMMARY)
    columns = ("method", "round", "seed", "benchmark", "accuracy", "mean_tokens", "mean_tokens_se")
    assert summary.select(columns).rows() == [
        ("base", 0, 0, "dev", 0.5, 9.0, 1.0),
        ("base", 0, 0, "one", 0.5, 9.0, 1.0),
        ("mpd", 1, 0, "dev", 0.5, 7.0, 1.0),
        ("mpd", 1, 0, "one", 0.5, 7.0, 1.0),
    ]
    text = (root / "report.html").read_text(encoding="utf-8")
    assert text.startswith('<!doctype html>\n<html lang="en"><meta charset="utf-8">')
    assert "<h1>my run</h1>" in text
    assert "Rewrites: 4. In this list: all. With texts: all. " in words_of(text)
    inputs = json.loads((root / "report.json").read_text())["inputs"]
    assert inputs["token_map"] == "the map"
    assert {"problems 0", "mpd/seed_0/round_1 sample 0"} <= set(inputs)
    noted_settings = json.loads((root / "report.json").read_text())["settings"]
    counts = {row["kind"]: (row["files"], row["linked"]) for row in noted_settings.pop("artifacts")}
    assert noted_settings.pop("versions") == origin.versions()
    assert noted_settings == {
        **SETTINGS,
        "experiment": "my run",
        "models": {},
        "stages": {"distill": {"{}": ["mpd, round 1, seed 0"]}},
    }
    stages = dict.fromkeys(("sample", "compress", "filter", "logits", "metrics"), (1, 0))
    assert counts == {**stages, "answers": (4, 0), "evaluate": (4, 0)}
    printed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in printed if " one " in line] == [
        [*("│", "base", "│", "0", "│", "0", "│", "one", "│", "2", "│", "1", "│"),
         *("0.500", "±", "0.500", "│", "9.0", "±", "1.0", "│", "0.0%", "│", "0.0%", "│")],
        [*("│", "mpd", "│", "1", "│", "0", "│", "one", "│", "2", "│", "1", "│"),
         *("0.500", "±", "0.500", "│", "7.0", "±", "1.0", "│", "0.0%", "│", "0.0%", "│")],
    ]  # fmt: skip
    assert "ship mpd, seed 0: round 1" in printed

    caplog.clear()
    report.main(arguments)
    assert [message.split()[:2] for message in caplog.messages] == [
        ["reused", "summary"],
        ["reused", "comparison"],
        ["reused", "budgets"],
        ["reused", "difficulty"],
        ["reused", "costs"],
        ["reused", "speed"],
        ["reused", "report"],
    ]


def test_main_writes_differences_and_costs(run):
    root, arguments = run
    report.main(arguments)
    comparison = table.read(root / "comparison.parquet", schema.COMPARISON)
    columns = ("method", "round", "benchmark", "against", "num_seeds", "accuracy", "tokens")
    assert comparison.select(columns).rows() == [
        ("mpd", 1, "dev", "base", 1, 0.0, -2.0),
        ("mpd", 1, "one", "base", 1, 0.0, -2.0),
    ]
    assert table.read(root / "costs.parquet", schema.COSTS).to_dicts() == [
        {
            "method": "mpd",
            "round": 1,
            "num_seeds": 1,
            "num_samples": 2,
            "student_tokens": 200,
            "teacher_tokens": 4,  # one for each candidate
            "kept_rows": 1,
            "scored_tokens": 7,
            "num_steps": 2,
            "trained_tokens": 7,
            "share_kept": 0.5,
            "wall_seconds": 2.5,
            "evaluation_seconds": None,
            "mean_teacher_logprob": -1.5,
            "think_close_logprob": -0.5,
            "stop_logprob": -0.25,
            "think_close_mass": pytest.approx(math.exp(-0.5), rel=1e-14),
            "divergence": None,
            "overlap": None,
        }
    ]


def test_main_writes_the_speed_of_each_stage(run):
    root, arguments = run
    report.main(arguments)
    rows = table.read(root / "speed.parquet", schema.SPEED)
    base = rows.filter(method="base")
    assert base.select("stage", "tokens", "seconds").rows() == [
        ("answers", 36, None),  # of two benchmarks
        ("evaluate", None, None),
    ]
    rows = rows.filter(method="mpd")
    assert rows.select("stage", "tokens", "seconds", "tokens_per_second").rows() == [
        ("sample", 200, None, None),
        ("compress", 4, None, None),
        ("filter", None, None, None),
        ("logits", 7, None, None),
        ("distill", 7, 2.5, 2.8),
        ("answers", 28, None, None),  # of two benchmarks
        ("evaluate", None, None, None),
    ]


def test_main_writes_budgets_and_difficulty(run):
    root, arguments = run
    report.main(arguments)
    budgets = table.read(root / "budgets.parquet", schema.BUDGETS)
    # The answers of `evaluated` are correct at 40 tokens, which "one" does not go up to.
    assert budgets.select("benchmark", "method", "budget", "accuracy").rows() == [
        *(("dev", "base", budget, accuracy) for budget, accuracy in BUDGETS_OF_DEV),
        *(("dev", "mpd", budget, accuracy) for budget, accuracy in BUDGETS_OF_DEV),
        *(("one", method, budget, 0.0) for method in ("base", "mpd") for budget in (16, 20)),
    ]
    difficulty = table.read(root / "difficulty.parquet", schema.DIFFICULTY)
    columns = ("benchmark", "method", "bin", "num_problems", "accuracy", "saved_tokens")
    assert difficulty.select(columns).rows() == [
        (benchmark, method, bin, 1, accuracy, saved)
        for benchmark in ("dev", "one")
        for method, saved in (("base", None), ("mpd", 2.0))
        for bin, accuracy in (("never", 0.0), ("always", 1.0))
    ]


BUDGETS_OF_DEV = [(16, 0.0), (24, 0.0), (32, 0.0), (40, 0.5)]


def test_main_quotes_what_computing_took_and_a_rerun_is_the_same(run, caplog):
    caplog.set_level("INFO", "mpd")
    root, arguments = run
    report.main(arguments)
    written = (root / "report.html").read_bytes()
    caplog.clear()
    report.main(arguments)
    names = ["summary", "comparison", "budgets", "difficulty", "costs", "speed", "report"]
    assert [message.split()[:2] for message in caplog.messages] == [
        ["reused", name] for name in names
    ]
    assert (root / "report.html").read_bytes() == written
    for name in ("one", "dev"):
        write_spent(root / f"mpd/seed_0/round_1/evaluate/{name}.json", 0.5)
    caplog.clear()
    report.main(arguments)
    assert [message.split()[0] for message in caplog.messages] == ["reused"] * 4 + ["computed"] * 3
    assert table.read(root / "costs.parquet", schema.COSTS)["evaluation_seconds"].to_list() == [1.0]


def test_main_of_nothing_trained(run):
    root, arguments = run
    prompted = root / "prompt_only/seed_0/round_0"
    write_evaluations(prompted, ("a", True, 5), ("b", True, 7))
    mpd = str(root / "mpd/seed_0/round_1")
    report.main([str(prompted) if argument == mpd else argument for argument in arguments])
    assert table.read(root / "costs.parquet", schema.COSTS).is_empty()
    speed = table.read(root / "speed.parquet", schema.SPEED)
    assert speed.select("method", "stage").rows() == [
        (method, stage) for method in ("base", "prompt_only") for stage in ("answers", "evaluate")
    ]
    comparison = table.read(root / "comparison.parquet", schema.COMPARISON)
    assert comparison.select("method", "accuracy", "tokens").rows() == [
        ("prompt_only", 0.5, -3.0),
        ("prompt_only", 0.5, -3.0),
    ]
    text = (root / "report.html").read_text(encoding="utf-8")
    assert "<p>No round was trained.</p>" in text


def test_main_refuses_the_files_of_another_version(run):
    root, arguments = run
    shard = root / "mpd/seed_0/round_1/logits/shard_0.parquet"
    old = dataclasses.replace(schema.LOGITS, version=1)
    table.write(shard, logits_frame(), old, {})
    with pytest.raises(ValueError, match="expected logits version 3, found logits version 1"):
        report.main(arguments)
