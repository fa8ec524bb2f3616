"""Models that take packed sequences, with the kernels that a GPU has for them."""

import json
import logging
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from mpd.config.resources import Kernels
from mpd.scoring import attention, forward, output_head
from mpd.scoring.attention import PACKED, require_packed_attention
from mpd.scoring.forward import require_separate_sequences
from mpd.scoring.output_head import require_known_head
from mpd.store.digests import digest_of, file_digest
from mpd.store.markers import is_marked, mark
from mpd.store.model_folder import empty_model, load_model

log = logging.getLogger("mpd")

KIND = "architectures"  # of markers


def load_packed_model(folder: Path, dtype: str, kernels: Kernels, device: str | None = None) -> Any:
    """The model of a folder, in evaluation mode, for `completion_states`.

    It is on the GPU where there is one, or on `device`. Raises ValueError where its architecture is
    not supported.
    """
    model = load_model(folder, dtype, PACKED, device)
    prepare(model, kernels)
    return model


def empty_packed_model(folder: Path, kernels: Kernels, device: torch.device) -> Any:
    """The same in float32 without values: weights are on the meta device, buffers on the CPU.

    It gets the kernels for `device`, and its architecture is not checked.
    """
    model = empty_model(folder, PACKED)
    if kernels == "auto" and device.type == "cuda":
        _apply_liger(model)
    return model


def prepare(model: Any, kernels: Kernels) -> None:
    """Check the architecture of a model that attends by PACKED, and apply kernels on a GPU.

    Passes that compare outputs run once on a machine for each `_architecture`. Raises ValueError
    where the architecture is not supported.
    """
    require_packed_attention(model)
    if kernels == "auto" and model.device.type == "cuda":
        _apply_liger(model)
    architecture = _architecture(model, kernels)
    if is_marked(KIND, architecture):
        return
    require_known_head(model)
    require_separate_sequences(model)
    mark(KIND, architecture)


def _architecture(model: Any, kernels: Kernels) -> str:
    """The digest of all that the outputs depend on, but for the values of weights."""
    config = json.loads(model.config.to_json_string(use_diff=False))
    config.pop("_name_or_path", None)
    devices = {parameter.device for parameter in model.parameters()}
    uses_liger = kernels == "auto" and find_spec("liger_kernel") is not None
    sources = [
        file_digest(Path(str(module.__file__))) for module in (attention, forward, output_head)
    ]
    return digest_of(
        {
            "class": type(model).__name__,
            "config": config,
            "dtype": str(model.dtype),
            "devices": sorted(map(str, devices)),
            "cards": sorted(
                {torch.cuda.get_device_name(device) for device in devices if device.type == "cuda"}
            ),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "liger": version("liger-kernel") if uses_liger else None,
            "sources": sources,
        }
    )


def _apply_liger(model: Any) -> None:
    """Fused norms, rotary embeddings and gated units of liger-kernel, where it knows the model.

    They replace functions and classes of the architecture for the whole process.
    """
    if find_spec("liger_kernel") is None:
        log.warning(
            "liger-kernel is not installed; steps take about a third longer without it "
            "(pip install -e '.[gpu]', or set kernels: none)"
        )
        return
    from transformers.integrations.liger import apply_liger_kernel

    # The loss is ours: it needs logits of completion positions alone.
    apply_liger_kernel(model, {"fused_linear_cross_entropy": False, "cross_entropy": False})
