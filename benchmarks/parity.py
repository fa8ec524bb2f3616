"""Greedy completions of vLLM against those of transformers: the same prompts, token by token.

    make run vllm
    .venv-vllm/bin/python benchmarks/parity.py --json

Where two completions part, the log-probabilities of both choices say how near they were: a gap of
the size of rounding is a tie that rounding broke.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from mpd.config.resources import GenerationResources
from mpd.config.sample import DrawnSample
from mpd.engines.base import Completion, Request
from mpd.engines.opening import open_engine
from mpd.engines.transformers import TransformersEngine
from mpd.store import schema, table
from mpd.text.prompts import Prompts

DECODING = {"temperature": 0, "top_p": 1.0, "top_k": 0}


def compare(pairs: list[tuple[Completion, Completion]]) -> dict[str, Any]:
    """Shares that agree, and differences of log-probabilities in nats up to where two part."""
    equal, common, total, differences, gaps = 0, 0, 0, [], []
    for one, other in pairs:
        ids = list(zip(one.token_ids, other.token_ids, strict=False))
        same = next((at for at, (a, b) in enumerate(ids) if a != b), len(ids))
        equal += one.token_ids == other.token_ids
        common, total = common + same, total + max(len(one.token_ids), len(other.token_ids))
        scores = list(zip(one.logprobs, other.logprobs, strict=False))
        differences += [abs(a - b) for a, b in scores[:same]]
        gaps += [abs(a - b) for a, b in scores[same : same + 1]]
    differences.sort()
    return {
        "sequences_equal": round(equal / len(pairs), 4),
        "tokens_before_parting": round(common / total, 4),
        "logprob_difference_mean": sum(differences) / len(differences),
        "logprob_difference_p99": differences[int(0.99 * (len(differences) - 1))],
        "logprob_difference_largest": differences[-1],
        "gap_where_they_part_largest": max(gaps, default=0.0),
    }


def main() -> None:
    tiny = Path("results/tiny")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", type=Path, default=tiny / "models/student_seed_0/manifest.json")
    parser.add_argument("--problems", type=Path, default=tiny / "problems/train/shard_0.parquet")
    parser.add_argument("--num-problems", type=int, default=200)
    parser.add_argument("--max-new-tokens", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    arguments = parser.parse_args()
    decoding = {**DECODING, "max_new_tokens": arguments.max_new_tokens}
    settings = DrawnSample(engine="vllm", dtype=arguments.dtype, **decoding)
    resources = GenerationResources(
        batch_size=arguments.batch_size, threads=arguments.threads, gpu_memory_utilization=0.3
    )
    plain = TransformersEngine(arguments.model, arguments.dtype, resources)
    prompts = Prompts.plain(plain.vocabulary, settings.chat)
    questions = table.read(arguments.problems, schema.PROBLEMS)["question"]
    requests = [
        Request(prompts.problem_ids(question), 0)
        for question in questions[: arguments.num_problems]
    ]
    made = []
    for engine in (plain, open_engine(arguments.model, settings, resources)):
        began = time.perf_counter()
        made.append(engine.generate(requests, settings))
        print(f"{type(engine).__name__}: {time.perf_counter() - began:.1f} s")
    found = compare(list(zip(*made, strict=True)))
    for name, value in found.items():
        print(f"{name:30} {value:.3g}")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
