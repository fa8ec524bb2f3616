"""What ends a turn is what the chat template puts behind it, and has to be a stop id."""

import copy
import json

import pytest

from mpd.store.model_folder import read_manifest, write_manifest
from mpd.store.turns import probe_turn_end
from mpd.text.completions import CompletionWriter
from mpd.text.vocabulary import Vocabulary
from tests.qwen import CHATML, NONE, OPENED

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}"
ROLES = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<|im_end|>"),
        (OPENED, "<|im_end|>"),
        (TURNS + "<|endoftext|>", "<|endoftext|>"),
        (TURNS + "\n<|im_end|>\n", "<|im_end|>"),
        (TURNS + "{{ eos_token }}", "<|im_end|>"),
        (TURNS + "{{ strftime_now('%Y') }}", None),
        ("{{ strftime_now('%Y') }}" + CHATML, "<|im_end|>"),
        (TURNS, None),
        (TURNS + "</s>", None),
        ("{{ messages[0].content }}<|im_end|>", None),
        ("{{ raise_exception('Only prompts') }}", None),
        ("{{ messages[1].content[0].text + 1 }}", None),
    ],
)
def test_the_template_says_what_ends_a_turn(qwen_tokenizer, template, end):
    tokenizer = copy.deepcopy(qwen_tokenizer)
    tokenizer.chat_template = template
    expected = None if end is None else tokenizer.convert_tokens_to_ids(end)
    assert probe_turn_end(tokenizer, [tokenizer.eos_token_id]) == expected


@pytest.mark.parametrize(
    ("template", "stops", "end"),
    [
        (ROLES, ["<|endoftext|>", "<|user|>"], "<|user|>"),  # as GLM's
        (ROLES, ["<|endoftext|>"], None),  # it does not stop there: nothing is known
        (ROLES, ["<|assistant|>"], None),
        (ROLES + "{{ eos_token }}", ["<|im_end|>", "<|user|>"], "<|im_end|>"),
        (
            "{% if messages | length > 2 %}{{ raise_exception('') }}{% endif %}" + ROLES,
            ["<|user|>"],
            None,
        ),
    ],
)
def test_a_turn_may_end_with_what_begins_the_next(qwen_tokenizer, template, stops, end):
    tokenizer = copy.deepcopy(qwen_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    tokenizer.chat_template = template
    expected = None if end is None else tokenizer.convert_tokens_to_ids(end)
    assert probe_turn_end(tokenizer, tokenizer.convert_tokens_to_ids(stops)) == expected


@pytest.fixture
def two_ends(tmp_path, write_model, tokenizer):
    """A function that writes a model whose tokenizer ends texts with <|endoftext|>."""

    def write(*stops):
        other = copy.deepcopy(tokenizer)
        other.eos_token = "<|endoftext|>"
        folder = write_model(tmp_path / "model", seed=1, vocabulary=other).parent
        ids = tokenizer.convert_tokens_to_ids(list(stops))
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
        write_manifest(folder)
        return folder

    return write


def test_a_trained_sequence_ends_as_a_turn(two_ends, tokenizer):
    folder = two_ends("<|endoftext|>", "<|im_end|>")
    text, turn = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert read_manifest(folder / "manifest.json")["turn_end"] == turn
    vocabulary = Vocabulary.of_folder(folder)
    assert (vocabulary.stop_ids, vocabulary.trained_stop) == ([text, turn], turn)
    writer = CompletionWriter(vocabulary, NONE)
    assert writer.encode("1+2")[-1] == turn
    assert writer.build("1+2=3.", [turn])[-1] == turn


def test_a_manifest_that_does_not_say_it_is_as_one_that_does(two_ends, tokenizer):
    folder = two_ends("<|im_end|>")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    turn = manifest.pop("turn_end")
    del manifest["digests"], manifest["checksum"]  # of a version before them
    path.write_text(json.dumps(manifest))
    assert Vocabulary.of_folder(folder).turn_end == turn


def test_a_model_that_does_not_stop_at_the_end_of_its_turns_is_refused(two_ends, tokenizer):
    from mpd.config.resources import GenerationResources
    from mpd.engines.transformers import TransformersEngine

    folder = two_ends("<|endoftext|>")
    text, turn = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    message = (
        f"{folder}: its chat template ends turns with <|im_end|>, and completions end with "
        "<|endoftext|> only; set eos_token_id of its generation_config.json to "
        f"[{text}, {turn}]"
    )
    with pytest.raises(ValueError) as caught:
        TransformersEngine(folder / "manifest.json", "float32", GenerationResources())
    assert str(caught.value) == message
    with pytest.raises(ValueError) as caught:
        CompletionWriter(Vocabulary.of_folder(folder), NONE).encode("1+2")
    assert str(caught.value) == message
