"""Completions read without transformers are read as with it."""

import random

import pytest

from mpd.config.chat import ReadingChat
from mpd.text.completions import CompletionFormat
from mpd.text.reading import Reading
from mpd.text.vocabulary import Vocabulary
from tests.changes import with_changes

TAGS = ReadingChat(think="tags", close="</think>")


@pytest.fixture
def reading(student):
    return Reading(student.parent, TAGS)


def test_ids_are_read_as_the_chat_format_reads_them(reading, vocabulary, tiny_format, tokenizer):
    rng = random.Random(0)
    for length in range(30):
        ids = [rng.randrange(len(tokenizer)) for _ in range(length)]
        whole = [id for id in ids if id not in vocabulary.stop_ids]
        assert reading.text(whole) == vocabulary.text(whole)
    assert reading.close_ids == tiny_format.close_ids
    assert reading.delimiter == "</think>"


def test_thinking_tokens_end_with_the_last_end_of_thinking(reading, tokenizer):
    (close,) = reading.close_ids
    (said,) = tokenizer.convert_tokens_to_ids(["7"])
    assert reading.thinking_tokens([said, close, said]) == 2
    assert reading.thinking_tokens([close, said, close, said, said]) == 3
    assert reading.thinking_tokens([said] * 4) == 4
    assert reading.thinking_tokens([]) == 0


def test_without_tags_nothing_is_thinking(student, tokenizer):
    reading = Reading(student.parent, with_changes(TAGS, think="none"))
    assert (reading.delimiter, reading.close_ids) == (None, [])
    assert reading.thinking_tokens(tokenizer.convert_tokens_to_ids(["</think>", "7"])) == 0


def test_a_close_tag_of_several_tokens(student, tokenizer):
    chat = with_changes(TAGS, close="\nso the answer: ")
    reading = Reading(student.parent, chat)
    format = CompletionFormat(Vocabulary(tokenizer, []), chat)
    assert reading.close_ids == format.close_ids
    assert len(reading.close_ids) > 1
    (said,) = tokenizer.convert_tokens_to_ids(["7"])
    assert reading.thinking_tokens([said, *reading.close_ids, said]) == 1 + len(format.close_ids)


def test_a_tokenizer_that_pads_or_cuts_does_neither_here(student, tmp_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(student.with_name("tokenizer.json")))
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(1)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    chat = with_changes(TAGS, close="1+2")
    assert len(Reading(tmp_path, chat).close_ids) == 3
    assert Reading(tmp_path, chat).close_ids == Reading(student.parent, chat).close_ids
