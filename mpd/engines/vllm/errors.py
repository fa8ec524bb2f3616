"""What vLLM raises, as one sentence that names the settings to change."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def readable_errors(stage: str) -> Iterator[None]:
    """Raise what vLLM raises as a ValueError that names the settings of `stage`.

    Errors that no setting causes pass through.
    """
    import torch
    from pydantic import ValidationError
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except ValidationError as error:
        reasons = "; ".join(_refusal(mistake) for mistake in error.errors())
        raise ValueError(
            f"vLLM refuses an engine argument: {reasons}; fix {stage}.engine_arguments or "
            f"resources.{stage}"
        ) from error
    except Exception as error:
        # torch raises memory errors as RuntimeError; those of other processes come without cause.
        text = " ".join(str(error).split()).rstrip(".")
        is_remote = isinstance(error, EngineDeadError) or "root cause" in text
        is_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        is_memory = is_memory or "memory" in text or "KV cache" in text
        if not (is_remote or isinstance(error, (ValueError, RuntimeError, MemoryError))):
            raise
        if not (is_remote or is_memory):
            raise ValueError(f"vLLM: {text}") from error
        cause = "its process died; its own error, if any, is above" if is_remote else text
        raise ValueError(f"vLLM: {cause}. {_memory_advice(stage)}") from error


def _memory_advice(stage: str) -> str:
    """Which resources of a stage need less memory, or provide more."""
    resources = f"resources.{stage}"
    # The sequences that `logits` scores cannot be made shorter.
    length = f"{resources}.max_model_len or " if stage != "logits" else ""
    return (
        f"To need less memory, lower {length}{resources}.batch_size; to have more, set "
        f"{resources}.gpu_memory_utilization (its share) or {resources}.tensor_parallel_size"
    )


def _refusal(mistake: Any) -> str:
    """The engine argument that pydantic refuses, and why."""
    place = ".".join(str(step) for step in mistake["loc"])
    reason = mistake["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason
