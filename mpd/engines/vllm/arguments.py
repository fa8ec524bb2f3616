"""The arguments of a vLLM engine: those that the config sets, fixed ones, and the user's own."""

import difflib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpd.config.generation import EngineSettings
from mpd.config.logits import CacheSettings
from mpd.config.resources import EngineResources

# Arguments that have a key of their own in config.yaml.
CONFIG_KEYS = {
    "model": "models",
    "tokenizer": "models",
    "dtype": "models.dtype",
    "max_num_seqs": "resources.{stage}.batch_size",
    "tensor_parallel_size": "resources.{stage}.tensor_parallel_size",
    "data_parallel_size": "resources.{stage}.data_parallel_size",
    "gpu_memory_utilization": "resources.{stage}.gpu_memory_utilization",
    "max_model_len": "resources.{stage}.max_model_len",
    "enable_prefix_caching": "resources.{stage}.prefix_caching",
}

# No code of a model is run, token ids go in and come out, and log-probabilities are the model's.
FIXED_ARGUMENTS = {
    "trust_remote_code": False,
    "skip_tokenizer_init": True,
    "generation_config": "vllm",  # without the sampling defaults of the model
    "logprobs_mode": "raw_logprobs",
    "worker_extension_cls": "mpd.engines.vllm.worker.WorkerExtension",
    "enable_batch_sharded_sampling": False,  # it bypasses the layer that cuts the logits
    "disable_log_stats": True,
}

PICKLES = ("pt", "npcache")  # formats of weights that are pickles


def engine_arguments(
    folder: Path,
    settings: EngineSettings | CacheSettings,
    resources: EngineResources,
    max_model_len: int,
) -> dict[str, Any]:
    """The arguments of an engine for the model in `folder`; `max_model_len` is in tokens."""
    import torch

    on_cpu = {
        "enforce_eager": True,
        # On a CPU, requests with seeds fail where a prompt is computed in two steps.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(max_model_len, 2048),
    }
    return {
        **FIXED_ARGUMENTS,
        "model": str(folder),
        "dtype": settings.dtype,
        "max_num_seqs": resources.batch_size,
        "tensor_parallel_size": resources.tensor_parallel_size,
        "data_parallel_size": resources.data_parallel_size,
        "gpu_memory_utilization": resources.gpu_memory_utilization,
        "max_model_len": max_model_len,
        **({} if torch.cuda.is_available() else on_cpu),
        "use_tqdm_on_load": False,
        "load_format": "safetensors",
        **settings.engine_arguments,
    }


def require_engine_arguments(arguments: Mapping[str, Any], stage: str) -> None:
    """Raise ValueError where vLLM is missing, or the user may not set one of these arguments."""
    # vLLM reads these once. Lengths are checked before, and scoring needs one more token.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
    warnings.filterwarnings("ignore", ".*torch.distributed.reduce_op", FutureWarning)
    try:
        from vllm.engine.arg_utils import EngineArgs
    except ImportError as error:
        raise ValueError(
            f"{stage}.engine is vllm, but it cannot be imported ({error}); install it as "
            "docs/engines.md says, or set engine: transformers"
        ) from None
    known = EngineArgs.__dataclass_fields__  # those that one engine and replicas share
    for name in arguments:
        key = f"{stage}.engine_arguments.{name}"
        if name in CONFIG_KEYS:
            raise ValueError(f"{key}: set {CONFIG_KEYS[name].format(stage=stage)} instead")
        if name == "trust_remote_code":
            raise ValueError(f"{key}: code that a model brings along is never run; remove it")
        if name == "load_format" and str(arguments[name]).lower() in PICKLES:
            raise ValueError(f"{key}: weights are never read from pickles; remove it")
        if name in FIXED_ARGUMENTS:
            raise ValueError(f"{key}: its value is fixed, completions depend on it; remove it")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{key}: vLLM has no such engine argument{hint}")
