"""Prompts, the split of a rewrite, and the ids of trained sequences."""

import hashlib

import pytest

from mpd.chat import ChatFormat, fill, ids_digest

QWEN = {
    "prompt": "{problem}",
    "thinking": True,
    "think": "tags",
    "open": "<think>\n",
    "close": "\n</think>\n\n",
}
NONE = {**QWEN, "think": "none"}
CORPUS = [
    "We add the two numbers and get the answer.",
    "The answer is \\boxed{4}. So 2+2=4, and 4-2=2.",
    "I think that <b>this</b> is a thinking step: think again.\n\nAnswer: 4\n",
]
CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and not enable_thinking -%}"
    "{{- '<think>\\n\\n</think>\\n\\n' -}}"
    "{%- endif -%}"
)
OPENED = CHATML + "{{- '<think>\\n' -}}"


@pytest.fixture(scope="module")
def qwen_tokenizer():
    """A byte-level BPE tokenizer made as Qwen3's: the think tags are added, but not special."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

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


@pytest.fixture(scope="module")
def qwen(qwen_tokenizer):
    return ChatFormat(qwen_tokenizer, QWEN, [qwen_tokenizer.eos_token_id])


@pytest.fixture(scope="module")
def ids_of(qwen_tokenizer):
    """Plain text to ids by a second way: the ids of the BPE model's pieces, none of them added."""
    pieces = qwen_tokenizer.backend_tokenizer.model
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def encode(text):
        words = [word for word, _ in split.pre_tokenize_str(text)]
        return [token.id for word in words for token in pieces.tokenize(word)]

    return encode


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


def test_ids_digest_separates_prompt_from_completion():
    expected = hashlib.sha256(b"[[1, 2], [3]]").hexdigest()[:16]
    assert ids_digest([1, 2], [3]) == expected
    assert ids_digest([1], [2, 3]) != expected
    assert ids_digest([12], [3]) != expected


def test_prompts_are_rendered_by_the_chat_template(qwen, qwen_tokenizer, ids_of):
    before, after = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    assert qwen.render("2+2", True) == f"{before}2+2{after}"
    assert qwen.render("2+2", False) == f"{before}2+2{after}<think>\n\n</think>\n\n"
    start, end = qwen_tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    expected = [start, *ids_of("user\n2+2"), end, *ids_of("\n"), start, *ids_of("assistant\n")]
    assert qwen.prompt_ids("2+2", True) == expected
    assert qwen.problem_ids("2+2") == expected
    asking = ChatFormat(qwen_tokenizer, {**QWEN, "prompt": "Solve {problem}."}, qwen.stop_ids)
    assert asking.problem_ids("2+2") == asking.prompt_ids("Solve 2+2.", True)


def test_the_prompt_of_the_embedded_world(tiny_format, tokenizer):
    pieces = ["<|im_start|>", "user", "\n", "1", "+", "2", "<|im_end|>", "\n", "<|im_start|>"]
    pieces += ["assistant", "\n"]
    assert tiny_format.problem_ids("1+2") == tokenizer.convert_tokens_to_ids(pieces)
    off = tokenizer.convert_tokens_to_ids([*pieces, "<think>", "</think>"])
    assert tiny_format.prompt_ids("1+2", False) == off


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
    """A function that gives a format another chat template and settings."""
    import copy

    def change(template, **changes):
        tokenizer = copy.deepcopy(qwen_tokenizer)
        tokenizer.chat_template, tokenizer.name_or_path = template, "models/student"
        return ChatFormat(tokenizer, {**QWEN, **changes}, [tokenizer.eos_token_id])

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
    format = templated(template, date="2025-01-31")
    assert format.render("2+2", True) == "31 Jan 2025: 2+2"
    assert format.problem_ids("2+2") == ids_of("31 Jan 2025: 2+2")


@pytest.mark.parametrize("spelling", CLOCKS)
def test_a_template_that_asks_for_the_day_needs_one(templated, no_clock, spelling):
    with pytest.raises(ValueError) as caught:
        templated(CLOCKS[spelling]).problem_ids("2+2")
    assert str(caught.value) == (
        "models/student: its chat template puts the day into prompts, and chat.date is null; set "
        "it to a day, such as 2025-01-31, so that a rerun means the same"
    )


def test_the_day_has_no_time(templated, no_clock):
    format = templated("{{ strftime_now('%Y-%m-%dT%H:%M:%S%z') }}", date="2025-01-31")
    assert format.render("2+2", True) == "2025-01-31T00:00:00"


@pytest.mark.parametrize("mention", ["", "{% if false %}{{ strftime_now('%Y') }}{% endif %}"])
def test_a_template_that_does_not_ask_for_the_day_needs_none(templated, no_clock, mention):
    dated, plain = (templated(CHATML + mention, **of) for of in ({"date": "2025-01-31"}, {}))
    assert dated.problem_ids("2+2") == plain.problem_ids("2+2")


LACKS = "this model's vocabulary has no token for 'Zebra'"


def test_a_word_outside_the_vocabulary_is_named(tiny_format):
    with pytest.raises(ValueError) as caught:
        tiny_format.prompt_ids("1+2 Zebra", True)
    assert str(caught.value) == f"{LACKS} of a prompt"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{problem}",
            f"question '1 Zebra': {LACKS}; mend or remove this problem, or take a student that "
            "knows it",
        ),
        ("Zebra {problem}", f"chat.prompt: {LACKS}; use other words there"),
    ],
)
def test_the_place_of_an_unknown_word_is_named(tokenizer, tiny_format, chat, template, message):
    format = ChatFormat(tokenizer, {**chat, "prompt": template}, tiny_format.stop_ids)
    with pytest.raises(ValueError) as caught:
        format.problem_ids("1 Zebra")
    assert str(caught.value) == message


def test_a_word_of_the_chat_template_is_neither(tokenizer, chat):
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = "Zebra {{ messages[0].content }}"
    with pytest.raises(ValueError) as caught:
        ChatFormat(other, chat, [0]).problem_ids("1+2")
    assert str(caught.value) == f"{LACKS} of a prompt"


def test_an_unknown_token_that_is_a_control_token_too_is_no_unknown_word(ids_of, qwen_tokenizer):
    """As in GPT-2: the template writes the token that would stand for unknown words."""
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    template = "{{ messages[0].content }}<|endoftext|>"
    shared = PreTrainedTokenizerFast(
        tokenizer_object=qwen_tokenizer.backend_tokenizer,
        eos_token=end,
        unk_token=end,
        chat_template=template,
    )
    format = ChatFormat(shared, QWEN, [shared.eos_token_id])
    assert shared.unk_token_id == shared.eos_token_id
    assert format.problem_ids("2+2") == [*ids_of("2+2"), shared.eos_token_id]
    assert format.unknown_word(f"2 {end}{end}") is None


def test_control_ids_are_the_close_tag_and_the_stop_ids(qwen, qwen_tokenizer):
    ids = qwen_tokenizer.convert_tokens_to_ids(["</think>", "<|im_end|>", "<|endoftext|>"])
    assert qwen.control_ids == ids[:2]
    more = ChatFormat(qwen_tokenizer, QWEN, [ids[1], ids[2], ids[1]])
    assert more.control_ids == ids
    assert ChatFormat(qwen_tokenizer, NONE, [ids[1]]).control_ids == [ids[1]]


def test_vocabulary_size_counts_added_tokens(qwen, qwen_tokenizer, tiny_format, tokenizer):
    assert qwen.vocabulary_size == qwen_tokenizer.convert_tokens_to_ids("</think>") + 1
    assert tiny_format.vocabulary_size == len(tokenizer)


def test_the_vocabulary_is_listed_once(qwen_tokenizer, monkeypatch):
    """Every step of a decode asks for its size."""
    listed = []
    monkeypatch.setattr("mpd.chat.vocabulary_size", lambda of: listed.append(of) or 7)
    format = ChatFormat(qwen_tokenizer, QWEN, [qwen_tokenizer.eos_token_id])
    assert [format.vocabulary_size, format.vocabulary_size] == [7, 7]
    assert len(listed) == 1


@pytest.mark.parametrize(
    ("rewrite", "parts"),
    [
        ("<think>2+2=4</think>It is \\boxed{4}.", ("2+2=4", "It is \\boxed{4}.")),
        ("  <think>\n2+2=4\n</think>\n\n4\n", ("2+2=4", "4")),
        ("2+2=4</think>4", ("2+2=4", "4")),
        ("<think>a</think>b</think>c", ("a</think>b", "c")),
        ("2+2=4.\n\\boxed{4}", ("2+2=4.", "\\boxed{4}")),
        ("2+2=4.\n\nSo it is\n\\boxed{4}\nindeed.", ("2+2=4.\n\nSo it is", "\\boxed{4}\nindeed.")),
        ("\\boxed{3}? No.\n\\boxed{4}", ("\\boxed{3}? No.", "\\boxed{4}")),
        ("2+2=4.\nAnswer: 4", ("2+2=4.", "Answer: 4")),
        ("2+2=4. \\boxed{4}", None),  # nothing before the answer line
        ("<think></think>4", None),
        ("<think>2+2=4</think>", None),
        ("2+2=4", None),
        ("", None),
    ],
)
def test_split_with_tags(qwen, rewrite, parts):
    assert qwen.split(rewrite) == parts


@pytest.mark.parametrize(
    ("rewrite", "parts"),
    [(" 2+2=4.\n4 ", ("", "2+2=4.\n4")), ("a</think>b", ("", "a</think>b")), (" \n", None)],
)
def test_split_without_tags(qwen_tokenizer, rewrite, parts):
    assert ChatFormat(qwen_tokenizer, NONE, [0]).split(rewrite) == parts


def test_build_puts_a_rewrite_in_the_format_of_qwen(qwen, qwen_tokenizer, ids_of):
    opening, closing, stop = qwen_tokenizer.convert_tokens_to_ids(
        ["<think>", "</think>", "<|im_end|>"]
    )
    prompt = qwen.problem_ids("2+2")
    ids = qwen.build("2+2=4.\n\\boxed{4}", prompt)
    assert ids == [
        opening,
        *ids_of("\n2+2=4.\n"),
        closing,
        *ids_of("\n\n\\boxed{4}"),
        stop,
    ]
    assert qwen_tokenizer.decode(ids) == "<think>\n2+2=4.\n</think>\n\n\\boxed{4}<|im_end|>"
    # The same text with its own tags, and other space around them, is the same sequence.
    assert qwen.build("<think> 2+2=4. </think>\\boxed{4}\n", prompt) == ids


def test_space_before_the_open_tag_is_left_out(qwen, qwen_tokenizer):
    spaced = ChatFormat(qwen_tokenizer, {**QWEN, "open": "\n<think>\n"}, qwen.stop_ids)
    prompt = qwen.problem_ids("2+2")
    assert spaced.build("a\n\\boxed{4}", prompt) == qwen.build("a\n\\boxed{4}", prompt)


def test_build_in_the_embedded_world(tiny_format, tokenizer):
    pieces = ["<think>", "1", "+", "2", "=", "3", ".", "</think>", "\\boxed{", "3", "}"]
    expected = tokenizer.convert_tokens_to_ids([*pieces, "<|im_end|>"])
    assert tiny_format.build("1+2=3.\n\\boxed{3}", tiny_format.problem_ids("1+2")) == expected


def test_build_leaves_the_open_tag_to_a_prompt_that_has_it(qwen_tokenizer, ids_of):
    from transformers import PreTrainedTokenizerFast

    opened = PreTrainedTokenizerFast(
        tokenizer_object=qwen_tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",
        chat_template=OPENED,
    )
    format = ChatFormat(opened, QWEN, [opened.eos_token_id])
    closing = opened.convert_tokens_to_ids("</think>")
    assert format.build("2+2=4.\n\\boxed{4}", format.problem_ids("2+2")) == [
        *ids_of("2+2=4.\n"),
        closing,
        *ids_of("\n\n\\boxed{4}"),
        opened.eos_token_id,
    ]


def test_build_without_tags_is_the_text_alone(qwen_tokenizer, ids_of):
    stop = qwen_tokenizer.eos_token_id
    format = ChatFormat(qwen_tokenizer, NONE, [stop])
    assert format.build(" 2+2=4.\nAnswer: 4\n", [1]) == [*ids_of("2+2=4.\nAnswer: 4"), stop]


@pytest.mark.parametrize("control", ["<|im_end|>", "<|im_start|>", "<think>", "</think>"])
def test_build_refuses_text_that_spells_a_control_token(qwen, control):
    prompt = qwen.problem_ids("2+2")
    assert qwen.build("2+2=4.\n\\boxed{4}", prompt) is not None
    assert qwen.build(f"2+2=4 {control}.</think>\\boxed{{4}}", prompt) is None
    if control != "</think>":  # which would only end the thinking there
        assert qwen.build(f"2+2=4.</think>\\boxed{{4}}{control} 4", prompt) is None


def test_build_refuses_what_cannot_be_said(tiny_format):
    prompt = tiny_format.problem_ids("1+2")
    assert tiny_format.build("1+2=3 Zebra.\n\\boxed{3}", prompt) is None
    assert tiny_format.build("1+2=3.\n\\boxed{Zebra}", prompt) is None


def test_added_tokens_of_space_alone_are_no_control_tokens(qwen_tokenizer, ids_of):
    """Many tokenizers have added tokens for runs of spaces, some for the end of a line."""
    import copy

    spaced = copy.deepcopy(qwen_tokenizer)
    spaced.add_tokens(["    ", "\n"])
    format = ChatFormat(spaced, QWEN, [spaced.eos_token_id])
    prompt = format.problem_ids("2+2")
    opening, closing = spaced.convert_tokens_to_ids(["<think>", "</think>"])
    assert format.build("a\n    b\n\\boxed{4}", prompt) == [
        opening,
        *ids_of("\na\n    b\n"),
        closing,
        *ids_of("\n\n\\boxed{4}"),
        spaced.eos_token_id,
    ]


@pytest.mark.parametrize(
    ("keys", "use"),
    [
        (("prompt", "thinking"), lambda format: format.problem_ids("1+2")),
        ((), lambda format: (format.text([2, 3]), format.prompt_ids("1", False))),
        (("think", "close"), lambda format: (format.control_ids, format.thinking_end([2]))),
        (("think", "open", "close"), lambda format: format.build("1\n\\boxed{4}", [2])),
        (("think", "open", "close"), lambda format: format.encode("<think>1</think>4")),
    ],
)
def test_a_use_needs_only_its_own_settings(tokenizer, tiny_format, chat, keys, use):
    format = ChatFormat(tokenizer, {key: chat[key] for key in keys}, tiny_format.stop_ids)
    assert use(format) == use(tiny_format)
    for key in keys:
        fewer = {other: chat[other] for other in keys if other != key}
        with pytest.raises(KeyError):
            use(ChatFormat(tokenizer, fewer, tiny_format.stop_ids))


def test_plain_text_never_becomes_a_control_token(qwen_tokenizer, ids_of):
    format = ChatFormat(qwen_tokenizer, NONE, [qwen_tokenizer.eos_token_id])
    text = "I write </think> and <|im_end|> here"
    control = set(qwen_tokenizer.convert_tokens_to_ids(["</think>", "<|im_end|>"]))
    # The trap: the tokenizer's own switch splits special added tokens, and only these.
    split = qwen_tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert control & set(split)
    ids = format.encode(text)
    assert not control & set(ids[:-1])
    assert ids == [*ids_of(text), qwen_tokenizer.eos_token_id]
    assert format.text(ids) == text


def test_encode_makes_tags_control_tokens_and_round_trips(qwen, qwen_tokenizer, ids_of):
    opening, closing, stop = qwen_tokenizer.convert_tokens_to_ids(
        ["<think>", "</think>", "<|im_end|>"]
    )
    text = "<think>\n2+2=4\n</think>\n\nIt is \\boxed{4}, ∑ünlike 5."
    ids = qwen.encode(text)
    assert ids == [
        opening,
        *ids_of("\n2+2=4\n"),
        closing,
        *ids_of("\n\nIt is \\boxed{4}, ∑ünlike 5."),
        stop,
    ]
    assert qwen.text(ids) == text


def test_encode_refuses_what_cannot_be_said(tiny_format):
    with pytest.raises(ValueError, match=r"cannot say '1\+Zebra' without loss"):
        tiny_format.encode("<think>1+Zebra</think>3")


def test_text_drops_the_stop_token_alone(qwen, qwen_tokenizer, ids_of):
    closing, stop, start = qwen_tokenizer.convert_tokens_to_ids(
        ["</think>", "<|im_end|>", "<|im_start|>"]
    )
    said = ids_of("a")
    assert qwen.text([*said, closing, start, stop]) == "a</think><|im_start|>"
    assert qwen.text([*said, stop, stop]) == "a<|im_end|>"
    assert qwen.text([*said, closing]) == "a</think>"
    assert qwen.text([]) == ""


def test_thinking_ends_after_the_last_close_tag(qwen, qwen_tokenizer, ids_of):
    closing = qwen_tokenizer.convert_tokens_to_ids("</think>")
    said = ids_of("a")
    assert len(said) == 1
    once = [*said, closing, *said]
    twice = [closing, *said, closing, *said, *said]
    assert [qwen.thinking_end(ids) for ids in (once, twice, said * 4, [])] == [2, 3, None, None]
    none = ChatFormat(qwen_tokenizer, NONE, [qwen_tokenizer.eos_token_id])
    assert none.thinking_end(once) is None


def test_a_close_tag_of_several_tokens(qwen_tokenizer, ids_of):
    chat = {**QWEN, "open": "", "close": "\nAnswer: "}
    format = ChatFormat(qwen_tokenizer, chat, [qwen_tokenizer.eos_token_id])
    closing = ids_of("Answer:")
    assert len(closing) > 1
    assert format.close_ids == closing
    assert format.control_ids == [*dict.fromkeys(closing), qwen_tokenizer.eos_token_id]
    said = ids_of("b")
    ids = [*said, *closing, *said, *closing, *said]
    assert format.thinking_end(ids) == 2 + 2 * len(closing)
    assert format.thinking_end([*said, *closing[:-1]]) is None
    assert format.thinking_end(closing) == len(closing)
    built = format.build("2+2=4.\nAnswer: 4", format.problem_ids("2+2"))
    assert built == [*ids_of("2+2=4.\n"), *closing, *ids_of(" 4"), format.stop_ids[0]]
    assert format.text(built) == "2+2=4.\nAnswer: 4"
