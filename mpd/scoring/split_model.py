"""A teacher whose layers are divided among the GPUs of a job, beside the student on the first one.

Hidden states go from GPU to GPU, so that one works at a time: this gains memory, not speed.
Embeddings and output head stay on the first GPU, where the loss is computed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from mpd.config.resources import ScoringResources
from mpd.scoring.attention import PACKED
from mpd.scoring.packed_model import load_packed_model, prepare
from mpd.store.model_folder import empty_model, load_model


def load_pair(student: Path, teacher: Path, dtype: str, resources: ScoringResources) -> list[Any]:
    """Student and teacher by their folders; the teacher on as many GPUs as the job has.

    Raises ValueError where the job sees fewer GPUs than it asked for, or an architecture is not
    supported.
    """
    count = torch.cuda.device_count()
    if 0 < count < resources.gpu:
        raise ValueError(
            f"resources.logits.gpu is {resources.gpu}, but this job sees {count} GPUs; lower it, "
            "or give the job as many"
        )
    if min(count, resources.gpu) < 2:
        return [load_packed_model(one, dtype, resources.kernels) for one in (student, teacher)]
    # Fused kernels run on the current GPU alone, and replace functions that both models share.
    model = load_packed_model(student, dtype, "none")
    num_weights = sum(weight.numel() for weight in model.parameters())
    return [model, load_split_model(teacher, dtype, list(range(resources.gpu)), num_weights)]


def load_split_model(
    folder: Path, dtype: str, devices: Sequence[int | str], num_held: int = 0
) -> Any:
    """The model of a folder, in evaluation mode, with its layers on several devices.

    The first device holds `num_held` weights of another model. Raises ValueError where the
    architecture is not supported.
    """
    model = load_model(folder, dtype, PACKED, device_map(folder, devices, num_held))
    prepare(model, "none")
    return model


def device_map(folder: Path, devices: Sequence[int | str], num_held: int) -> dict[str, int | str]:
    """The device of each module of a model.

    Embeddings and head are on the first device, and what follows the layers on that of the last
    one. Each device holds about as many weights as the others.
    """
    model = empty_model(folder, PACKED)
    prefix = f"{model.base_model_prefix}."
    layers = [
        name
        for name, module in model.base_model.named_modules()
        if isinstance(module, GradientCheckpointingLayer)
    ]
    sizes = [
        sum(weight.numel() for weight in model.base_model.get_submodule(name).parameters())
        for name in layers
    ]
    ends = sum(weight.numel() for weight in model.parameters()) - sum(sizes)
    places = place_layers(sizes, num_held + ends, len(devices))
    found: dict[str, int | str] = {
        prefix + name: devices[place] for name, place in zip(layers, places, strict=True)
    }
    first = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    is_after = False
    for name, module in model.base_model.named_children():
        is_layers = any(layer.startswith(f"{name}.") for layer in layers)
        if not is_layers:
            has_weights = any(True for _ in module.parameters())
            at_end = is_after and has_weights and id(module) not in first
            found[prefix + name] = found[prefix + layers[-1]] if at_end else devices[0]
        is_after = is_after or is_layers
    for name, _ in model.named_children():
        if f"{name}." != prefix:
            found[name] = devices[0]
    return found


def place_layers(sizes: Sequence[int], num_held: int, num_devices: int) -> list[int]:
    """The number of the device of each layer, one after another, for about equally many weights.

    `sizes` are in weights; the first device holds `num_held` others. A layer is where its middle
    falls if all weights are divided equally.
    """
    share = (num_held + sum(sizes)) / num_devices
    places, before = [], num_held
    for size in sizes:
        places.append(min(int((before + size / 2) / share), num_devices - 1))
        before += size
    return places
