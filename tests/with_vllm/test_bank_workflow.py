"""drpc through Snakemake, with and without a bank of paths: a server plays the teacher.

It needs the client of engine: server, which the environment of vLLM has.
"""

import json
import re
import subprocess
import sys

import polars as pl
import pytest
import yaml

pytest.importorskip("openai", reason="needs the client of engine: server: make vllm")

from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.text.rationales import route_of
from tests.bank import rationale, write_embedder
from tests.with_vllm.fake_server import serving
from tests.workflow.project import ENVIRONMENT, Project, computed, merged

# Sums are routed to "add +", differences to "take -"; the last of each is answered wrongly.
SUMS = ("1+2", "2+2", "3+1+1", "2+3", "1+1+1", "4+4")
DIFFERENCES = ("5-1", "6-2-1", "4-3", "9-5", "8-1-1", "7-7")
OTHERS = ("1+3", "2+1", "5-2", "6-1")  # the teacher changes their path, or breaks the rules
QUESTIONS = (*SUMS, *DIFFERENCES, *OTHERS)
WRONG = ("4+4", "7-7")
ADD, TAKE, CHANGED = ("Start", "Now"), ("So", "Let", "Yes"), ("So", "Yes")
# They show no problem but the one that is asked.
PROMPTS = {"structure": "{problem} in steps", "route": "{problem} along {route}"}
WORDS = ("add", "take", "+", "-", *map(str, range(10)))


def answered(prompt):
    """What the teacher writes: along the route that it is shown, or one of its own."""
    question = next(text for text in re.findall(r"[0-9](?:[+-][0-9])+", prompt))
    answer = sum(map(int, re.findall(r"[+-]?[0-9]", question)))
    answer = str(answer + 1 if question in WRONG else answer)
    shown = re.search(r'\{"category": "(?!\.).*?\]\}', prompt)
    if shown is None:
        category, intent = ("Sums", "add +") if "+" in question else ("sums ", "take -")
        path = ADD if "+" in question else TAKE
        path = ("Wait", "Let") if question in WRONG else path
        return rationale(category, (intent,), path, answer=answer)
    route = json.loads(shown[0])
    path = tuple(route["reasoning_path"])
    if question in ("1+3", "5-2"):
        path = CHANGED
    category = "Others" if question == "2+1" else route["category"]
    return rationale(category, tuple(route["intent"]), path, route["budget"], answer)


@pytest.fixture(scope="module")
def teacher(write_model, qwen_tokenizer, tmp_path_factory):
    """A teacher of a tokenizer that can spell JSON."""
    folder = tmp_path_factory.mktemp("rationales_teacher")
    return write_model(folder, seed=4, vocabulary=qwen_tokenizer, context=4096)


@pytest.fixture(scope="module")
def server(teacher, qwen_tokenizer, qwen_vocabulary):
    """The server that plays the teacher; `prompts` are the texts that it was asked."""

    def answer_to(answer):
        (choice,) = answer["choices"]
        prompt = qwen_tokenizer.decode(choice["prompt_token_ids"])
        server.prompts.append(prompt)
        ids = qwen_vocabulary.encode_plain(answered(prompt))
        choice["token_ids"] = [*ids, qwen_tokenizer.eos_token_id]
        choice["logprobs"] = {"token_logprobs": [-0.5] * (len(ids) + 1)}
        return answer

    with serving(read_manifest(teacher)["digest"][:12], qwen_tokenizer) as server:
        server.prompts, server.change = [], answer_to
        yield server


@pytest.fixture(scope="module")
def project(server, teacher, student, tmp_path_factory):
    """A folder with the workflow and what its configuration names; nothing has run there."""
    folder = tmp_path_factory.mktemp("rationales")
    embedder = write_embedder(folder / "embedder", WORDS)
    rows = [{"q": question, "a": str(eval(question))} for question in QUESTIONS]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train = {"source": "file", "path": str(folder / "rows.jsonl"), "num_problems": None}
    world = {
        "experiment": "small",
        "methods": ["drpc"],
        "models": {
            "student": {"source": "folder", "path": str(student.parent)},
            "teacher": {"source": "folder", "path": str(teacher.parent)},
            "embedder": {"source": "folder", "path": str(embedder)},
        },
        "problems": {
            "train": {**train, "question": "q", "answer": "a"},
            "num_train": None,
            "num_dev": 1,
            "benchmarks": [],
        },
        "sample": {"max_new_tokens": 8},
        "compress": {"engine": "server", "max_new_tokens": 400, **PROMPTS},
        "distill": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-5},
        "evaluate": {"max_new_tokens": 8},
        "resources": {"compress": {"server": server.url, "batch_size": 4}},
    }
    return Overlaid(folder, world)


BANK = {"rounds": 2, "compress": {"bank": {}}}


class Overlaid(Project):
    """A project whose overlay is a world of its own."""

    def __init__(self, folder, world):
        super().__init__(folder)
        self.world = world

    def command(self, *arguments, **changes):
        (self.folder / "overlay.yaml").write_text(yaml.safe_dump(merged(self.world, changes)))
        snakemake = [sys.executable, "-m", "snakemake", "--cores", "2"]
        return [*snakemake, "--configfile", "overlay.yaml", *arguments]


@pytest.fixture(scope="module")
def plain(project):
    """What a run with one round and no bank printed."""
    return project.run(rounds=1)


@pytest.fixture(scope="module")
def banked(project, plain, server):
    """What a run printed that went on with a second round and a bank."""
    server.prompts.clear()
    return project.run(**BANK)


def rows_of(project, number, stage):
    """The rows of a stage in a round by question."""
    results = project.folder / "results/small"
    problems = table.read(results / "problems/train/shard_0.parquet", schema.PROBLEMS)
    questions = dict(problems.select("problem_id", "question").iter_rows())
    path = results / f"drpc/seed_0/round_{number}/{stage}/shard_0.parquet"
    rows = table.read(path, getattr(schema, stage.upper()))
    return {questions[row["sample_id"][:-2]]: row for row in rows.iter_rows(named=True)}


def program(project, name, *arguments):
    """What a program of the package prints in the folder of the project."""
    words = [sys.executable, "-m", f"mpd.{name}", *arguments]
    done = subprocess.run(
        words, cwd=project.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_round_of_right_rationales_reaches_the_report(project, plain):
    verdicts = rows_of(project, 1, "filter")
    assert len(verdicts) == len(QUESTIONS) - 1
    dropped = {question: row["reason"] for question, row in verdicts.items() if not row["keep"]}
    assert dropped == dict.fromkeys(set(WRONG) & verdicts.keys(), "wrong_answer")
    rewrites = rows_of(project, 1, "compress")
    assert rewrites["3+1+1"]["text"] == "<think>Start: 1+3=4.\n\nNow: 1+3=4.</think>\\boxed{5}"
    assert "ship drpc, seed 0" in plain
    results = project.folder / "results/small"
    assert not [*results.glob("drpc/seed_0/*/bank"), *results.glob("models/embedder")]


def test_a_second_round_follows_a_bank_of_the_first(project, banked, server):
    made = computed(banked)
    assert [made.count(kind) for kind in ("models", "bank", "routes", "compress")] == [1] * 4
    folder = project.folder / "results/small/drpc/seed_0/round_2/bank"
    # The first sample of the round spells the category so.
    assert table.read(folder / "bank.parquet", schema.BANK).rows() == [
        ("sums", "add +", " ".join(ADD), 1),
        ("sums", "take -", " ".join(TAKE), 1),
    ]
    routes = table.read(folder / "routes.parquet", schema.ROUTES)["route"].value_counts()
    along = {"add +": route_of("sums", "add +", ADD), "take -": route_of("sums", "take -", TAKE)}
    assert sorted(routes["route"]) == sorted(along.values())
    for question, intent in (("3+1+1", "add +"), ("6-2-1", "take -")):
        (prompt,) = (text for text in server.prompts if f"\n{question} along" in text)
        assert prompt == (
            f"<|im_start|>user\n{question} along {along[intent]}<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n"
        )


def test_a_path_may_change_and_nothing_else(project, banked):
    rewrites = rows_of(project, 2, "compress")
    steps = "So: 1+3=4.\n\nYes: 1+3=4."
    assert rewrites["1+3"]["text"] == f"<think>{steps}</think>\\boxed{{4}}"
    assert rewrites["5-2"]["text"] == f"<think>{steps}</think>\\boxed{{3}}"
    assert (rewrites["2+1"]["status"], rewrites["2+1"]["text"]) == ("format", None)
    whole = sum(row["status"] == "ok" for row in rewrites.values())
    assert whole == len(rewrites) - 1
    log = project.folder / "results/small/logs/drpc/seed_0/round_2/compress/shard_0.log"
    assert f"{whole - 2} of {whole} rewrites keep the path of their route" in log.read_text()


def test_other_programs_know_the_bank(project, banked):
    assert "all whole" in program(project, "verify")
    overlay = ("--configfile", "overlay.yaml")
    project.command(**BANK)
    said = program(project, "why", *overlay, "--forcerun", "bank")
    assert re.search(r"would only be linked: .*\n  bank drpc/seed_0/round_2: it is forced", said)
    changed = {"compress": {"bank": {"eps": 0.5}}}
    project.command(**merged(BANK, changed))
    said = program(project, "why", *overlay)
    assert "bank drpc/seed_0/round_2: compress.bank.eps was 0.25, is 0.5" in said
    project.command(**BANK)
    planned = program(project, "plan", *overlay)
    assert re.findall(r"(\d) │ bank +│ +(\d) ", planned) == [("2", "1")]
    drawn = program(project, "why", "--graph", "results/small", "--output", "lineage.html")
    assert "0 inputs" not in drawn and "not there" not in drawn
    page = (project.folder / "lineage.html").read_text()
    assert "drpc/seed_0/round_2: bank" in page
    speed = pl.read_parquet(project.folder / "results/small/speed.parquet")
    stages = speed.filter(pl.col("method") == "drpc").group_by("round").agg("stage")
    assert {number: "bank" in names for number, names in stages.iter_rows()} == {1: False, 2: True}
    page = (project.folder / "results/small/report.html").read_text(encoding="utf-8")
    assert "near_duplicate" in page
