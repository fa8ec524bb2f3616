"""The tokenizer of a model: its size, the text of a completion, and text without added tokens."""

import random

from tokenizers import Tokenizer

from mpd.text.vocabulary import TokenizerFile, Vocabulary


def test_size_counts_added_tokens(qwen_vocabulary, qwen_tokenizer, vocabulary, tokenizer):
    assert qwen_vocabulary.size == qwen_tokenizer.convert_tokens_to_ids("</think>") + 1
    assert vocabulary.size == len(tokenizer)


def test_the_vocabulary_is_listed_once(qwen_tokenizer, monkeypatch):
    """Every step of a decode asks for its size."""
    listed = []
    monkeypatch.setattr("mpd.text.vocabulary.vocabulary_size", lambda of: listed.append(of) or 7)
    vocabulary = Vocabulary(qwen_tokenizer, [qwen_tokenizer.eos_token_id])
    assert [vocabulary.size, vocabulary.size] == [7, 7]
    assert len(listed) == 1


def test_the_stop_ids_are_those_of_the_folder(variant, student, tokenizer):
    assert Vocabulary.of_folder(student.parent).stop_ids == [tokenizer.eos_token_id]
    two = variant("generation_config.json", eos_token_id=[1, 2]).parent
    assert Vocabulary.of_folder(two).stop_ids == [tokenizer.eos_token_id, 1, 2]


def test_text_drops_the_stop_token_alone(qwen_vocabulary, qwen_tokenizer, ids_of):
    closing, stop, start = qwen_tokenizer.convert_tokens_to_ids(
        ["</think>", "<|im_end|>", "<|im_start|>"]
    )
    text_ids = ids_of("a")
    assert qwen_vocabulary.text([*text_ids, closing, start, stop]) == "a</think><|im_start|>"
    assert qwen_vocabulary.text([*text_ids, stop, stop]) == "a<|im_end|>"
    assert qwen_vocabulary.text([*text_ids, closing]) == "a</think>"
    assert qwen_vocabulary.text([]) == ""


def test_plain_text_never_becomes_a_control_token(qwen_vocabulary, qwen_tokenizer, ids_of):
    text = "I write </think> and <|im_end|> here"
    control = set(qwen_tokenizer.convert_tokens_to_ids(["</think>", "<|im_end|>"]))
    # The trap: the tokenizer's own switch splits special added tokens, and only these.
    split = qwen_tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert control & set(split)
    ids = qwen_vocabulary.encode_plain(text)
    assert not control & set(ids)
    assert ids == ids_of(text)
    assert qwen_vocabulary.decode(ids) == text
    assert control <= set(qwen_vocabulary.encode(text))


def test_text_that_would_lose_something_has_no_ids(vocabulary):
    assert vocabulary.encode_plain("1+2") == vocabulary.encode("1+2")
    assert vocabulary.encode_plain("1+Zebra") is None


def test_a_tokenizer_file_gives_what_transformers_gives(student, vocabulary, tokenizer):
    codec, rng = TokenizerFile(student.parent), random.Random(0)
    for length in range(30):
        ids = [rng.randrange(len(tokenizer)) for _ in range(length)]
        assert codec.decode(ids) == vocabulary.decode(ids)
    text = "<think>1+2=3</think>\\boxed{3}"
    assert codec.encode(text) == vocabulary.encode(text)


def test_a_tokenizer_file_that_pads_or_cuts_does_neither_here(student, tmp_path):
    tokenizer = Tokenizer.from_file(str(student.with_name("tokenizer.json")))
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(1)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ids = TokenizerFile(tmp_path).encode("1+2")
    assert len(ids) == 3
    assert ids == TokenizerFile(student.parent).encode("1+2")
