"""A teacher with another tokenizer: its text in the student's tokens, through the stages."""

import json

import polars as pl
import pytest

from mpd import compress, filter, logits, sample
from mpd.config.chat import Chat
from mpd.config.compress import TeacherRewrite
from mpd.engines.base import Completion
from mpd.engines.reencoding import Reencoder
from mpd.engines.rewriting import rewriter
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.text.completions import CompletionWriter
from mpd.text.prompts import Prompts

CHAT = Chat()
QUESTION = "1+3-2"
PROMPT = "{problem}\n{trajectory}\nrewrite"


@pytest.fixture(scope="module")
def learner(write_model, qwen_tokenizer, tmp_path_factory):
    """The manifest of a student whose tokens are not those of `teacher`."""
    return write_model(tmp_path_factory.mktemp("learner"), seed=5, vocabulary=qwen_tokenizer)


@pytest.fixture(scope="module")
def prompt(qwen_vocabulary):
    return Prompts.plain(qwen_vocabulary, CHAT).problem_ids(QUESTION)


@pytest.fixture(scope="module")
def reencoder(qwen_vocabulary, prompt):
    writer = CompletionWriter(qwen_vocabulary, CHAT)
    return Reencoder(writer, {QUESTION: prompt}, len(prompt) + 60)


def test_a_completion_gets_the_format_and_the_tokens_of_the_student(
    reencoder, qwen_tokenizer, ids_of
):
    opening, closing, stop = qwen_tokenizer.convert_tokens_to_ids(
        ["<think>", "</think>", "<|im_end|>"]
    )
    expected = [
        *(opening, *ids_of("\n1+3=4. 4-2=2.\n"), closing, *ids_of("\n\n\\boxed{2}"), stop),
    ]
    for text in (
        "<think>1+3=4. 4-2=2.</think>\\boxed{2}",
        "1+3=4. 4-2=2.\n\\boxed{2}",
        "1+3=4. 4-2=2.</think>\\boxed{2}",  # the teacher's prompt opened the thinking
    ):
        completion = reencoder.completion(QUESTION, text, "stop")
        assert (completion.token_ids, completion.finish_reason) == (expected, "stop"), text
        assert not completion.logprobs


@pytest.mark.parametrize(
    ("text", "reason", "expected"),
    [
        ("1+3=4. 4-", "length", "length"),
        ("no end", "stop", "stop"),
        ("", "too_long", "too_long"),
        ("1+1=2. " * 40 + "\n\\boxed{2}", "stop", "too_long"),
    ],
)
def test_what_is_no_whole_completion_keeps_its_reason(
    reencoder, qwen_vocabulary, text, reason, expected
):
    completion = reencoder.completion(QUESTION, text, reason)
    assert completion.finish_reason == expected
    stops = qwen_vocabulary.stop_ids if expected == "stop" else []
    whole = expected != "too_long"
    assert qwen_vocabulary.text(completion.token_ids) == (text if whole else "")
    assert completion.token_ids[len(completion.token_ids) - len(stops) :] == stops


def test_a_letter_without_a_token_is_lossy(tiny_format, tiny_prompts):
    prompts = {QUESTION: tiny_prompts.problem_ids(QUESTION)}
    completion = Reencoder(tiny_format, prompts, 256).completion(QUESTION, "Zebra", "stop")
    assert (completion.token_ids, completion.finish_reason) == ([], "lossy")


FORMAT = CHAT.model_dump(include={"think", "open", "close"})
READING = CHAT.model_dump(include={"think", "close"})
SAMPLING = {"max_new_tokens": 24, "seed": "0.1", "format": FORMAT}
VERBATIM = {"rewriter": "none", "sampler": "teacher", "chat": FORMAT}
KEEPING = {"kept": "all", "rewriter": "none", "max_repeats": 99, "chat": READING}
SCORING = {"context": "problem", "chat": READING}


class Stages:
    """Runs stages one after another in a folder; the files have the names of their stages."""

    def __init__(self, folder, problems):
        self.folder, self.paths = folder, {"problems": problems}

    def run(self, stage, models, settings):
        """The rows, and the identity in the footer."""
        name = stage.__name__.removeprefix("mpd.")
        output = self.folder / f"{name}.parquet"
        arguments = ["--settings", json.dumps(settings), "--output", str(output)]
        arguments += ["--store", str(self.folder / "store")]
        for role, path in {**self.paths, **models}.items():
            arguments += [f"--{role}", str(path)]
        stage.main(arguments)
        self.paths[name] = output
        artifact = getattr(schema, name.upper())
        return table.read(output, artifact), table.check(output, artifact)["identity"]


@pytest.fixture
def stages(tmp_path, problems):
    return Stages(tmp_path, problems)


def test_a_method_without_scores_takes_a_teacher_of_other_tokens(
    stages, learner, teacher, qwen_vocabulary
):
    ours, theirs = read_manifest(learner), read_manifest(teacher)
    models, free = {"student": learner, "teacher": teacher}, {"needs_scores": False}
    pair = {"student": teacher, "learner": learner}
    samples, identity = stages.run(sample, pair, {**SAMPLING, **free})
    assert identity["token_map"] == ours["token_map"] != theirs["token_map"]
    assert identity["student"] == theirs["digest"]
    assert samples["text"].str.len_chars().max() > 0
    for row in samples.join(_questions(stages), on="problem_id").iter_rows(named=True):
        prompt = Prompts.plain(qwen_vocabulary, CHAT).problem_ids(row["question"])
        assert row["prompt_ids"] == prompt
        assert qwen_vocabulary.text(row["completion_ids"]) == row["text"]
    candidates, _ = stages.run(compress, models, {**VERBATIM, **free})
    assert candidates["completion_ids"].to_list() == samples["completion_ids"].to_list()
    verdicts, _ = stages.run(filter, {}, KEEPING)
    assert verdicts["keep"].all()
    cache, identity = stages.run(logits, models, {**SCORING, **free})
    assert identity["teacher"] == identity["student"] == ours["digest"]
    assert len(cache) == len(samples)
    assert cache["divergence"].explode().abs().max() < 1e-4  # the student scores itself


def _questions(stages):
    return table.read(stages.paths["problems"], schema.PROBLEMS).select("problem_id", "question")


def test_a_method_with_scores_refuses_it_before_a_model_is_loaded(stages, learner, teacher, shard):
    message = "student and teacher have different token maps"
    with pytest.raises(ValueError, match=message):
        stages.run(sample, {"student": teacher, "learner": learner}, SAMPLING)
    models = {"student": learner, "teacher": teacher}
    stages.paths["sample"] = shard["sample"]
    with pytest.raises(ValueError, match=message):
        stages.run(compress, models, VERBATIM)
    stages.paths.update(shard)
    with pytest.raises(ValueError, match=message):
        stages.run(logits, models, SCORING)
    with pytest.raises(ValueError, match="whose tokens are not the student's; set cache: sparse"):
        stages.run(logits, models, {**SCORING, "needs_scores": False, "cache": "hidden"})


class Answering:
    """An engine that answers every request with one text."""

    context_length = 256

    def __init__(self, vocabulary, text):
        self.vocabulary, self.text = vocabulary, text

    def stream(self, requests, decoding, advance):
        for number, _ in enumerate(requests):
            ids = [*self.vocabulary.encode_plain(self.text), *self.vocabulary.stop_ids]
            yield number, Completion(ids, [], "stop")


def test_a_rewrite_is_encoded_by_the_students_tokenizer(
    vocabulary, qwen_vocabulary, qwen_tokenizer, ids_of, prompt
):
    settings = TeacherRewrite(rewriter="teacher", prompt=PROMPT, needs_scores=False, chat=FORMAT)
    engine = Answering(vocabulary, "1+3=4. 4-2=2.\n\\boxed{2}")
    writer = CompletionWriter(qwen_vocabulary, CHAT)
    rows = pl.DataFrame(
        {
            "sample_id": ["a-0"],
            "question": [QUESTION],
            "prompt_ids": [prompt],
            "text": ["Wait, is 1+3=4? Yes."],
            "finish_reason": ["stop"],
        }
    )
    (row,) = rewriter(engine, writer, settings, 1, 256)(rows).to_dicts()
    assert (row["status"], row["rewrite"]) == ("ok", engine.text)
    tokens = qwen_tokenizer.convert_tokens_to_ids(["<think>", "</think>", "<|im_end|>"])
    opening, closing, stop = tokens
    thinking, answer = ids_of("\n1+3=4. 4-2=2.\n"), ids_of("\n\n\\boxed{2}")
    assert row["completion_ids"] == [opening, *thinking, closing, *answer, stop]
