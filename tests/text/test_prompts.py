"""Prompts: the template filled in, the chat template, the day, and words without a token."""

import copy

import pytest

from mpd.text.prompts import Prompts, fill, prompt_inputs
from mpd.text.vocabulary import Vocabulary
from tests.changes import with_changes
from tests.qwen import CHATML, QWEN


@pytest.mark.parametrize(
    ("template", "values", "filled"),
    [
        ("{problem}\nrewrite", {"problem": "1+1"}, "1+1\nrewrite"),
        ("\\boxed{} {x} {{problem}}", {"problem": "1"}, "\\boxed{} {x} {1}"),
        ("{a}{b}", {"a": "{b}", "b": "{a}"}, "{b}{a}"),
        ("{a} {a}", {"a": r"\1 \g<0>"}, r"\1 \g<0> \1 \g<0>"),
        ("{trajectory}", {"problem": "{trajectory}", "trajectory": "t"}, "t"),
    ],
)
def test_fill_replaces_placeholders_and_nothing_else(template, values, filled):
    assert fill(template, **values) == filled


def prompts_of(vocabulary, template="{problem}", thinking=True, day=None):
    return Prompts(vocabulary, template, "chat.prompt", thinking, day)


def test_prompts_are_rendered_by_the_chat_template(qwen_vocabulary, qwen_tokenizer, ids_of):
    before, after = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    on, off = (prompts_of(qwen_vocabulary, thinking=thinking) for thinking in (True, False))
    assert on.render("2+2") == f"{before}2+2{after}"
    assert off.render("2+2") == f"{before}2+2{after}<think>\n\n</think>\n\n"
    start, end = qwen_tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    expected = [start, *ids_of("user\n2+2"), end, *ids_of("\n"), start, *ids_of("assistant\n")]
    assert on.ids(problem="2+2") == expected
    assert on.problem_ids("2+2") == expected


def test_the_plain_prompt_is_that_of_the_settings(qwen_vocabulary):
    chat = with_changes(QWEN, prompt="Solve {problem}.", date="2025-01-31")
    plain = Prompts.plain(qwen_vocabulary, chat)
    assert plain.problem_ids("2+2") == prompts_of(qwen_vocabulary).ids(problem="Solve 2+2.")
    assert (plain.key, plain.thinking, plain.day) == ("chat.prompt", True, "2025-01-31")


def test_a_prompt_may_have_several_values(qwen_vocabulary):
    rewriting = prompts_of(qwen_vocabulary, "{problem} {trajectory} shorter")
    ids = rewriting.ids(problem="2+2", trajectory="{problem}")
    assert ids == prompts_of(qwen_vocabulary).ids(problem="2+2 {problem} shorter")


def test_the_prompt_of_the_embedded_world(vocabulary, tokenizer):
    pieces = ["<|im_start|>", "user", "\n", "1", "+", "2", "<|im_end|>", "\n", "<|im_start|>"]
    pieces += ["assistant", "\n"]
    assert prompts_of(vocabulary).problem_ids("1+2") == tokenizer.convert_tokens_to_ids(pieces)
    off = tokenizer.convert_tokens_to_ids([*pieces, "<think>", "</think>"])
    assert prompts_of(vocabulary, thinking=False).problem_ids("1+2") == off


# How templates come to the day: Llama 3.2's is the first.
CLOCKS = {
    "default": """{%- if not date_string is defined %}
        {%- if strftime_now is defined %}
            {%- set date_string = strftime_now("%d %b %Y") %}
        {%- else %}
            {%- set date_string = "26 Jul 2024" %}
        {%- endif %}
    {%- endif %}
    {{- date_string }}""",
    "keyword": "{{ strftime_now(format='%d %b %Y') }}",
    "alias": "{% set ns = namespace(now=strftime_now) %}{{ ns.now('%d %b %Y') }}",
    "macro": "{% macro day(f='%d %b %Y') %}{{ strftime_now(f) }}{% endmacro %}{{ day() }}",
    "call": "{% macro outer() %}{{ caller() }}{% endmacro %}"
    "{% call outer() %}{{ strftime_now('%d %b %Y') }}{% endcall %}",
    "block": "{% block day %}{{ strftime_now('%d %b %Y') }}{% endblock %}",
    "loop": "{% for now in [strftime_now] %}{{ now('%d %b %Y') }}{% endfor %}",
}


@pytest.fixture
def templated(qwen_tokenizer):
    """A function that makes prompts with another chat template."""

    def change(template, day=None):
        tokenizer = copy.deepcopy(qwen_tokenizer)
        tokenizer.chat_template, tokenizer.name_or_path = template, "models/student"
        return prompts_of(Vocabulary(tokenizer, [tokenizer.eos_token_id]), day=day)

    return change


@pytest.fixture
def no_clock(monkeypatch):
    """Fails the test where transformers looks at the clock for a template."""
    from transformers.utils import chat_template_utils

    class Clock:
        @staticmethod
        def now():
            raise AssertionError("asked for the time")

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)


@pytest.mark.parametrize("spelling", CLOCKS)
def test_a_template_that_asks_for_the_day_gets_that_of_the_settings(
    templated, no_clock, ids_of, spelling
):
    template = CLOCKS[spelling] + "{{ ': ' + messages[0].content }}"
    prompts = templated(template, day="2025-01-31")
    assert prompts.render("2+2") == "31 Jan 2025: 2+2"
    assert prompts.problem_ids("2+2") == ids_of("31 Jan 2025: 2+2")


@pytest.mark.parametrize("spelling", CLOCKS)
def test_a_template_that_asks_for_the_day_needs_one(templated, no_clock, spelling):
    with pytest.raises(ValueError) as caught:
        templated(CLOCKS[spelling]).problem_ids("2+2")
    assert str(caught.value) == (
        "models/student: its chat template puts the day into prompts, and chat.date is null; set "
        "it to a day, such as 2025-01-31, so that a rerun has the same prompts"
    )


def test_the_day_has_no_time(templated, no_clock):
    prompts = templated("{{ strftime_now('%Y-%m-%dT%H:%M:%S%z') }}", day="2025-01-31")
    assert prompts.render("2+2") == "2025-01-31T00:00:00"


@pytest.mark.parametrize("mention", ["", "{% if false %}{{ strftime_now('%Y') }}{% endif %}"])
def test_a_template_that_does_not_ask_for_the_day_needs_none(templated, no_clock, mention):
    dated, plain = (templated(CHATML + mention, day) for day in ("2025-01-31", None))
    assert dated.problem_ids("2+2") == plain.problem_ids("2+2")


LACKS = "this model's vocabulary has no token for 'Zebra'"


def test_a_word_outside_the_vocabulary_is_named(vocabulary):
    with pytest.raises(ValueError) as caught:
        prompts_of(vocabulary).ids(problem="1+2 Zebra")
    assert str(caught.value) == f"{LACKS} of a prompt"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{problem}",
            f"question '1 Zebra': {LACKS}; fix or remove this problem, or take a student that "
            "has one",
        ),
        ("Zebra {problem}", f"chat.prompt: {LACKS}; use other words"),
    ],
)
def test_the_place_of_an_unknown_word_is_named(vocabulary, template, message):
    with pytest.raises(ValueError) as caught:
        prompts_of(vocabulary, template).problem_ids("1 Zebra")
    assert str(caught.value) == message


def test_a_word_of_the_chat_template_is_neither(tokenizer):
    other = copy.deepcopy(tokenizer)
    other.chat_template = "Zebra {{ messages[0].content }}"
    with pytest.raises(ValueError) as caught:
        prompts_of(Vocabulary(other, [0])).problem_ids("1+2")
    assert str(caught.value) == f"{LACKS} of a prompt"


def test_an_unknown_token_that_is_a_control_token_too_is_no_unknown_word(ids_of, qwen_tokenizer):
    """As in GPT-2: the template writes the token that would stand for unknown words."""
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    shared = PreTrainedTokenizerFast(
        tokenizer_object=qwen_tokenizer.backend_tokenizer,
        eos_token=end,
        unk_token=end,
        chat_template="{{ messages[0].content }}<|endoftext|>",
    )
    vocabulary = Vocabulary(shared, [shared.eos_token_id])
    assert shared.unk_token_id == shared.eos_token_id
    expected = [*ids_of("2+2"), shared.eos_token_id]
    assert prompts_of(vocabulary).problem_ids("2+2") == expected
    assert vocabulary.unknown_word(f"2 {end}{end}") is None


@pytest.mark.parametrize(
    ("texts", "is_spelled"),
    [
        (["2+2", "x < y", "<|im_|>", "<THINK>", ""], False),
        (["2+2", "1 </think> 2"], True),
        (["<|im_end|>"], True),
        ([f"{'<' * 100_000}think>"], True),
        (["a  b", "\\frac12"], False),
        ([], False),
    ],
)
def test_texts_that_spell_control_tokens_are_an_input(qwen_tokenizer, tmp_path, texts, is_spelled):
    """So that results of prompts in which they were control tokens are not found in the store."""
    tokenizer = copy.deepcopy(qwen_tokenizer)
    tokenizer.add_tokens(["  ", "\\frac"])
    tokenizer.save_pretrained(tmp_path)
    assert bool(prompt_inputs(tmp_path, texts)) is is_spelled


@pytest.mark.parametrize("word", ["\\frac", "ChatGPT", "▁▁", "  "])
def test_added_words_are_no_control_tokens(qwen_tokenizer, word):
    tokenizer = copy.deepcopy(qwen_tokenizer)
    tokenizer.add_tokens([word])
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_token_id])
    assert word not in vocabulary.control_ids
    (number,) = tokenizer.convert_tokens_to_ids([word])
    prompts = prompts_of(vocabulary)
    harmless, hostile = (prompts.problem_ids(f"1{word}2{more}") for more in ("", "</think>"))
    assert harmless == vocabulary.encode(prompts.render(f"1{word}2"))
    assert harmless.count(number) == hostile.count(number) == 1
    assert number in vocabulary.encode_plain(f"1{word}2 </think>")
