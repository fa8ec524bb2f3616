"""What is written for a token, in the terminal and in the page."""

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel, Fuse, Metaspace
from tokenizers.models import WordLevel

from mpd.store.signs import visible
from mpd.text.token_texts import token_texts


def tokenizer_of(pieces, decoder=None):
    """A tokenizer whose tokens are these, numbered from 0; the first one is the unknown one."""
    tokenizer = Tokenizer(WordLevel({piece: id for id, piece in enumerate(pieces)}, pieces[0]))
    tokenizer.decoder = decoder or Fuse()
    return tokenizer


def test_texts_of_ids_and_of_one_outside_the_vocabulary():
    tokenizer = tokenizer_of(["<unk>", "go ", "</script>", "\n"])
    expected = {1: "go ", 2: "</script>", 3: "\n", 99: "<99>"}
    assert token_texts(tokenizer, [1, 2, 3, 99]) == expected


def test_parts_of_characters_are_spelled_as_the_vocabulary_does():
    # √ is the bytes e2 88 9a, which a byte-level vocabulary writes â, Ī and ļ; Ġ is a space.
    tokenizer = tokenizer_of(["âĪ", "âĪļ", "a", "Ġa"], ByteLevel())
    assert token_texts(tokenizer, range(4)) == {0: "âĪ", 1: "√", 2: "a", 3: " a"}


def test_the_space_that_some_decoders_drop_is_kept():
    assert token_texts(tokenizer_of(["b", "▁a"], Metaspace()), [1, 0]) == {1: " a", 0: "b"}


def test_letters_that_cannot_be_seen_have_signs():
    assert visible("a b\n\t\r\x1b[2J\x9b\u00e9") == "a␣b↵⇥\\x0d\\x1b[2J\\x9bé"
