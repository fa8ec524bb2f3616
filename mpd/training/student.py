"""The model that is trained: all its weights, or adapters."""

from collections.abc import Mapping
from typing import Any

import torch

from mpd.config.distill import Lora
from mpd.scoring.packed_model import empty_packed_model, load_packed_model
from mpd.store.model_folder import load_model
from mpd.training.job import TrainingJob


def load_student(job: TrainingJob, device: str | None = None) -> Any:
    """The student in training mode; with LoRA a PeftModel, whose base weights are frozen.

    It is in float32, on the GPU where there is one, or on `device`. Raises ValueError where its
    architecture, or the place of an adapter, is not supported.
    """
    model = load_packed_model(job.student, "float32", job.resources.kernels, device)
    lora = job.settings.lora
    return _with_adapters(model, lora).train() if lora else model.train()


def empty_student(job: TrainingJob, device: torch.device) -> Any:
    """The same without values: weights are on the meta device. `device` decides on kernels."""
    model = empty_packed_model(job.student, job.resources.kernels, device)
    lora = job.settings.lora
    adapted = _with_adapters(model, lora) if lora else model
    for module in adapted.modules():
        for name, weight in module._parameters.items():
            if weight is not None and weight.device.type != "meta":
                empty = torch.empty_like(weight, device="meta")
                module._parameters[name] = torch.nn.Parameter(empty, weight.requires_grad)
    return adapted


def save_student(job: TrainingJob, values: Mapping[str, torch.Tensor]) -> None:
    """Write the student of a job with trained values, by the names of its parameters.

    What is not trained is read again, in float32; adapters are merged.
    """
    model = load_model(job.student, "float32", device="cpu")
    if job.settings.lora:
        model = _with_adapters(model, job.settings.lora)
    unknown = set(values) - {name for name, _ in model.named_parameters()}
    if unknown:
        raise ValueError(f"{job.student}: it has no weight {min(unknown)}, which was trained")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in values:
                weight.copy_(values[name])
    (model.merge_and_unload() if job.settings.lora else model).save_pretrained(job.folder)


def _with_adapters(model: Any, lora: Lora) -> Any:
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    plain: Any = adapted.get_base_model()
    for embeddings in (plain.get_output_embeddings(), plain.get_input_embeddings()):
        if isinstance(embeddings, BaseTunerLayer):
            raise ValueError(
                "distill.lora.targets: an adapter on the embeddings or the output head is not "
                "supported; name other modules"
            )
    return adapted
