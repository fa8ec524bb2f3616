"""The model that is trained: all its weights, or adapters."""

from typing import Any

from mpd.config.distill import Lora
from mpd.scoring.packed_model import load_packed_model
from mpd.training.job import TrainingJob


def load_student(job: TrainingJob) -> Any:
    """The student in training mode; with LoRA a PeftModel, whose base weights are frozen.

    Raises ValueError where its architecture, or the place of an adapter, is not supported.
    """
    model = load_packed_model(job.student, "float32", job.resources.kernels)
    lora = job.settings.lora
    return _with_adapters(model, lora).train() if lora else model.train()


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
