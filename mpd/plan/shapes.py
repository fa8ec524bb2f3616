"""The sizes of models, which are neither loaded nor downloaded."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpd.config.files import model_files
from mpd.config.models import FolderModel, GgufModel, HubModel, ModelSource, TinyModel
from mpd.job.flops import Shape
from mpd.tiny.sizes import HEAD_SIZE
from mpd.tiny.tokenizer import SPECIAL, THINK, vocabulary
from mpd.tiny.worlds import WORLDS

# Width, MLP, layers, heads, heads of keys and values, size of a head, vocabulary, tied embeddings:
# by the config.json of the published models.
KNOWN = {
    "qwen3-0.6b": (1024, 3072, 28, 16, 8, 128, 151_936, True),
    "qwen3-1.7b": (2048, 6144, 28, 16, 8, 128, 151_936, True),
    "qwen3-4b": (2560, 9728, 36, 32, 8, 128, 151_936, True),
    "qwen3-8b": (4096, 12_288, 36, 32, 8, 128, 151_936, False),
    "qwen3-14b": (5120, 17_408, 40, 40, 8, 128, 151_936, False),
    "qwen3-32b": (5120, 25_600, 64, 64, 8, 128, 151_936, False),
    "smollm2-135m": (576, 1536, 30, 9, 3, 64, 49_152, True),
    "smollm2-1.7b": (2048, 8192, 24, 32, 32, 64, 49_152, True),
    "llama-3.1-8b": (4096, 14_336, 32, 32, 8, 128, 128_256, False),
    "llama-3.1-70b": (8192, 28_672, 80, 64, 8, 128, 128_256, False),
}
# What a config.json has to say.
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)


@dataclass(frozen=True)
class Model:
    """The sizes of a model; `origin` says where they are from."""

    shape: Shape
    intermediate_size: int
    num_key_value_heads: int
    is_tied: bool
    origin: str
    is_assumed: bool = False
    num_steps: int = 0  # of pretraining, in the embedded world

    @property
    def parameters(self) -> int:
        """Weights of all matrices; an output head that is tied to the embeddings counts once."""
        ends = 1 if self.is_tied else 2
        return self.shape.matrices + ends * self.shape.vocab_size * self.shape.hidden_size

    @property
    def key_value_width(self) -> int:
        """Numbers that the cache of keys and values has for a token, over all layers."""
        layers = len(self.shape.windows)
        return 2 * layers * self.num_key_value_heads * self.shape.head_size

    @property
    def layer_width(self) -> int:
        """Numbers that a layer keeps of a token for its backward pass.

        Inputs of two norms and of the products behind them, queries, keys, values, the output of
        attention, and three times the width of a gated MLP.
        """
        queries = self.shape.num_heads * self.shape.head_size
        keys = 2 * self.num_key_value_heads * self.shape.head_size
        return 6 * self.shape.hidden_size + 2 * queries + keys + 3 * self.intermediate_size


def model_of(source: ModelSource, role: str, parameters: float | None = None) -> Model:
    """The sizes of a model by its source, for the role student or teacher.

    `parameters` replaces them: the nearest known shape, scaled. Raises ValueError where nothing
    says how large the model is.
    """
    if parameters:
        return _scaled(parameters)
    if isinstance(source, TinyModel):
        return _tiny(source, role)
    path = _config_file(source)
    if path is not None:
        return of_config(json.loads(path.read_text(encoding="utf-8")), str(path))
    if isinstance(source, GgufModel) and _is_there(source):
        return _of_gguf(model_files(source)[0])
    name = source.path.lower()
    names = [known for known in sorted(KNOWN, key=len, reverse=True) if known in name]
    if not names:
        raise ValueError(
            f"models.{role}: {source.path} is not here, and its name is not in the table of known "
            f"models; give --{role}-parameters, such as 1.7e9"
        )
    return replace(_known(names[0]), origin=f"table: {names[0]}", is_assumed=True)


def of_config(content: Mapping[str, Any], origin: str) -> Model:
    """The sizes of a config.json.

    Raises ValueError for a mixture of experts, and where a size is missing.
    """
    text = content.get("text_config") or content
    if any(text.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts")):
        raise ValueError(
            f"{origin}: mixtures of experts are not counted; give --student-parameters or "
            "--teacher-parameters with the parameters that a token uses"
        )
    for key in SIZES:
        if not isinstance(text.get(key), int):
            raise ValueError(
                f"{origin}: it has no {key}; give --student-parameters or --teacher-parameters"
            )
    heads = text["num_attention_heads"]
    layers = text["num_hidden_layers"]
    windows = [
        text.get("sliding_window") if kind == "sliding_attention" else None
        for kind in text.get("layer_types") or ["full_attention"] * layers
    ]
    return _model(
        text["hidden_size"],
        text["intermediate_size"],
        heads,
        text.get("num_key_value_heads") or heads,
        text.get("head_dim") or text["hidden_size"] // heads,
        text["vocab_size"],
        bool(text.get("tie_word_embeddings", content.get("tie_word_embeddings", False))),
        tuple(windows),
        origin,
    )


def _model(
    hidden: int,
    intermediate: int,
    heads: int,
    key_value_heads: int,
    head_size: int,
    rows: int,
    is_tied: bool,
    windows: tuple[int | None, ...],
    origin: str,
) -> Model:
    attention = 2 * hidden * heads * head_size + 2 * hidden * key_value_heads * head_size
    matrices = len(windows) * (attention + 3 * hidden * intermediate)
    shape = Shape(matrices, hidden, rows, heads, head_size, windows)
    return Model(shape, intermediate, key_value_heads, is_tied, origin)


def _known(name: str) -> Model:
    hidden, intermediate, layers, heads, key_value_heads, head_size, rows, is_tied = KNOWN[name]
    windows = (None,) * layers
    sizes = hidden, intermediate, heads, key_value_heads, head_size, rows, is_tied, windows
    return _model(*sizes, f"table: {name}")


def _scaled(parameters: float) -> Model:
    """The known model of the nearest number of parameters, its matrices scaled to that number."""
    models = [_known(name) for name in KNOWN]
    nearest = min(models, key=lambda model: abs(model.parameters / parameters - 1))
    ends = nearest.parameters - nearest.shape.matrices
    shape = replace(nearest.shape, matrices=max(int(parameters - ends), 1))
    origin = f"{parameters:.3g} parameters, in the proportions of {nearest.origin}"
    return replace(nearest, shape=shape, origin=origin, is_assumed=True)


def _tiny(source: TinyModel, role: str) -> Model:
    world = WORLDS[source.world]
    sizes = (world.teacher if role == "teacher" else world.student).sizes
    model = _model(
        sizes.hidden_size,
        sizes.intermediate_size,
        sizes.num_heads,
        sizes.num_key_value_heads,
        HEAD_SIZE,
        len(vocabulary(world.lexicon)) + len(SPECIAL) + len(THINK),
        True,
        (None,) * sizes.num_layers,
        "embedded world",
    )
    return replace(model, num_steps=source.num_steps or sizes.num_steps)


def _is_there(source: ModelSource) -> bool:
    try:
        return bool(model_files(source))
    except ValueError:
        return False


def _config_file(source: FolderModel | HubModel | GgufModel) -> Path | None:
    """config.json of a local folder, or of a snapshot in the cache of the Hugging Face hub."""
    if isinstance(source, FolderModel):
        path = Path(source.path) / "config.json"
        return path if path.is_file() else None
    if isinstance(source, GgufModel):
        return None
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    folder = f"models--{source.path.replace('/', '--')}"
    path = cache / folder / "snapshots" / source.revision / "config.json"
    return path if path.is_file() else None


def _of_gguf(path: Path) -> Model:
    """The sizes in the head of a GGUF file."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    missing = [
        key for key in ("general.architecture", "tokenizer.ggml.tokens") if key not in fields
    ]
    if missing:
        raise ValueError(
            f"{path}: it has no {missing[0]}; give --student-parameters or --teacher-parameters"
        )
    kind = fields["general.architecture"].contents()

    def number(key: str, default: int = 0) -> int:
        field = fields.get(f"{kind}.{key}")
        return int(field.contents()) if field else default

    hidden, heads = number("embedding_length"), number("attention.head_count")
    rows = len(fields["tokenizer.ggml.tokens"].data)
    names = {tensor.name for tensor in GGUFReader(path).tensors}
    return _model(
        hidden,
        number("feed_forward_length"),
        heads,
        number("attention.head_count_kv", heads),
        number("attention.key_length", hidden // heads),
        rows,
        "output.weight" not in names,
        (None,) * number("block_count"),
        str(path.name),
    )
