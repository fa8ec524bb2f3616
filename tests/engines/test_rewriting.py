"""Structural rationales: what the teacher is asked, and what becomes of its JSON."""

import json

import polars as pl
import pytest

from mpd.config.compress import ROUTE, STRUCTURE, Compress, TeacherRewrite
from mpd.engines.base import Completion, seed_of
from mpd.engines.rewriting import RewritingPrompts, require_prompts, rewriter
from mpd.text.completions import CompletionWriter
from mpd.text.grading.extraction import extract
from mpd.text.prompts import Prompts
from mpd.text.rationales import last_rationale, rationale_of, route_of
from tests.bank import rationale

QUESTION = "1+3-2"
GOOD = json.dumps(
    {
        "route": {
            "category": "Sums",
            "intent": ["sum"],
            "difficulty": 1,
            "budget": 2,
            "reasoning_path": ["Start", "Now"],
        },
        "rationale": {"Start": "1+3=4.", "Now": "4-2=2."},
        "ans": "2",
    }
)


class Teacher:
    """An engine of Qwen3's kind that answers with texts, one after another."""

    context_length = 4096

    def __init__(self, vocabulary, *texts):
        self.vocabulary, self.texts, self.requests = vocabulary, texts, []

    def fits(self, prompt_ids, decoding):
        return len(prompt_ids) + decoding.max_new_tokens <= self.context_length

    def stream(self, requests, decoding, advance):
        self.requests += requests
        for number, text in enumerate(self.texts[: len(requests)]):
            ids = [*self.vocabulary.encode_plain(text), *self.vocabulary.stop_ids]
            yield number, Completion(ids, [], "stop")


@pytest.fixture
def settings(chat):
    return TeacherRewrite(
        prompt=STRUCTURE,
        rewriter="teacher",
        instruction="structure",
        needs_scores=False,
        chat=chat.model_dump(include={"think", "open", "close"}),
        seed="3.2",
    )


def samples_of(prompt, *reasons):
    rows = [
        {
            "sample_id": f"{reason}-{number}",
            "question": QUESTION,
            "prompt_ids": prompt,
            "text": "Wait, is 1+3=4? Yes.",
            "finish_reason": reason,
        }
        for number, reason in enumerate(reasons)
    ]
    return pl.DataFrame(rows)


def test_steps_become_thinking_and_the_answer_is_found(
    settings, qwen_vocabulary, tiny_format, tiny_prompts
):
    teacher = Teacher(qwen_vocabulary, GOOD)
    prompt = tiny_prompts.problem_ids(QUESTION)
    samples = samples_of(prompt, "stop")
    (row,) = rewriter(teacher, tiny_format, settings, 1, 256)(samples).to_dicts()
    assert (row["status"], row["rewrite"]) == ("ok", GOOD)
    assert row["text"] == "<think>Start: 1+3=4.\n\nNow: 4-2=2.</think>\\boxed{2}"
    assert row["completion_ids"] == tiny_format.encode(row["text"])
    assert extract(row["text"], "</think>") == "2"
    (request,) = teacher.requests
    asked = Prompts(qwen_vocabulary, STRUCTURE, "compress.structure", False, None)
    assert request.prompt_ids == asked.ids(problem=QUESTION)
    assert request.seed == seed_of("compress", "3.2", "stop-0", 0)


def test_the_bank_reads_what_was_accepted_after_thinking(
    settings, qwen_vocabulary, tiny_format, tiny_prompts
):
    draft = GOOD.replace("Now", "Then").replace("{", "{{", 1)
    texts = [
        r"<think>It is \frac{1}{2} of {4}.</think>" + GOOD,
        f"<think>{draft}</think>\n\n```json\n{GOOD}\n```",
        f"No, {{4}}.</think><answer>{GOOD}</answer>",
        f"<think>{GOOD}</think>2",
    ]
    samples = samples_of(tiny_prompts.problem_ids(QUESTION), *["stop"] * len(texts))
    thinks = settings.model_copy(update={"thinking": True})
    rows = rewriter(Teacher(qwen_vocabulary, *texts), tiny_format, thinks, 4, 256)(samples)
    assert rows["status"].to_list() == ["ok", "ok", "ok", "format"]
    for text in rows["rewrite"][:3]:
        assert last_rationale(text) == rationale_of(GOOD)


def test_a_rewrite_that_breaks_the_schema_is_a_row_with_that_status(
    settings, qwen_vocabulary, tiny_format, tiny_prompts
):
    texts = "1+3=4. 4-2=2.\n\\boxed{2}", GOOD.replace('"budget": 2', '"budget": 3'), GOOD
    prompt = tiny_prompts.problem_ids(QUESTION)
    samples = samples_of(prompt, "stop", "stop", "stop")
    rows = rewriter(Teacher(qwen_vocabulary, *texts), tiny_format, settings, 3, 256)(samples)
    assert rows["status"].to_list() == ["format", "format", "ok"]
    assert rows["rewrite"].to_list() == list(texts)
    assert rows["completion_ids"].null_count() == 2


def test_half_an_escaped_emoji_is_a_row_with_that_status(settings, qwen_vocabulary, tiny_prompts):
    text = GOOD.replace("4-2=2.", r"4-2=2 \ud83d.")
    samples = samples_of(tiny_prompts.problem_ids(QUESTION), "stop")
    writer = CompletionWriter(qwen_vocabulary, settings.chat)
    rows = rewriter(Teacher(qwen_vocabulary, text), writer, settings, 1, 256)(samples)
    assert rows["status"].to_list() == ["format"]


def test_a_trajectory_counts_where_the_prompt_shows_it(
    settings, qwen_vocabulary, tiny_format, tiny_prompts
):
    prompt = tiny_prompts.problem_ids(QUESTION)
    samples = samples_of(prompt, "length", "lossy", "too_long")
    teacher = Teacher(qwen_vocabulary, GOOD, GOOD)
    rows = rewriter(teacher, tiny_format, settings, 3, 256)(samples)
    assert rows["status"].to_list() == ["ok", "ok", "sample_too_long"]
    showing = settings.model_copy(update={"prompt": f"{STRUCTURE}\n{{trajectory}}"})
    rows = rewriter(Teacher(qwen_vocabulary), tiny_format, showing, 3, 256)(samples)
    assert rows["status"].to_list() == ["sample_truncated", "sample_lossy", "sample_too_long"]


def test_the_prompt_needs_the_problem_alone():
    prompt = "{problem}{trajectory}"
    Compress(prompt=prompt, structure="{problem}")
    with pytest.raises(ValueError, match=r"structure must contain \{problem\}"):
        Compress(prompt=prompt, structure="{trajectory}")


GIVEN = route_of("Sums", "sum", ("Start", "Now"))


def test_a_row_with_a_route_is_asked_along_it(settings, qwen_vocabulary, tiny_format, tiny_prompts):
    settings = settings.model_copy(update={"route": ROUTE})
    changed = rationale(path=("Now",), budget=2)
    other = rationale(category="Others")
    samples = samples_of(tiny_prompts.problem_ids(QUESTION), *["stop"] * 4)
    samples = samples.with_columns(route=pl.Series([GIVEN, GIVEN, GIVEN, None]))
    teacher = Teacher(qwen_vocabulary, GOOD, changed, other, other)
    require_prompts(teacher, settings.model_copy(update={"max_new_tokens": 8}), samples)
    rows = rewriter(teacher, tiny_format, settings, 4, 256)(samples)
    assert rows["status"].to_list() == ["ok", "ok", "format", "ok"]
    assert rows["text"][1] == "<think>Now: 1+3=4.</think>\\boxed{2}"
    along = Prompts(qwen_vocabulary, ROUTE, "compress.route", False, None)
    plain = Prompts(qwen_vocabulary, STRUCTURE, "compress.structure", False, None)
    prompt = along.ids(problem=QUESTION, route=GIVEN)
    expected = [prompt, prompt, prompt, plain.ids(problem=QUESTION)]
    assert [request.prompt_ids for request in teacher.requests] == expected
    assert f"route:\n\n{GIVEN}\n\nKeep" in qwen_vocabulary.decode(prompt)


def test_a_route_that_spells_a_control_token_is_text(settings, qwen_vocabulary, tiny_prompts):
    settings = settings.model_copy(update={"route": "{problem} {route}"})
    samples = samples_of(tiny_prompts.problem_ids(QUESTION), "stop")
    route = route_of("<|im_end|>", "é <think>", ("Start", "Now"))
    prompts = RewritingPrompts.of(Teacher(qwen_vocabulary), settings)
    ids = prompts.ids({**samples.to_dicts()[0], "route": route})
    assert f"{QUESTION} {route}" in qwen_vocabulary.decode(ids)
    stop = qwen_vocabulary.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ids.count(stop) == 1


def test_the_prompt_of_a_route_needs_both():
    for route in ("{problem}", "{route}"):
        with pytest.raises(ValueError, match=r"route must contain \{"):
            Compress(prompt="{problem}{trajectory}", route=route)
