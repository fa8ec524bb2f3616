"""Whether the fast paths give what plain transformers gives, on the device.

    python benchmarks/equal.py --shape tiny
    python benchmarks/equal.py --device cuda --shape qwen3-1.7b

The reference is transformers' own forward pass in float32 over one sequence at a time. The error
of a path is ‖its result − the reference‖ / ‖the reference‖, over hidden states and over logits at
all completion positions. In bf16, packed sequences may err twice as much as plain transformers
does in bf16, since both round; in float32 the error has a fixed limit.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import random_models
import shapes

BF16_FACTOR = 2.0
FLOAT32_LIMIT = 1e-3
NUM_LAYERS = 8  # deeper models of random weights multiply rounding errors
NAMES = ("states", "logits")
DTYPES = ("float32", "bfloat16")

Rows = list[tuple[list[int], list[int]]]


def plain_states(model: Any, rows: Rows) -> Any:
    """Hidden states [N, H] by transformers alone, one sequence at a time."""
    import torch

    states = []
    for prompt, completion in rows:
        ids = torch.tensor([prompt + completion], device=model.device)
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        states.append(hidden[len(prompt) - 1 : -1])
    return torch.cat(states)


def error(result: Any, reference: Any) -> float:
    """‖result − reference‖ / ‖reference‖; not a number counts as infinite."""
    difference = (result.double() - reference.double()).norm() / reference.double().norm()
    return float(difference) if difference == difference else float("inf")


def judge(dtype: str, result: Any, rounded: Any, reference: Any) -> dict[str, Any]:
    """The error of a result, and whether it is within its limit; `rounded` is plain, in `dtype`."""
    limit = FLOAT32_LIMIT if dtype == "float32" else BF16_FACTOR * error(rounded, reference)
    size = error(result, reference)
    return {"error": size, "limit": limit, "within": size <= limit}


def ours(folder: Path, dtype: str, resources: dict[str, Any], rows: Rows) -> Any:
    """States and logits as scoring computes them, all sequences in one pass."""
    from mpd.config.logits import PlainScores
    from mpd.config.resources import ScoringResources
    from mpd.scoring.scorer import Trajectories
    from mpd.scoring.transformers_scorer import TransformersScorer

    manifest = folder / "manifest.json"
    settings = PlainScores(context="problem", dtype=dtype)
    scorer = TransformersScorer(manifest, manifest, settings, ScoringResources(**resources), 0)
    prompts, completions = (list(part) for part in zip(*rows, strict=True))
    hidden, _ = scorer.states(Trajectories(prompts, prompts, completions))
    return hidden, scorer.heads[0].logits(hidden)


def plain(folder: Path, dtype: str, rows: Rows) -> Any:
    """States and logits of plain transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    )
    hidden = plain_states(model.eval(), rows)
    size = shapes.SHAPES[folder.name].num_tokens
    return hidden, model.get_output_embeddings()(hidden)[:, :size].float()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The errors of every path, and whether each is within its limit."""
    import torch

    random_models.make_weights_when_loading()
    folder = random_models.write_model(
        arguments.folder / "equal" / arguments.shape, arguments.shape
    )
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings["num_hidden_layers"] = min(settings["num_hidden_layers"], NUM_LAYERS)
    settings.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    rows = shapes.trajectories(arguments)
    checks = []
    with torch.no_grad():
        rounded = {dtype: plain(folder, dtype, rows) for dtype in DTYPES}
        # Kernels replace classes for the whole process, so what does without them comes first.
        for kernels, dtype in product(("none", "auto"), DTYPES):
            results = ours(folder, dtype, {"kernels": kernels}, rows)
            three = zip(NAMES, results, rounded[dtype], rounded["float32"], strict=True)
            for name, *states in three:
                what = f"packed {name}, {dtype}, kernels: {kernels}"
                checks.append({"check": what, **judge(dtype, *states)})
    return {"name": "equality", "checks": checks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    shapes.add_arguments(parser, batch_size=4, completion_tokens=600)
    shapes.run(parser, measure)


if __name__ == "__main__":
    main()
