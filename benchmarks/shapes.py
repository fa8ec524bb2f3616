"""Shapes of real models, the options of benchmarks, and the trajectories that they are given."""

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

QWEN3 = {
    "vocab_size": 151_936, "head_dim": 128, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 40_960,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}  # fmt: skip
SMOLLM2 = {
    "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
}  # fmt: skip
OURS = ("liger_kernel.transformers", "mpd.scoring.transformers_scorer", "mpd.training.loop")
CPU_CHUNK = 128  # positions
AT_ONCE = "default: on a CPU the batch size, on a GPU that of the configuration"


@dataclass(frozen=True)
class Shape:
    """A configuration of transformers, and how many of its output rows are tokens."""

    architecture: str
    fields: dict[str, Any]
    num_tokens: int
    teacher: str  # the name of its teacher's shape

    def config(self) -> Any:
        """The configuration; layers add as much to the residual stream at every width."""
        from transformers import AutoConfig

        spread = self.fields["hidden_size"] ** -0.5
        return AutoConfig.for_model(self.architecture, initializer_range=spread, **self.fields)


SHAPES = {
    "tiny": Shape(
        "qwen3",
        {**QWEN3, "vocab_size": 1024, "head_dim": 16, "num_key_value_heads": 2, "hidden_size": 64,
         "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
         "tie_word_embeddings": True},
        1000, "tiny",
    ),
    "smollm2-135m": Shape("llama", SMOLLM2, 49_152, "smollm2-five-times"),
    "smollm2-five-times": Shape(
        "llama",
        {**SMOLLM2, "hidden_size": 1280, "intermediate_size": 3456, "num_hidden_layers": 35,
         "num_attention_heads": 20, "num_key_value_heads": 5},
        49_152, "smollm2-five-times",
    ),
    "qwen3-1.7b": Shape(
        "qwen3",
        {**QWEN3, "hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16,
         "intermediate_size": 6144, "tie_word_embeddings": True},
        151_669, "qwen3-8b",
    ),
    "qwen3-8b": Shape(
        "qwen3",
        {**QWEN3, "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
         "intermediate_size": 12_288, "tie_word_embeddings": False},
        151_669, "qwen3-8b",
    ),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """The options of every benchmark that runs a model; `defaults` are of that benchmark."""
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", choices=list(SHAPES), default="smollm2-135m")
    parser.add_argument("--teacher-shape", choices=list(SHAPES), help="default: the shape's own")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--batch-size", type=int, help="trajectories of a step, or scored")
    parser.add_argument("--micro-batch-size", type=int, help=AT_ONCE)
    parser.add_argument("--prompt-tokens", type=int, default=60, help="of the longest prompt")
    parser.add_argument("--completion-tokens", type=int, help="of the longest completion")
    parser.add_argument("--fewest-tokens", type=int, help="of a completion; default: half")
    parser.add_argument("--chunk-size", type=int, help="positions, ours; on a GPU, the default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON: more settings")
    parser.add_argument("--resources", type=json.loads, default={}, help="JSON: more resources")
    parser.add_argument("--matrix-tflops", type=float, help="default: measured first")
    parser.add_argument("--memory-gb", type=float, help="of the GPU; the rest is taken away")
    parser.add_argument("--profile", action="store_true", help="what a GPU did, by kernel")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--folder", type=Path, help="prepared models; default: made and deleted")
    parser.set_defaults(**defaults)


def choose_device(arguments: argparse.Namespace) -> None:
    """Hide the GPUs from a measurement on the CPU; call it before torch looks for them."""
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def batch_resources(arguments: argparse.Namespace, size: str) -> dict[str, Any]:
    """The resources that say how much is computed at once; `size` names the number of rows.

    On a GPU they are the defaults of the configuration, if no option names them.
    """
    on_cpu = arguments.device == "cpu"
    chosen = {
        size: arguments.micro_batch_size or (arguments.batch_size if on_cpu else None),
        "chunk_size": arguments.chunk_size or (CPU_CHUNK if on_cpu else None),
    }
    chosen = {name: value for name, value in chosen.items() if value}
    return {**chosen, "threads": arguments.threads, **arguments.resources}


def trajectories(arguments: argparse.Namespace) -> list[tuple[list[int], list[int]]]:
    """Prompts and completions of random ids, some longer than others."""
    rng = random.Random(0)
    num_tokens = SHAPES[arguments.shape].num_tokens
    prompts, longest = arguments.prompt_tokens, arguments.completion_tokens
    fewest = arguments.fewest_tokens or longest // 2

    def ids(count: int) -> list[int]:
        return [rng.randrange(10, num_tokens) for _ in range(count)]

    return [
        (ids(rng.randint(prompts // 2, prompts)), ids(rng.randint(fewest, longest)))
        for _ in range(arguments.batch_size)
    ]


def sizes(rows: list[tuple[list[int], list[int]]]) -> tuple[list[int], int]:
    """The tokens of each sequence, and the completion tokens of all."""
    lengths = [len(prompt) + len(completion) for prompt, completion in rows]
    return lengths, sum(len(completion) for _, completion in rows)


def forward_flops(name: str, lengths: list[int], num_positions: int) -> int:
    """Operations of a forward pass of a shape: see mpd.job.flops."""
    import torch
    from transformers import AutoModelForCausalLM

    from mpd.job import flops

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(SHAPES[name].config())
    return flops.forward_flops(model, lengths, num_positions)


def wait_for_turn(arguments: argparse.Namespace, *modules: str) -> None:
    """Import what loads slowly; then, with --wait, wait for a line before the device is used.

    The line may hold the speed of a matrix product.
    """
    for name in ("transformers.models.qwen3.modeling_qwen3", *modules):
        with suppress(
            ImportError
        ):  # liger-kernel is an extra; others are missed where they are used
            import_module(name)
    if arguments.wait:
        told = sys.stdin.readline().strip()
        arguments.matrix_tflops = float(told) if told else arguments.matrix_tflops


def run(
    parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace], dict[str, Any]]
) -> None:
    """The main of a benchmark of our code: a last line of JSON with what it measures."""
    parser.add_argument("--wait", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    choose_device(arguments)
    wait_for_turn(arguments, *OURS)
    with model_folder(arguments):
        print(json.dumps(measure(arguments)))


@contextmanager
def model_folder(arguments: argparse.Namespace) -> Iterator[Path]:
    """The folder of prepared models: the one that was given, or one for this measurement."""
    if arguments.folder:
        yield arguments.folder
        return
    with tempfile.TemporaryDirectory() as name:
        arguments.folder = Path(name)
        yield arguments.folder
