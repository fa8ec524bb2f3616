"""Rows that docs/methods.md describes, through the workflow: other teachers, and the hard world.

Most models here are not trained: their last layer says what they print.
"""

import copy
import json
import re
import subprocess

import polars as pl
import pytest
import torch
import yaml

from mpd.store import schema, table
from mpd.store.model_folder import load_model, read_manifest
from mpd.text.prompts import Prompts
from mpd.text.vocabulary import Vocabulary
from tests.printing import chain, printing
from tests.workflow.project import ENVIRONMENT, REPOSITORY, Project

METHODS = (REPOSITORY / "docs/methods.md").read_text()
QUESTIONS = ("1+3", "3+1", "2+2", "5-1", "6-2", "1+1+2", "2+1+1", "3+2-1", "6-1-1", "1+4-1")
# Answer to each of QUESTIONS, so that whatever ends in it is correct.
BOX = r"\boxed{4}"
SMALL = {
    "experiment": "small",
    "rounds": 1,
    "problems": {
        "train": {"source": "file", "path": "train.jsonl", "form": "plain", "num_problems": None},
        "num_train": 8,
        "num_dev": 2,
        "benchmarks": [],
    },
    "sample": {"temperature": 0.7, "max_new_tokens": 64},
    "compress": {"temperature": 0.7},
    "evaluate": {"max_new_tokens": 48},
    "distill": {"learning_rate": 1e-3, "budget": "steps", "amount": 1, "batch_size": 64},
}


def cut(tokenizer, *texts):
    """The ids of texts that follow each other."""
    return [token for text in texts for token in tokenizer(text).input_ids]


def folders(project):
    """The models of a run, in folders of the project."""
    places = {role: str(project.folder / role) for role in ("student", "teacher")}
    return {role: {"source": "folder", "path": place} for role, place in places.items()}


def new_project(folder):
    project = Project(folder, SMALL)
    lines = [json.dumps({"question": question, "answer": "4"}) for question in QUESTIONS]
    (folder / "train.jsonl").write_text("\n".join(lines))
    return project


def ran(project, **changes):
    """The results of a run on one core."""
    project.run("--cores", "1", **changes)
    return project.folder / "results" / "small"


def rows_of(results, method, stage):
    path = results / method / "seed_0" / "round_1" / stage / "shard_0.parquet"
    return table.read(path, getattr(schema, stage.upper()))


def metrics_of(results, method):
    return table.read(
        results / method / "seed_0" / "round_1" / "student" / "metrics.parquet", schema.METRICS
    )


def float64_logprobs(folder, prompt, completion, temperature=1.0):
    """The log-probabilities of a model at each token of a completion, [T, V], in float64."""
    model, size = load_model(folder, "float32").double(), Vocabulary.of_folder(folder).size
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1, :size]
    return (logits / temperature).log_softmax(-1)


# What the student prints before its answer; it may say all but the first sentence again.
VERBOSE = ("So the question is 1+3. ", "Wait, ", "verify all")


@pytest.fixture(scope="module")
def verbose():
    """A function that gives what the student prints, from its tokenizer and the end of a prompt."""

    def successors(tokenizer, end):
        parts = ("<think>", *VERBOSE, "</think>", BOX, "<|im_end|>")
        return chain(cut(tokenizer, end, *parts), cut(tokenizer, "all", ". ", "Wait"))

    return successors


class TestATeacherWithAnotherTokenizer:
    """Trained ids are the student's for the teacher's text, whatever tokens that was sampled in."""

    @pytest.fixture(scope="class")
    def project(self, tmp_path_factory, write_model, tokenizer, qwen_tokenizer, verbose):
        """A student of words, and a teacher of pieces whose chat template is another one."""
        project = new_project(tmp_path_factory.mktemp("other_tokenizer"))
        edit = printing(verbose(tokenizer, "\n"), [tokenizer.eos_token_id])
        write_model(project.folder / "student", 1, edit=edit)
        theirs = copy.deepcopy(qwen_tokenizer)
        theirs.chat_template = (
            "{%- for message in messages -%}{{- message.content + '<|im_end|>' -}}{%- endfor -%}"
            "{{- '<think>' if enable_thinking else '<think></think>\n' -}}"
        )
        # It thinks behind <think>, and rewrites behind a new line. The student has no `numbers`.
        ending = ("1+3", "</think>", BOX, "<|im_end|>")
        successors = chain(
            cut(theirs, "<think>", "So the answer is ", *ending),
            cut(theirs, "\n", *ending),
            cut(theirs, "\n", "So the numbers is ", *ending),
        )
        edit = printing(successors, [theirs.eos_token_id])
        write_model(project.folder / "teacher", 2, vocabulary=theirs, context=1024, edit=edit)
        return project

    @pytest.fixture(scope="class")
    def results(self, project):
        return ran(project, methods=["sft", "sft_rewrites"], models=folders(project))

    def test_look(self, results):
        for method in ("sft", "sft_rewrites"):
            for stage in ("sample", "compress", "filter", "logits"):
                frame = rows_of(results, method, stage)
                names = [
                    name
                    for name in ("text", "rewrite", "finish_reason", "status", "keep", "reason")
                    if name in frame.columns
                ]
                print(method, stage, len(frame))
                for row in frame.select(names).rows():
                    print(row)
            print(metrics_of(results, method))
