"""Models that bring code, pickles or paths along: refused in one sentence, or nothing happens."""

import builtins
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mpd import models
from mpd.job.layout import MANIFEST
from mpd.store.model_folder import load_model
from mpd.store.tokenizer_files import load_tokenizer
from mpd.store.turns import probe_turn_end, render

CODE = """
import pathlib
pathlib.Path({canary!r}).write_text("run")
from transformers import PretrainedConfig, PreTrainedTokenizerFast, Qwen3ForCausalLM

class OwnConfig(PretrainedConfig):
    model_type = "own"

class OwnModel(Qwen3ForCausalLM):
    config_class = OwnConfig

class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
MODEL_MAP = {"AutoConfig": "code.OwnConfig", "AutoModelForCausalLM": "code.OwnModel"}
TOKENIZER_MAP = {"AutoTokenizer": ["code.OwnTokenizer", "code.OwnTokenizer"]}
SHARD = "model.safetensors"


class Bomb:
    """Writes the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.write_text, (self.canary, "run")


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file that must not be there in the end; whoever asks on the terminal is told yes."""
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def model(student, tmp_path, canary):
    """A model folder of a user, with a module that writes the canary beside its weights."""
    folder = tmp_path / "user_model"
    shutil.copytree(student.parent, folder, ignore=lambda *_: [MANIFEST])
    (folder / "code.py").write_text(CODE.format(canary=str(canary)))
    return folder


@pytest.fixture
def resolve(tmp_path):
    """A function that runs the stage on a folder; it returns the resolved folder."""

    def run(folder, source="folder"):
        output = tmp_path / "resolved" / MANIFEST
        settings = json.dumps({"source": source, "path": str(folder)})
        store = ["--store", str(tmp_path / "store")]
        models.main(["--settings", settings, "--output", str(output), *store])
        return output.parent

    return run


def change(path, **changes):
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


def pickled(path, canary):
    """A file as torch.save writes weights, which is code when it is unpickled."""
    torch.save({"weight": torch.zeros(1), "more": Bomb(canary)}, path)


def sentence(action, *arguments):
    with pytest.raises(ValueError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_bomb_would_go_off(tmp_path):
    """Else the tests below prove nothing."""
    pickled(tmp_path / "a.bin", tmp_path / "went_off")
    torch.load(tmp_path / "a.bin", weights_only=False)
    assert (tmp_path / "went_off").exists()


def test_a_folder_with_pickled_weights_alone_is_refused(model, resolve, canary):
    (model / SHARD).unlink()
    pickled(model / "pytorch_model.bin", canary)
    assert sentence(resolve, model) == (
        f"{model}: no *.safetensors in it; save the weights as safetensors"
    )
    with pytest.raises((OSError, ValueError), match=r"no file named model\.safetensors"):
        load_model(model, "float32")


def test_a_pickle_that_is_named_safetensors_is_refused(model, resolve, canary):
    pickled(model / SHARD, canary)
    assert sentence(resolve, model).startswith(f"{model / SHARD}: damaged, or only the pointer of")


def test_pickles_beside_the_weights_are_left_where_they_are(model, resolve, canary):
    for name in ("pytorch_model.bin", "training_args.bin", "tokenizer.pkl", "optimizer.pt"):
        pickled(model / name, canary)
    folder = resolve(model)
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pkl", ".pt", ".py")]
    load_model(model, "float32")
    load_tokenizer(model)


@pytest.mark.parametrize("reference", ["code", "somebody/model--code"])
def test_code_of_an_unknown_architecture_is_never_run(model, resolve, reference):
    auto_map = {key: value.replace("code", reference) for key, value in MODEL_MAP.items()}
    change(model / "config.json", model_type="own", auto_map=auto_map)
    for folder in (model, resolve(model)):
        message = sentence(load_model, folder, "float32")
        assert message.startswith(f"{folder}: its auto_map names Python code of its own, which is")


def test_code_of_a_known_architecture_is_passed_over(model, resolve):
    change(model / "config.json", auto_map=MODEL_MAP)
    for folder in (model, resolve(model)):
        assert type(load_model(folder, "float32")).__name__ == "Qwen3ForCausalLM"


@pytest.mark.parametrize("tokenizer_class", ["OwnTokenizer", "PreTrainedTokenizerFast", None])
@pytest.mark.parametrize("model_type", ["qwen3", "own"])
def test_code_of_a_tokenizer_is_never_run(model, resolve, tokenizer_class, model_type):
    change(model / "config.json", model_type=model_type, auto_map=MODEL_MAP)
    path = model / "tokenizer_config.json"
    change(path, auto_map=TOKENIZER_MAP, tokenizer_class=tokenizer_class)
    try:
        folder = resolve(model)
    except ValueError as error:
        assert str(error).startswith(f"{model}: its auto_map names Python code of its own, which ")
        assert "\n" not in str(error)
    else:
        assert type(load_tokenizer(folder)).__module__.startswith("transformers.")


def test_an_adapter_does_not_lead_to_another_model(model, resolve, teacher, canary):
    change(
        model / "adapter_config.json",
        peft_type="LORA",
        base_model_name_or_path=str(teacher.parent),
    )
    pickled(model / "adapter_model.bin", canary)
    assert sentence(resolve, model).startswith(f"{model}/adapter_config.json: an adapter, whose m")


@pytest.mark.parametrize(
    "name", ["../teacher.safetensors", "/teacher.safetensors", "pytorch_model.bin", 1, None]
)
def test_an_index_names_only_safetensors_beside_it(model, resolve, canary, tmp_path, name):
    pickled(model / "pytorch_model.bin", canary)
    save_file({"secret": torch.zeros(1)}, tmp_path / "teacher.safetensors")
    if str(name).startswith("/"):
        name = f"{tmp_path}{name}"
    index = model / "model.safetensors.index.json"
    change(index, metadata={}, weight_map={"a": SHARD, "b": name})
    message = sentence(resolve, model)
    assert message.startswith(f"{index}: weight_map has {str(name)!r}, which is no name of a *.saf")


def test_a_link_to_another_file_is_read_as_what_it_should_be(model, resolve, canary, tmp_path):
    secret = tmp_path / "secret"
    pickled(secret, canary)
    for name, message in ((SHARD, "damaged"), ("tokenizer.json", "not JSON")):
        content = (model / name).read_bytes()
        (model / name).unlink()
        (model / name).symlink_to(secret)
        assert message in sentence(resolve, model)
        (model / name).unlink()
        (model / name).write_bytes(content)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("part", [None, "text_config"])
def test_kernels_of_the_hub_are_refused(model, resolve, key, part):
    value = {key: "somebody/kernel"}
    change(model / "config.json", **({part: value} if part else value))
    message = sentence(resolve, model)
    assert message.startswith(f"{model}/config.json: {key} is 'somebody/kernel', code of the hub")


ESCAPES = {
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "function": "{{ raise_exception.__globals__['__builtins__']['open']('CANARY', 'w') }}",
    "attribute": "{{ (messages | attr('append')).__self__.__class__ }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "change": "{% do messages.append(messages) %}{{ messages.clear() }}",
    "file": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os.system('touch CANARY') }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "types": "{{ 1 + 'a' }}",
    "zero": "{{ 1 / 0 }}",
    "range": "{{ range(1000000000) | list }}",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_a_chat_template_stays_in_its_sandbox(model, resolve, canary, name):
    (model / "chat_template.jinja").write_text(ESCAPES[name].replace("CANARY", str(canary)))
    tokenizer = load_tokenizer(resolve(model))
    assert probe_turn_end(tokenizer, []) is None
    messages = [{"role": "user", "content": "q"}]
    try:
        text = render(tokenizer, messages, add_generation_prompt=True)
    except ValueError as error:
        assert f"{tokenizer.name_or_path}: its chat template fails (" in str(error)
        assert "\n" not in str(error)
    else:
        assert "<" not in text and "root:" not in text
    assert messages == [{"role": "user", "content": "q"}]
