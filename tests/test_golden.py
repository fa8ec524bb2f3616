"""A stage whose output changes must bump its VERSION.

golden.json holds, for each artifact, its version, a digest of its exact columns and the means of
its floating-point columns, over fixed inputs. After a deliberate change, bump the version in
mpd/store/schema/ and record again:

    RECORD_GOLDEN=1 pytest tests/test_golden.py
"""

import hashlib
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mpd import answers, distill, evaluate, filter, problems, sample
from mpd.config.bank import Bank
from mpd.config.compress import TeacherRewrite
from mpd.config.distill import DistillSettings
from mpd.config.evaluate import BenchmarkAnswers
from mpd.config.filter import FilterSettings
from mpd.config.generation import Decoding
from mpd.config.models import PRETRAINING
from mpd.config.problem_settings import TrainingProblems
from mpd.config.resources import GenerationResources
from mpd.config.sample import DrawnSample
from mpd.engines import rewriting
from mpd.engines.question_tasks import question_prompts
from mpd.report import browser_section, budgets, compare, costs, difficulty, speed, summary
from mpd.store import schema, table
from mpd.store.model_folder import load_model
from mpd.store.tokenizer_files import load_tokenizer
from mpd.text.completions import CompletionReader
from mpd.text.grading import token_budgets
from mpd.text.grading.grader import Grader
from mpd.text.path_bank import bank_of
from mpd.text.rationales import written_rationale
from mpd.text.routing import routes_of
from mpd.text.vocabulary import TokenizerFile
from mpd.tiny import examples, pretrain, sizes
from tests import gym
from tests.bank import FakeEmbedder, rationale
from tests.report import test_answer_browser, test_browser, test_page

GOLDEN = Path(__file__).with_name("golden.json")


def described(frame: pl.DataFrame) -> dict[str, Any]:
    """Digest of the exact columns; means of the others, which may round apart on other machines."""
    floating = [
        name
        for name, dtype in frame.schema.items()
        if (dtype.is_float() or dtype == pl.List(pl.Float32))
        and frame[name].null_count() < len(frame)
    ]
    exact = json.dumps(frame.drop(floating).to_dict(as_series=False), sort_keys=True)
    means = {}
    for name in floating:
        values = frame[name].explode() if frame.schema[name] == pl.List(pl.Float32) else frame[name]
        means[name] = values.cast(pl.Float64).mean()
    return {"exact": hashlib.sha256(exact.encode()).hexdigest()[:16], "means": means}


class FakeEngine:
    """Completes every request with the same text, the shorter the larger its seed."""

    context_length = 256

    def __init__(self, writer, texts):
        self.vocabulary, self.encode, self.texts = writer.vocabulary, writer.encode, texts

    def stream(self, requests, decoding, advance):
        from mpd.engines.base import Completion

        for number, request in enumerate(requests):
            ids = self.encode(self.texts[request.seed % len(self.texts)])
            yield number, Completion(ids, [-0.5] * len(ids), "stop")


TEXTS = [
    r"<think>1+3=4. Wait, is 1+3=4? Yes. 4-2=2.</think>\boxed{2}",
    r"<think>4-1=3. 3+5=8.</think>\boxed{8}",
]
REWRITES = ["1+3=4. 4-2=2.\n\\boxed{2}", "4-1=3. 3+5=8."]


@pytest.fixture(scope="module")
def frames(tmp_path_factory, tiny_format, tiny_prompts, shard, chat, cached, student):
    """One frame of every artifact, from fixed inputs."""
    folder = tmp_path_factory.mktemp("golden")
    made: dict[str, pl.DataFrame] = {}
    source = {
        "source": "file",
        "path": str(folder / "source.jsonl"),
        "split": "train",
        "question": "q",
        "answer": "a",
        "form": "auto",
        "num_problems": None,
    }
    long = " ".join(f"word{number}" for number in range(15))
    rows = [{"q": f"{n}+1", "a": f"so #### {n + 1}"} for n in range(8)]
    rows += [{"q": "0 + 1", "a": "#### 1"}, {"q": f"{long} and more", "a": "#### 3"}]
    Path(source["path"]).write_text("\n".join(json.dumps(row) for row in rows))
    held = [{"problem_id": "x", "question": q, "gold": "1", "source_row": n}
            for n, q in enumerate(["7+1", long])]  # fmt: skip
    benchmark = folder / "held.parquet"
    table.write(benchmark, table.frame_of(held, schema.PROBLEMS)[:1], schema.PROBLEMS, {})
    other = folder / "other.parquet"
    table.write(other, table.frame_of(held, schema.PROBLEMS)[1:], schema.PROBLEMS, {})
    settings = TrainingProblems(train=source, num_train=3, num_dev=2, num_shards=1, seed=0)
    problems.write_train(folder, settings, [benchmark, other])
    made["problems"] = table.read(folder / "shard_0.parquet", schema.PROBLEMS)
    seeing = {**source, "original": "q", "solution": "a"}
    settings = TrainingProblems(train=seeing, num_train=3, num_dev=2, num_shards=1, seed=0)
    (folder / "seeing").mkdir()
    problems.write_train(folder / "seeing", settings, [benchmark, other])
    made["references"] = table.read(folder / "seeing" / "references.parquet", schema.REFERENCES)
    made["dropped"] = table.read(folder / "dropped.parquet", schema.DROPPED)
    made["scored_problems"] = scored_problems(folder / "gym", schema.SCORED_PROBLEMS)
    rising = scored_problems(folder / "rising", schema.CURRICULUM_PROBLEMS, curriculum="replace")
    made["curriculum_problems"] = rising

    questions = table.read(shard["problems"], schema.PROBLEMS)
    asking = chat.model_dump(include={"prompt", "thinking"})
    drawing = DrawnSample(max_new_tokens=64, num_samples=2, chat=asking)
    engine = FakeEngine(tiny_format, TEXTS)
    samples = sample.with_samples(questions, 2)
    prompts = question_prompts(engine.vocabulary, drawing.chat, samples["question"])
    made["sample"] = sample.sampler(engine, prompts, drawing, len(samples))(samples)
    asked = made["sample"].join(questions, on="problem_id", maintain_order="left")
    shortening = TeacherRewrite(
        prompt="{problem}\n{trajectory}\nrewrite",
        max_new_tokens=64,
        num_samples=2,
        rewriter="teacher",
        chat=chat.model_dump(include={"think", "open", "close"}),
    )
    rewriter = FakeEngine(tiny_format, REWRITES)
    work = rewriting.rewriter(rewriter, tiny_format, shortening, len(asked), 256)
    made["compress"] = work(asked)
    made |= dict(zip(("bank", "routes"), banked(), strict=True))
    limits = FilterSettings(chat=chat.model_dump(include={"think", "close"}))
    joined = filter.with_samples_and_problems(questions, made["sample"], made["compress"])
    grader = Grader()  # the golds are whole numbers: it starts no worker
    made["filter"] = filter.verdicts(joined, limits, grader)
    made["logits"] = table.read(cached, schema.LOGITS)
    answering = BenchmarkAnswers(max_new_tokens=64, num_samples=2, chat=asking)
    made["answers"] = answers.answerer(engine, prompts, "golden", answering, len(samples))(samples)
    reader = CompletionReader(TokenizerFile(student.parent), limits.chat)
    ladder = token_budgets.ladder(answering.max_new_tokens)
    answered = evaluate.with_golds(questions, made["answers"])
    made["evaluate"] = evaluate.graded(answered, reader, ladder, grader)
    place = {"method": "mpd", "round": 1, "seed": 0, "benchmark": "dev"}
    row = summary.summarise(place, made["evaluate"])
    made["summary"] = summary.with_efficiency([row])
    compared = students_of(made["evaluate"])
    made["comparison"] = compare.comparison_frame(compared)
    made["difficulty"] = difficulty.by_difficulty(compared)
    at = budgets.accuracies(made["evaluate"], ladder).with_columns(placed("base", 0))
    made["budgets"] = budgets.curves([at])

    training = DistillSettings(learning_rate=1e-3, warmup=0, epochs=2, batch_size=4)
    output = folder / "student" / "manifest.json"
    arguments = ["--settings", training.model_dump_json(), "--student", str(student)]
    arguments += ["--logits", str(cached), "--filter", str(shard["filter"])]
    distill.main([*arguments, "--output", str(output), "--store", str(folder / "store")])
    made["models"] = world(folder / "world")
    made["engine"] = completions(student, tiny_prompts)
    made["metrics"] = table.read(output.parent / "metrics.parquet", schema.METRICS)
    seconds = {("mpd", 1): [{"wall_seconds": 1.5, "evaluation_seconds": None}]}
    made["report"] = report(folder, student)
    rounds, samplers = {("mpd", 1): [made]}, {"mpd": "student"}
    made["costs"] = costs.costs_by_student(rounds, seconds, samplers, given=False)
    tokens, note = {("mpd", 1): [{"logits": 300}]}, {"seconds": 2.0, "flops": 10**15}
    note |= {"peak_mb": 1e3, "peak_gpu_mb": 2e3, "device": "NVIDIA H100 80GB HBM3"}
    made["speed"] = speed.speed_by_student(
        tokens, {("mpd", 1): [{"filter": [{}], "logits": [note]}]}
    )
    return made


def scored_problems(folder: Path, artifact: schema.Artifact, **keys: str) -> pl.DataFrame:
    """Training problems of a task with scorers: of the package that tests have in its place."""
    source = {"source": "reasoning_gym", "task": "sum", "levels": [0, 2], "num_problems": 8}
    settings = TrainingProblems(train={**source, **keys}, num_dev=2)
    with gym.replaced():
        problems.write_train(folder, settings, [])
    return table.read(folder / "shard_0.parquet", artifact)


def banked() -> tuple[pl.DataFrame, pl.DataFrame]:
    """A bank of two rounds, and the routes of two questions along it."""
    embed = FakeEmbedder(sum=0, sum_of_two=10, rest=60, first=20, second=50, third=0)
    embed.angles |= {"Start Now": 10, "So Let Yes": 40, "Halve Double": 80}
    paths = [("Start", "Now"), ("So", "Let", "Yes"), ("Now", "Start"), ("Halve", "Double")]
    texts = [rationale(intent=(intent,), path=path) for intent, path in zip(
        ("sum", "sum of two", "sum", "rest"), paths, strict=True)]  # fmt: skip
    rounds = {1: texts[:3], 2: texts[3:]}
    read = {number: [written_rationale(text) for text in each] for number, each in rounds.items()}
    paths_of_rounds = bank_of(read, Bank(flush=1), embed)
    routes = [
        {"problem_id": name, "route": route}
        for name, route in zip(
            ("first", "second"),
            routes_of(paths_of_rounds, ["first", "second"], embed),
            strict=True,
        )
    ]
    rows = paths_of_rounds.rows()
    return table.frame_of(rows, schema.BANK), table.frame_of(routes, schema.ROUTES)


def placed(method, seed) -> list[pl.Expr]:
    """The columns that say whose answers they are."""
    number = int(method != "base")
    return [
        pl.lit(method).alias("method"),
        pl.lit(number, pl.Int32).alias("round"),
        pl.lit(seed, pl.Int32).alias("seed"),
        pl.lit("dev").alias("benchmark"),
    ]


def students_of(answered) -> pl.DataFrame:
    """A base student, one that needs half its tokens, and one that fails at all."""
    own = compare.per_problem(answered)
    half = pl.col("tokens", "solved_tokens") / 2
    changed = {
        "base": own,
        "mpd": own.with_columns(half),
        "opd": own.with_columns(accuracy=0.0, solved_tokens=pl.lit(None, pl.Float64)),
    }
    return pl.concat(
        frame.with_columns(placed(method, seed))
        for method, frame in changed.items()
        for seed in range(2)
    )


def completions(student, prompts) -> pl.DataFrame:
    """What the engine draws from a random model: `FakeEngine` hides choice, seeds and batches."""
    from mpd.engines.base import Request, seed_of
    from mpd.engines.transformers import TransformersEngine

    engine = TransformersEngine(student, "float32", GenerationResources(batch_size=3))
    requests = [
        Request(prompts.problem_ids(question), seed_of("golden", question))
        for question in ("1+3-2", "4-1+5", "2+2+2", "6-5+3-1")
    ]
    rows = [
        {"ids": done.token_ids, "reason": done.finish_reason, "logprobs": done.logprobs}
        for changes in ({}, {"temperature": 0.7, "top_p": 0.9, "top_k": 20}, {"temperature": 0})
        for done in engine.generate(requests, Decoding(max_new_tokens=12, **changes))
    ]
    return pl.DataFrame(rows, schema_overrides={"logprobs": pl.List(pl.Float32)})


def world(folder: Path) -> pl.DataFrame:
    """What decides the weights of the embedded world: examples, sizes, and some steps of training.

    The losses are those of the examples, of each model after ten steps.
    """
    import torch

    writers = (examples.student_writer(0.65, 0.1), examples.teacher_writer(30.0))
    rng = random.Random(0)
    rows = [writer(rng) for writer in writers for _ in range(20)]
    pretrain.train_student(folder / "student", 0, num_steps=10)
    pretrain.train_teacher(folder / "teacher", num_steps=10)
    losses = {}
    for role in ("student", "teacher"):
        model, tokenizer = load_model(folder / role, "float32"), load_tokenizer(folder / role)
        ids = [torch.tensor([tokenizer("".join(row))["input_ids"]]) for row in rows]
        with torch.no_grad():
            losses[role] = [model(input_ids=row, labels=row).loss.item() for row in ids]
    texts = [repr([row, sizes.STUDENT, sizes.TEACHER]) for row in rows]
    return pl.DataFrame({"text": texts, **losses})


def report(folder, student) -> pl.DataFrame:
    """A page of fixed findings with its browser, style and script.

    Of its figures only the places, and its data inflated: what other versions of the libraries
    make of the same drawing, or of the same bytes, are other texts.
    """
    from tokenizers import Tokenizer

    files = test_browser.write_round(
        folder / "round",
        sample=[test_browser.sampled(0, "long"), test_browser.sampled(1, "cut")],
        compress=[
            test_browser.rewritten("p0-0", "short"),
            test_browser.rewritten("p0-1", None, status="sample_truncated", num_tokens=None),
        ],
        filter=[
            test_browser.verdict(0),
            test_browser.verdict(1, num_tokens=None, reason="sample_truncated"),
        ],
        logits=[test_browser.cached("p0-0")],
    )
    section = browser_section.browser_data(
        "golden",
        {test_browser.ROUND: files},
        test_browser.problems_of(p0="1+6?"),
        Tokenizer.from_file(str(student.with_name("tokenizer.json"))),
    )
    answers = test_answer_browser.data_of(folder)
    page = test_page.page_of(browser=section, answers=answers)
    page = re.sub(r"<svg.*?</svg>", "<svg>", page, flags=re.DOTALL)
    page = re.sub(r'( id="data-[^"]+">)[^<]*<', r"\1<", page)
    data = json.dumps([test_browser.blocks_of(one) for one in (section, answers)])
    return pl.DataFrame({"text": [page, data]})


VERSIONS = {artifact.name: artifact.version for artifact in schema.ARTIFACTS}
# A student has no columns of its own: what it is shows in the metrics of its training.
VERSIONS["models"] = [schema.MODELS_VERSION, *PRETRAINING.values()]
VERSIONS["report"] = schema.REPORT_VERSION
# Other ids from the same model and seeds are other samples (and rewrites, and evaluations).
VERSIONS["engine"] = schema.SAMPLE.version
VERSIONS["metrics"] = [VERSIONS["metrics"], schema.STUDENT_VERSION]


@pytest.mark.parametrize("name", VERSIONS)
def test_changed_output_needs_another_version(name, frames):
    found = {"version": VERSIONS[name], **described(frames[name])}
    recorded = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("RECORD_GOLDEN"):
        GOLDEN.write_text(json.dumps({**recorded, name: found}, indent=1, sort_keys=True) + "\n")
        return
    expected = recorded[name]
    assert found["version"] == expected["version"], "a new version: record golden.json again"
    advice = (
        f"the output of {name} changed: bump VERSION in mpd/store/schema/ and record golden.json"
    )
    assert found["exact"] == expected["exact"], advice
    assert found["means"] == pytest.approx(expected["means"], rel=1e-3, abs=1e-5), advice
