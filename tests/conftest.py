"""Shared fixtures: a tiny world of random models, and the tables of one hand-written shard.

Nothing here is trained: the models are small Qwen3 networks with random float32 weights and the
tokenizer of the embedded world. Torch is imported only by the fixtures that need it.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import polars as pl
import pytest

from mpd.store import schema, table
from mpd.text.questions import problem_id
from tests import gym
from tests.ordinary import OVERRIDE, overrides_modes, without
from tests.workflow import project


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Where the user is root, run the tests in a process that may not write what a mode forbids."""
    if not overrides_modes():
        return None
    arguments = config.invocation_params.args
    command = [*without(OVERRIDE), sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=config.invocation_params.dir, check=False).returncode


@pytest.fixture(autouse=True)
def nothing_stays_frozen():
    """What a job that ran in this process left to its end is garbage for the next test."""
    yield
    gc.unfreeze()


QUESTIONS = {
    "1+3-2": "2",
    "4-1+5": "8",
    "2+2+2": "6",
    "6-5+3-1": "3",
    "5+1-4+2-3": "1",
    "3+3": "6",
    "1+1+1+1": "4",
    "6-2-2": "2",
}


@pytest.fixture(scope="session")
def chat():
    """The section `chat` of the embedded world."""
    from mpd.config.chat import Chat

    return Chat(open="<think>", close="</think>")


@pytest.fixture(scope="session")
def tokenizer():
    from mpd.tiny.tokenizer import build_tokenizer

    return build_tokenizer()


@pytest.fixture(scope="session")
def vocabulary(tokenizer):
    from mpd.text.vocabulary import Vocabulary

    return Vocabulary(tokenizer, [tokenizer.eos_token_id])


@pytest.fixture(scope="session")
def tiny_prompts(vocabulary, chat):
    """The plain prompts of the embedded world."""
    from mpd.text.prompts import Prompts

    return Prompts.plain(vocabulary, chat)


@pytest.fixture(scope="session")
def tiny_format(vocabulary, chat):
    """The format of completions in the embedded world."""
    from mpd.text.completions import CompletionWriter

    return CompletionWriter(vocabulary, chat)


@pytest.fixture(scope="session")
def qwen_tokenizer():
    """A byte-level BPE tokenizer made as Qwen3's: the think tags are added, but not special."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from tests.qwen import CHATML, CORPUS

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, show_progress=False, special_tokens=[]
    )
    backend.train_from_iterator(CORPUS, trainer)
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tags = ("<think>", "</think>")
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in tags])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", chat_template=CHATML
    )


@pytest.fixture(scope="session")
def ids_of(qwen_tokenizer):
    """Plain text to ids by a second way: the ids of the BPE model's pieces, none of them added."""
    pieces = qwen_tokenizer.backend_tokenizer.model
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def encode(text):
        words = [word for word, _ in split.pre_tokenize_str(text)]
        return [token.id for word in words for token in pieces.tokenize(word)]

    return encode


@pytest.fixture(scope="session")
def qwen_vocabulary(qwen_tokenizer):
    from mpd.text.vocabulary import Vocabulary

    return Vocabulary(qwen_tokenizer, [qwen_tokenizer.eos_token_id])


@pytest.fixture(scope="session")
def write_model(tokenizer):
    """A function that writes a random model with a manifest; it returns the manifest's path.

    `vocabulary` is another tokenizer than the embedded world's; `edit` changes the weights.
    """
    import torch
    from transformers import PreTrainedTokenizerFast
    from transformers.models.qwen3 import Qwen3Config, Qwen3ForCausalLM

    from mpd.store.model_folder import write_manifest

    def stop_often(model: Qwen3ForCausalLM) -> None:
        """So that some completions stop and others reach their limit."""
        model.get_output_embeddings().weight[tokenizer.eos_token_id] *= 3

    def write(
        folder: Path,
        seed: int,
        *,
        padding: int = 0,
        tied: bool = False,
        context: int = 256,
        head_dim: int = 16,
        vocabulary: PreTrainedTokenizerFast = tokenizer,
        edit: Callable[[Qwen3ForCausalLM], None] = stop_often,
    ) -> Path:
        config = Qwen3Config(
            vocab_size=len(vocabulary) + padding,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=head_dim,
            max_position_embeddings=context,
            initializer_range=0.3,  # peaked enough that models disagree
            tie_word_embeddings=tied,
            bos_token_id=None,
            eos_token_id=vocabulary.eos_token_id,
            pad_token_id=vocabulary.pad_token_id,
        )
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            model = Qwen3ForCausalLM(config)
            edit(model)
        model.save_pretrained(folder)
        vocabulary.save_pretrained(folder)
        write_manifest(folder)
        return folder / "manifest.json"

    return write


@pytest.fixture(scope="session")
def student(write_model, tmp_path_factory):
    """The manifest of a student; its output head is a matrix of its own."""
    return write_model(tmp_path_factory.mktemp("student"), seed=1)


@pytest.fixture(scope="session")
def teacher(write_model, tmp_path_factory):
    """The manifest of a teacher of the same tokens, with padded rows and a tied head."""
    return write_model(tmp_path_factory.mktemp("teacher"), seed=2, padding=19, tied=True)


@pytest.fixture
def variant(student, tmp_path):
    """A function that copies the student with a changed JSON file, or more in its template."""
    import json
    import shutil

    from mpd.store.model_folder import write_manifest

    def change(name: str, more: str = ".", **changes: object) -> Path:
        folder = tmp_path / f"variant_{name}"
        shutil.copytree(student.parent, folder, ignore=lambda *_: ["manifest.json"])
        path = folder / name
        if changes:
            path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        else:
            path.write_text(path.read_text() + more)
        write_manifest(folder)
        return folder / "manifest.json"

    return change


@pytest.fixture(scope="session")
def problems(tmp_path_factory):
    """The problems of QUESTIONS as a Parquet file."""
    path = tmp_path_factory.mktemp("problems") / "shard_0.parquet"
    rows = [
        {"problem_id": problem_id(question), "question": question, "gold": gold, "source_row": row}
        for row, (question, gold) in enumerate(QUESTIONS.items())
    ]
    table.write(path, table.frame_of(rows, schema.PROBLEMS), schema.PROBLEMS, {})
    return path


@pytest.fixture(scope="session")
def shard(tmp_path_factory, problems, tiny_format, tiny_prompts, student, teacher):
    """Paths of problems, sample, compress and filter of one shard, every row kept.

    The samples are verbose and the rewrites concise solutions of the embedded world.
    """
    import random

    from mpd.store.model_folder import read_manifest
    from mpd.tiny.task import concise_trace, verbose_trace

    folder = tmp_path_factory.mktemp("shard")
    of_student, of_teacher = read_manifest(student), read_manifest(teacher)
    tokens = {"token_map": of_student["token_map"]}
    samples, candidates, verdicts = [], [], []
    for row in table.read(problems, schema.PROBLEMS).iter_rows(named=True):
        key = {"sample_id": f"{row['problem_id']}-0"}
        prompt = tiny_prompts.problem_ids(row["question"])
        reasoning, answer = verbose_trace(row["question"], random.Random(0), 1.0, 0.0)
        sample = tiny_format.encode(f"<think>{reasoning}</think>{answer}")
        rewrite = "\n".join(concise_trace(row["question"]))
        ids = tiny_format.build(rewrite, prompt)
        problem = {"problem_id": row["problem_id"]}
        lengths = {"num_tokens": len(ids)}
        samples.append(
            {
                **key,
                **problem,
                "sample_index": 0,
                "prompt_ids": prompt,
                "completion_ids": sample,
                "logprobs": None,
                "text": tiny_format.vocabulary.text(sample),
                "finish_reason": "stop",
                "num_tokens": len(sample),
            }
        )
        candidates.append(
            {
                **key,
                **lengths,
                "candidate": 0,
                "status": "ok",
                "rewrite": rewrite,
                "rewrite_tokens": len(ids),
                "text": tiny_format.vocabulary.text(ids),
                "completion_ids": ids,
            }
        )
        flags = ("truncated", "too_long", "leak", "copy", "repetition")
        verdicts.append(
            {
                **key,
                **problem,
                **lengths,
                **dict.fromkeys(flags, False),
                "candidate": 0,
                "gold": row["gold"],
                "sample_answer": row["gold"],
                "sample_verdict": "correct",
                "answer": row["gold"],
                "verdict": "correct",
                "correct": True,
                "format": True,
                "sample_tokens": len(sample),
                "ratio": len(ids) / len(sample),
                "overlap": 0.5,
                "keep": True,
                "reason": "kept",
            }
        )
    paths = {name: folder / f"{name}.parquet" for name in ("sample", "compress", "filter")}
    written = {"sample": samples, "compress": candidates, "filter": verdicts}
    identities = {
        "sample": {**tokens, "student": of_student["digest"]},
        "compress": {**tokens, "teacher": of_teacher["digest"]},
        "filter": {},
    }
    # Each shard names those that it was made from.
    contents = {"problems": table.content_digest(problems, schema.PROBLEMS)}
    for name, path in paths.items():
        artifact = getattr(schema, name.upper())
        frame = table.frame_of(written[name], artifact)
        identity = {**identities[name], **contents}
        contents[name] = table.write(path, frame, artifact, identity)
    return {"problems": problems, **paths}


@pytest.fixture(scope="session")
def logits_settings(chat):
    from mpd.config.logits import PlainScores

    return PlainScores(
        context="problem",
        top_k=8,
        student_top_k=8,
        tail_buckets=4,
        chat=chat.model_dump(include={"think", "close"}),
    )


@pytest.fixture(scope="session")
def run_logits():
    """A function that runs the stage `logits` over a shard; it returns the path of the cache."""
    from mpd import logits

    def run(folder: Path, shard: dict, student: Path, teacher: Path, settings: Any, *more: str):
        output = folder / "logits" / "shard_0.parquet"
        arguments = ["--settings", settings.model_dump_json(), "--output", str(output)]
        arguments += ["--store", str(folder / "store"), "--student", str(student)]
        arguments += ["--teacher", str(teacher), *more]
        for name, path in shard.items():
            arguments += [f"--{name}", str(path)]
        logits.main(arguments)
        return output

    return run


@pytest.fixture(scope="session")
def cached(tmp_path_factory, run_logits, shard, student, teacher, logits_settings):
    """The cache of `shard` as a Parquet file."""
    folder = tmp_path_factory.mktemp("cached")
    return run_logits(folder, shard, student, teacher, logits_settings)


@pytest.fixture
def empty_verdicts(shard) -> pl.DataFrame:
    """The verdicts of `shard` with nothing kept."""
    frame = table.read(shard["filter"], schema.FILTER)
    return frame.with_columns(keep=pl.lit(False), reason=pl.lit("wrong_answer"))


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the small world with one round: one for all processes of the session."""
    base = tmp_path_factory.getbasetemp()
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    return project.finished((base.parent if is_worker else base) / "finished_project")


@pytest.fixture(scope="module")
def finished_project(
    finished_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> project.Project:
    """A copy of the finished run, for one module to change."""
    folder = tmp_path_factory.mktemp("project")
    project.copied(finished_folder, folder)
    return project.Project(folder)


@pytest.fixture(scope="module")
def finished_store(finished_folder: Path) -> Path:
    """The store of the finished run, for projects that need not compute all of it again."""
    return finished_folder / "results" / "store"


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """Workers of a grader import tests/fakes/math_verify.py; a function that returns its lines."""
    path = tmp_path / "checked.txt"
    path.touch()
    monkeypatch.setenv("CHECKED_PAIRS", str(path))
    monkeypatch.syspath_prepend(Path(__file__).with_name("fakes"))
    return lambda: path.read_text().splitlines()


@pytest.fixture
def fake_gym():
    """Tasks as those of reasoning-gym, in place of that package: tests/fakes/gym."""
    with gym.replaced():
        yield
