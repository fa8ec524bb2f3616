"""Tokens per second of the sample stage with `engine: vllm`, against a bare LLM.generate.

    make run vllm
    .venv-vllm/bin/python benchmarks/engine.py --json

Both complete the same prompts with the same sampling parameters, a seed for each, on engines with
the same arguments in one process, in turns; the ratio is of the medians. The stage also renders
prompts, decodes text and writes its Parquet parts; the bare engine completes, and no more.
`without seeds` is the bare engine without seeds and log-probabilities: what they cost. The
start-up of our engine, with the import of vLLM before it, is reported apart.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from mpd.config.resources import GenerationResources
from mpd.config.sample import DrawnSample
from mpd.engines.base import seed_of
from mpd.engines.opening import open_engine
from mpd.engines.question_tasks import question_prompts
from mpd.engines.tasks import complete
from mpd.engines.vllm.generation import VllmEngine
from mpd.sample import sampler, with_samples
from mpd.store import schema, table
from mpd.store.parts import Parts
from mpd.store.spent import Meter


def settings_of(arguments: argparse.Namespace) -> DrawnSample:
    return DrawnSample(
        engine="vllm",
        engine_arguments={"kv_cache_memory_bytes": arguments.cache_gb << 30},
        dtype=arguments.dtype,
        max_new_tokens=arguments.max_new_tokens,
    )


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second of the contestants, and the seconds of the start-up."""
    settings = settings_of(arguments)
    problems = table.read(arguments.problems, schema.PROBLEMS)[: arguments.num_problems]
    rows = with_samples(problems, arguments.num_samples)
    began = time.perf_counter()
    resources = GenerationResources(batch_size=arguments.batch_size, threads=arguments.threads)
    engine = open_engine(arguments.model, settings, resources)
    assert isinstance(engine, VllmEngine)
    engine.backend  # noqa: B018 - it starts here
    startup = time.perf_counter() - began

    from vllm import LLM, SamplingParams

    bare = LLM(**engine.arguments())
    bare.llm_engine.collective_rpc("trim_vocabulary", args=(engine.vocabulary.size,))
    by_question = question_prompts(engine.vocabulary, settings.chat, rows["question"])
    prompts = [{"prompt_token_ids": by_question[question]} for question in rows["question"]]
    shared = {
        "temperature": 1.0,
        "max_tokens": arguments.max_new_tokens,
        "stop_token_ids": engine.vocabulary.stop_ids,
        "ignore_eos": True,
        "detokenize": False,
    }
    seeds = [seed_of("sample", 0, sample_id) for sample_id in rows["sample_id"]]
    seeded = [SamplingParams(seed=seed, logprobs=0, **shared) for seed in seeds]

    def stage(turn: int) -> int:
        scratch = folder / str(turn)
        scratch.mkdir()
        meter = Meter(scratch / "spent.json")
        rendered = question_prompts(engine.vocabulary, settings.chat, problems["question"])
        work = sampler(engine, rendered, settings, len(rows))
        with table.joining(scratch / "complete.parquet", schema.SAMPLE, {}) as append:
            parts = Parts(scratch, schema.SAMPLE, {}, meter, append)
            complete(parts, rows, arguments.rows_per_part, "vllm", lambda: work)
        return int(table.read(scratch / "complete.parquet", schema.SAMPLE)["num_tokens"].sum())

    def generate(parameters: Any) -> int:
        outputs = bare.generate(prompts, parameters, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    contestants = {
        "stage": stage,
        "bare": lambda _: generate(seeded),
        "without seeds": lambda _: generate(SamplingParams(**shared)),
    }
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(arguments.repeats + 1):
        for name, work in contestants.items():
            began = time.perf_counter()
            tokens = work(turn)
            if turn:  # the first warms up
                rates[name].append(tokens / (time.perf_counter() - began))
    return {"rates": rates, "startup": startup}


def main() -> None:
    tiny = Path("results/tiny")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", type=Path, default=tiny / "models/student_seed_0/manifest.json")
    parser.add_argument("--problems", type=Path, default=tiny / "problems/train/shard_0.parquet")
    parser.add_argument("--num-problems", type=int, default=200)
    parser.add_argument("--num-samples", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=64, help="sequences side by side")
    parser.add_argument("--rows-per-part", type=int, default=128)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache-gb", type=int, default=1, help="key-value cache of each engine")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    arguments = parser.parse_args()
    results = Path("results").absolute()
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as name:
        found = measure(Path(name), arguments)
    medians = {name: statistics.median(rates) for name, rates in found["rates"].items()}
    for name, rates in found["rates"].items():
        print(f"{name:14} {medians[name]:9,.0f} tokens/s  ({min(rates):,.0f} to {max(rates):,.0f})")
    result = {
        "throughput_ratio": round(medians["stage"] / medians["bare"], 3),
        "startup_seconds": round(found["startup"], 1),
    }
    print(f"throughput ratio {result['throughput_ratio']}, start-up {result['startup_seconds']} s")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
