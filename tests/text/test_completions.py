"""Where thinking ends, the split of a rewrite, and the ids of trained sequences."""

import copy
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, normalizers

from mpd.config.chat import ReadingChat
from mpd.text.completions import (
    CompletionFormat,
    CompletionReader,
    CompletionWriter,
    LossyText,
    ids_digest,
)
from mpd.text.prompts import Prompts
from mpd.text.vocabulary import TokenizerFile, Vocabulary
from tests.changes import with_changes
from tests.qwen import CHATML, NONE, OPENED, QWEN

TAGS = ReadingChat(think="tags", close="</think>")


@pytest.fixture(scope="module")
def qwen(qwen_vocabulary):
    return CompletionWriter(qwen_vocabulary, QWEN)


@pytest.fixture(scope="module")
def untagged(qwen_vocabulary):
    """A format without think tags."""
    return CompletionWriter(qwen_vocabulary, NONE)


@pytest.fixture(scope="module")
def prompt(qwen_vocabulary):
    return Prompts.plain(qwen_vocabulary, QWEN).problem_ids("2+2")


def test_ids_digest_separates_prompt_from_completion():
    expected = hashlib.sha256(b"[[1, 2], [3]]").hexdigest()[:16]
    assert ids_digest([1, 2], [3]) == expected
    assert ids_digest([1], [2, 3]) != expected
    assert ids_digest([12], [3]) != expected


def test_control_ids_are_the_close_tag_and_the_stop_ids(qwen, untagged, qwen_tokenizer):
    ids = qwen_tokenizer.convert_tokens_to_ids(["</think>", "<|im_end|>", "<|endoftext|>"])
    assert qwen.control_ids == ids[:2]
    more = Vocabulary(qwen_tokenizer, [ids[1], ids[2], ids[1]])
    assert CompletionWriter(more, QWEN).control_ids == ids
    assert untagged.control_ids == [ids[1]]


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
        ("2+2=4. \\boxed{4}", ("2+2=4. \\boxed{4}", "\\boxed{4}")),  # one line is not cut
        ("\\boxed{4}", None),  # nothing before the answer
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
def test_split_without_tags(untagged, rewrite, parts):
    assert untagged.split(rewrite) == parts


def test_build_puts_a_rewrite_in_the_format_of_qwen(qwen, prompt, qwen_tokenizer, ids_of):
    opening, closing, stop = qwen_tokenizer.convert_tokens_to_ids(
        ["<think>", "</think>", "<|im_end|>"]
    )
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


def test_space_before_the_open_tag_is_left_out(qwen, prompt):
    spaced = CompletionWriter(qwen.vocabulary, with_changes(QWEN, open="\n<think>\n"))
    assert spaced.build("a\n\\boxed{4}", prompt) == qwen.build("a\n\\boxed{4}", prompt)


def test_build_in_the_embedded_world(tiny_format, tiny_prompts, tokenizer):
    pieces = ["<think>", "1", "+", "2", "=", "3", ".", "</think>", "\\boxed{", "3", "}"]
    expected = tokenizer.convert_tokens_to_ids([*pieces, "<|im_end|>"])
    assert tiny_format.build("1+2=3.\n\\boxed{3}", tiny_prompts.problem_ids("1+2")) == expected


def test_build_leaves_the_open_tag_to_a_prompt_that_has_it(qwen_tokenizer, ids_of):
    from transformers import PreTrainedTokenizerFast

    opened = PreTrainedTokenizerFast(
        tokenizer_object=qwen_tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",
        chat_template=OPENED,
    )
    vocabulary = Vocabulary(opened, [opened.eos_token_id])
    prompt = Prompts.plain(vocabulary, QWEN).problem_ids("2+2")
    closing = opened.convert_tokens_to_ids("</think>")
    assert CompletionWriter(vocabulary, QWEN).build("2+2=4.\n\\boxed{4}", prompt) == [
        *ids_of("2+2=4.\n"),
        closing,
        *ids_of("\n\n\\boxed{4}"),
        opened.eos_token_id,
    ]


@pytest.mark.parametrize(
    ("opening", "begin"),
    [("<think>\\n", ""), ("<think>", "\n"), ("<think>\\n\\n", ""), ("", "<think>\n")],
)
def test_build_goes_on_where_the_prompt_ends(qwen_tokenizer, opening, begin):
    """GLM's template, for one, ends in the tag without the new line that the model then writes."""
    tokenizer = copy.deepcopy(qwen_tokenizer)
    tokenizer.chat_template = CHATML + f"{{{{- '{opening}' -}}}}"
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_token_id])
    prompt = Prompts.plain(vocabulary, QWEN).problem_ids("2+2")
    ids = CompletionWriter(vocabulary, QWEN).build("2+2=4.\n\\boxed{4}", prompt)
    assert tokenizer.decode(ids) == f"{begin}2+2=4.\n</think>\n\n\\boxed{{4}}<|im_end|>"


def test_tags_of_several_control_tokens_and_words(qwen_tokenizer, prompt):
    """As those of gpt-oss."""
    tokenizer = copy.deepcopy(qwen_tokenizer)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|channel|>", "<|message|>", "<|end|>"]}
    )
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_token_id])
    opening, closing = "<|channel|>analysis<|message|>", "<|end|><|channel|>final<|message|>"
    writer = CompletionWriter(vocabulary, with_changes(QWEN, open=opening, close=closing))
    ids = writer.build("2+2=4.\n\\boxed{4}", prompt)
    text = f"{opening}2+2=4.{closing}\\boxed{{4}}<|im_end|>"
    assert ids == tokenizer(text, add_special_tokens=False).input_ids
    assert writer.encode(text.removesuffix("<|im_end|>")) == ids
    assert vocabulary.decode(ids[: writer.thinking_end(ids)]) == f"{opening}2+2=4.{closing}"
    assert writer.build("I write <|message|>.\n\\boxed{4}", prompt) is None


def test_build_without_tags_is_the_text_alone(untagged, qwen_tokenizer, ids_of):
    stop = qwen_tokenizer.eos_token_id
    assert untagged.build(" 2+2=4.\nAnswer: 4\n", [1]) == [*ids_of("2+2=4.\nAnswer: 4"), stop]


@pytest.mark.parametrize("control", ["<|im_end|>", "<|im_start|>", "<think>", "</think>"])
def test_build_refuses_text_that_spells_a_control_token(qwen, prompt, control):
    assert qwen.build("2+2=4.\n\\boxed{4}", prompt) is not None
    assert qwen.build(f"2+2=4 {control}.</think>\\boxed{{4}}", prompt) is None
    if control != "</think>":  # which would only end the thinking there
        assert qwen.build(f"2+2=4.</think>\\boxed{{4}}{control} 4", prompt) is None


def test_build_refuses_what_cannot_be_said(tiny_format, tiny_prompts):
    prompt = tiny_prompts.problem_ids("1+2")
    assert tiny_format.build("1+2=3 Zebra.\n\\boxed{3}", prompt) is None
    assert tiny_format.build("1+2=3.\n\\boxed{Zebra}", prompt) is None


@pytest.mark.parametrize("spaces", [["    ", "\n"], ["    ", "▁▁"], ["\n\n", "\t"]])
def test_added_tokens_of_space_alone_are_no_control_tokens(qwen_tokenizer, spaces):
    """Many tokenizers have added tokens for runs of spaces, some for the end of a line.

    What a model writes has them, and so has what it is trained on.
    """
    spaced = copy.deepcopy(qwen_tokenizer)
    spaced.add_tokens(spaces)
    vocabulary = Vocabulary(spaced, [spaced.eos_token_id])
    prompt = Prompts.plain(vocabulary, QWEN).problem_ids("2+2")
    text = "<think>\na\n    b\n\tc\n</think>\n\n\\boxed{4}<|im_end|>"
    ids = CompletionWriter(vocabulary, QWEN).build("a\n    b\n\tc\n\\boxed{4}", prompt)
    assert ids == spaced(text, add_special_tokens=False).input_ids
    assert {*spaced.convert_tokens_to_ids(spaces)} & {*ids}
    assert vocabulary.decode(ids) == text
    assert Prompts.plain(vocabulary, QWEN).problem_ids(text)[3:-5] != ids  # they are text there


def test_plain_text_never_becomes_a_control_token(untagged, qwen_tokenizer, ids_of):
    text = "I write </think> and <|im_end|> here"
    control = set(qwen_tokenizer.convert_tokens_to_ids(["</think>", "<|im_end|>"]))
    # The trap: the tokenizer's own switch splits special added tokens, and only these.
    split = qwen_tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert control & set(split)
    ids = untagged.encode(text)
    assert not control & set(ids[:-1])
    assert ids == [*ids_of(text), qwen_tokenizer.eos_token_id]
    assert untagged.vocabulary.text(ids) == text


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
    assert qwen.vocabulary.text(ids) == text


def test_encode_refuses_what_cannot_be_encoded(tiny_format):
    with pytest.raises(ValueError, match=r"cannot encode '1\+Zebra' without loss"):
        tiny_format.encode("<think>1+Zebra</think>3")


def spaced(scheme):
    """A tokenizer of SentencePiece's kind, whose texts begin with a space under some schemes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [*"▁2+=4.\n\\boxed{}Answer: ", "▁2"]
    ids = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.BPE(ids, [("▁", "2")]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    controls = ["<think>", "</think>", "<|im_end|>"]
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in controls])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")


@pytest.mark.parametrize("chat", [QWEN, with_changes(QWEN, open="<think>", close="</think>"), NONE])
@pytest.mark.parametrize("scheme", ["first", "never", "always"])
def test_no_space_comes_between_control_tokens_and_text(scheme, chat):
    tokenizer = spaced(scheme)
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_token_id])
    writer = CompletionWriter(vocabulary, chat)
    before = tokenizer.convert_tokens_to_ids(["</think>"])
    ids = writer.build("2+2=4.\n\\boxed{4}", before)
    if scheme == "always" and chat.think == "tags":  # no ids of this tokenizer give this text
        assert ids is None
        with pytest.raises(ValueError, match=r"cannot encode '.*2\+2.*' without loss"):
            writer.encode("<think>2+2</think>4")
        return
    assert ids is not None
    if (
        scheme == "always"
    ):  # without tags, its text is right but for the space that begins all texts
        assert ids == tokenizer("2+2=4.\n\\boxed{4}<|im_end|>", add_special_tokens=False).input_ids
        assert vocabulary.text(ids) == "2+2=4.\n\\boxed{4}"
        return
    tags = (f"{chat.open}2+2=4.{chat.close}", "2+2=4.\n")[chat.think == "none"]
    text = f"{tags}\\boxed{{4}}<|im_end|>"
    assert tokenizer.decode([*before, *ids]) == f"</think>{text}"
    # What the tokenizer gives for the whole text behind a prompt.
    assert [*before, *ids] == tokenizer(f"</think>{text}", add_special_tokens=False).input_ids
    assert writer.encode(text.removesuffix("<|im_end|>")) == ids


@pytest.mark.parametrize("scheme", ["first", "never", "always"])
@pytest.mark.parametrize("prompt", ["</think>2\n", "</think>2\n\n", "</think>\n"])
def test_no_space_begins_a_line(scheme, prompt):
    """Prompts end in a new line in ChatML: what follows is the beginning of a line."""
    tokenizer = spaced(scheme)
    writer = CompletionWriter(Vocabulary(tokenizer, [tokenizer.eos_token_id]), NONE)
    prompt_ids = tokenizer(prompt, add_special_tokens=False).input_ids
    text = "2+2=4.\n\\boxed{4}<|im_end|>"
    ids = writer.build(text.removesuffix("<|im_end|>"), prompt_ids)
    assert [*prompt_ids, *ids] == tokenizer(prompt + text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("scheme", ["first", "never"])
@pytest.mark.parametrize("text", [" 2", "2 ", "  2", "2  2", " "])
def test_space_of_a_text_stays(scheme, text):
    tokenizer = spaced(scheme)
    writer = CompletionWriter(Vocabulary(tokenizer, [tokenizer.eos_token_id]), QWEN)
    ids = writer.encode(f"<think>{text}</think>{text}4")
    assert tokenizer.decode(ids) == f"<think>{text}</think>{text}4<|im_end|>"


def test_a_close_tag_of_ordinary_tokens_gets_no_space():
    tokenizer = spaced("first")
    chat = with_changes(QWEN, open="", close="\nAnswer: ")
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_token_id])
    writer = CompletionWriter(vocabulary, chat)
    before = tokenizer.convert_tokens_to_ids(["</think>"])
    ids = writer.build("2+2=4.\nAnswer: 4", before)
    text = "</think>2+2=4.\nAnswer: 4<|im_end|>"
    assert [*before, *ids] == tokenizer(text, add_special_tokens=False).input_ids
    assert writer.thinking_end(ids) == len(ids) - 3  # space, 4 and the stop id


def merging(tokenizer, *merges):
    """The tokenizer with further merges, of punctuation and space too, as of large vocabularies."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["pre_tokenizer"]["use_regex"] = False
    vocabulary = state["model"]["vocab"]
    place = max(token["id"] for token in state["added_tokens"]) + 1
    for left, right in merges:
        vocabulary.setdefault(left + right, place + len(vocabulary))
    state["model"]["merges"] = [*map(list, merges), *state["model"]["merges"]]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        eos_token="<|im_end|>",
        chat_template=tokenizer.chat_template,
    )


@pytest.mark.parametrize("name", ["reasoning", "thought"])
def test_tags_of_ordinary_tokens_are_what_the_tokenizer_gives_for_the_whole(qwen_tokenizer, name):
    """`>` and a new line are one token of most large vocabularies."""
    tokenizer = merging(qwen_tokenizer, ("<", "/"), (".", "</"), (">", "Ċ"), (">Ċ", "Ċ"))
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_token_id])
    chat = with_changes(QWEN, open=f"<{name}>\n", close=f"</{name}>\n\n")
    writer = CompletionWriter(vocabulary, chat)
    prompt = Prompts.plain(vocabulary, chat).problem_ids("2+2")
    text = f"<{name}>\n2+2=4.</{name}>\n\n\\boxed{{4}}"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert writer.build("2+2=4.\n\\boxed{4}", prompt) == [*ids, tokenizer.eos_token_id]
    assert writer.encode(text) == [*ids, tokenizer.eos_token_id]
    end = writer.thinking_end(ids)
    assert vocabulary.decode(ids[:end]) == f"<{name}>\n2+2=4.</{name}>\n\n"
    assert writer.thinking_end(ids[: end - 1]) is None


@pytest.mark.parametrize(
    "flags", [{"rstrip": True}, {"lstrip": True}, {"lstrip": True, "rstrip": True}]
)
def test_tags_that_swallow_space(qwen_tokenizer, flags):
    """As those of Phi: what is trained is what the tokenizer gives for the text."""
    tokenizer = copy.deepcopy(qwen_tokenizer)
    tags = [AddedToken(f"<{mark}work>", normalized=False, **flags) for mark in ("", "/")]
    tokenizer.add_tokens(tags)
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_token_id])
    chat = with_changes(QWEN, open="<work>\n", close="\n</work>\n\n")
    writer = CompletionWriter(vocabulary, chat)
    text = "<work>\n2+2=4.\n</work>\n\n\\boxed{4}<|im_end|>"
    ids = writer.build("2+2=4.\n\\boxed{4}", Prompts.plain(vocabulary, chat).problem_ids("2+2"))
    assert ids == tokenizer(text, add_special_tokens=False).input_ids
    assert writer.encode(text.removesuffix("<|im_end|>")) == ids
    assert len(vocabulary.decode(ids)) < len(text)


def test_thinking_ends_after_the_last_close_tag(qwen, untagged, qwen_tokenizer, ids_of):
    closing = qwen_tokenizer.convert_tokens_to_ids("</think>")
    text_ids = ids_of("a")
    assert len(text_ids) == 1
    once = [*text_ids, closing, *text_ids]
    twice = [closing, *text_ids, closing, *text_ids, *text_ids]
    assert [qwen.thinking_end(ids) for ids in (once, twice, text_ids * 4, [])] == [2, 3, None, None]
    assert untagged.thinking_end(once) is None


def test_a_close_tag_of_several_tokens(qwen_vocabulary, qwen_tokenizer, prompt, ids_of):
    chat = with_changes(QWEN, open="", close="\nAnswer: ")
    format = CompletionWriter(qwen_vocabulary, chat)
    closing = ids_of("Answer:")
    assert len(closing) > 1
    assert format.close_ids == closing
    assert format.control_ids == [*dict.fromkeys(closing), qwen_tokenizer.eos_token_id]
    text_ids = ids_of("b")
    ids = [*text_ids, *closing, *text_ids, *closing, *text_ids]
    assert format.thinking_end(ids) == 2 + 2 * len(closing)
    assert format.thinking_end([*text_ids, *closing[:-1]]) is None
    assert format.thinking_end(closing) == len(closing)
    built = format.build("2+2=4.\nAnswer: 4", prompt)
    assert built == [*ids_of("2+2=4.\n"), *closing, *ids_of(" 4"), qwen_tokenizer.eos_token_id]
    assert qwen_vocabulary.text(built) == "2+2=4.\nAnswer: 4"


@pytest.fixture
def reader(student):
    return CompletionReader(TokenizerFile(student.parent), TAGS)


def test_thinking_tokens_end_with_the_last_end_of_thinking(reader, tokenizer, tiny_format):
    assert reader.close_ids == tiny_format.close_ids
    (close,) = reader.close_ids
    (seven,) = tokenizer.convert_tokens_to_ids(["7"])
    assert reader.thinking_tokens([seven, close, seven]) == 2
    assert reader.thinking_tokens([close, seven, close, seven, seven]) == 3
    assert reader.thinking_tokens([seven] * 4) == 4
    assert reader.thinking_tokens([]) == 0


def test_without_tags_nothing_is_thinking(student, tokenizer):
    reader = CompletionReader(TokenizerFile(student.parent), with_changes(TAGS, think="none"))
    assert (reader.close_tag, reader.close_ids) == (None, [])
    assert reader.thinking_tokens(tokenizer.convert_tokens_to_ids(["</think>", "7"])) == 0


def test_a_close_tag_of_several_tokens_is_read_without_transformers_too(student, tokenizer):
    chat = with_changes(TAGS, close="\nso the answer: ")
    reader = CompletionReader(TokenizerFile(student.parent), chat)
    format = CompletionFormat(Vocabulary(tokenizer, []), chat)
    assert reader.close_ids == format.close_ids
    assert len(reader.close_ids) > 1
    (seven,) = tokenizer.convert_tokens_to_ids(["7"])
    assert reader.thinking_tokens([seven, *reader.close_ids, seven]) == 1 + len(format.close_ids)


@pytest.mark.parametrize(
    ("text", "has_tokens"), [("e\u0301", True), ("<think>a</think>e\u0301", True), ("é", None)]
)
def test_a_letter_that_the_tokenizer_changes_is_a_loss(qwen_tokenizer, text, has_tokens):
    changing = copy.deepcopy(qwen_tokenizer)
    changing.backend_tokenizer.normalizer = normalizers.NFC()
    writer = CompletionWriter(Vocabulary(changing, [changing.eos_token_id]), QWEN)
    if has_tokens is None:
        assert writer.vocabulary.text(writer.encode(text)) == text
        return
    with pytest.raises(LossyText, match=r"cannot encode 'e\u0301' without loss") as caught:
        writer.encode(text)
    assert caught.value.has_tokens


NORMALIZERS = {
    "NFC": (normalizers.NFC(), "cafe\u0301"),
    "NFKC": (normalizers.NFKC(), "x²"),
    "ligature": (normalizers.NFKC(), "ﬁnd"),
    "no-break space": (normalizers.NFKC(), "1\u00a0000"),
    "full width": (normalizers.NFKC(), "２+2"),
    "lower case": (normalizers.Lowercase(), "Then"),
    "accents": (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), "café"),
    "spaces": (normalizers.Replace(Regex(" {2,}"), " "), None),
    "Hangul": (normalizers.NFC(), "\u1112\u1161\u11ab"),
    "Å": (normalizers.NFC(), "3\u212b"),
    "Ω": (normalizers.NFC(), "4\u2126"),
}


@pytest.mark.parametrize("name", NORMALIZERS)
def test_what_a_tokenizer_changes_is_named_and_never_trained(qwen_tokenizer, prompt, name):
    normalizer, word = NORMALIZERS[name]
    changing = copy.deepcopy(qwen_tokenizer)
    changing.backend_tokenizer.normalizer = normalizer
    writer = CompletionWriter(Vocabulary(changing, [changing.eos_token_id]), QWEN)
    text = f"so we add, {word or 'one  and'} more,\nand again"
    assert writer.build(f"{text}.\n\\boxed{{4}}", prompt) is None
    with pytest.raises(LossyText) as caught:
        writer.encode(f"<think>{'so on ' * 100}\n{text}</think>4")
    named = word or "so we add, one  and more,"
    assert str(caught.value).startswith(f"the tokenizer cannot encode {named!r}")
    assert caught.value.has_tokens


WORDS = ["2", "é", "e\u0301", " ", "\n", "\u200b", "<|im_end|>", "<think>", "</think>"]
ODD_TEXTS = st.lists(st.sampled_from(WORDS) | st.characters(exclude_categories=["Cs"])).map("".join)


@settings(deadline=None)
@given(st.lists(st.tuples(ODD_TEXTS, st.booleans()), max_size=6))
def test_texts_of_a_batch_are_encoded_as_one_by_one(qwen, rows):
    texts, are_cut = [text for text, _ in rows], [is_cut for _, is_cut in rows]
    batch = qwen.encode_batch(texts, are_cut)
    assert len(batch) == len(rows)
    for (text, is_cut), ids in zip(rows, batch, strict=True):
        try:
            alone = qwen.encode(text, is_cut)
        except LossyText as error:
            assert (str(ids), ids.has_tokens) == (str(error), error.has_tokens)
        else:
            assert ids == alone
            assert qwen.vocabulary.decode(ids) == text + "<|im_end|>" * (not is_cut)
