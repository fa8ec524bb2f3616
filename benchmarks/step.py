"""Speed and peak memory of a distill step, against supervised fine-tuning or against TRL.

    python benchmarks/step.py --json
    make bench-env && python benchmarks/step.py --against trl --json

Every contestant is a process of its own that takes one optimiser step when told to, in turns; the
ratio is of the medians. All train a student of the shape of SmolLM2-135M, randomly initialised,
in float32 on the same token ids. Supervised fine-tuning is our loop with cross-entropy, and thus
the same chunked head without a cache. TRL's DistillationTrainer, in an environment of its own,
runs a live teacher of five times the student's size.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
VOCABULARY = 49_152
STUDENT = {
    "vocab_size": VOCABULARY, "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "tie_word_embeddings": True, "max_position_embeddings": 2048,
}  # fmt: skip
TEACHER = {
    **STUDENT, "hidden_size": 1280, "intermediate_size": 3456, "num_hidden_layers": 35,
    "num_attention_heads": 20, "num_key_value_heads": 5,
}  # fmt: skip


def trajectories(arguments: argparse.Namespace) -> list[tuple[list[int], list[int]]]:
    """Prompts and completions of random ids, some longer than others."""
    import random

    rng = random.Random(0)
    prompts, longest = arguments.prompt_tokens, arguments.completion_tokens

    def ids(count: int) -> list[int]:
        return [rng.randrange(10, VOCABULARY) for _ in range(count)]

    return [
        (ids(rng.randint(prompts // 2, prompts)), ids(rng.randint(longest // 2, longest)))
        for _ in range(arguments.batch_size)
    ]


def build(shape: dict[str, Any]) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**shape))


def prepare(folder: Path, arguments: argparse.Namespace) -> None:
    """Write the student and a cache of near-student sizes."""
    from cache import synthetic_frame
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    from mpd.store import schema, table

    build(STUDENT).save_pretrained(folder / "student")
    words = {str(number): number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="0"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="2", pad_token="2"
    ).save_pretrained(folder / "student")
    table.write(
        folder / "cache.parquet", synthetic_frame(trajectories(arguments)), schema.LOGITS, {}
    )


def ours(folder: Path, divergence: str, arguments: argparse.Namespace) -> Any:
    """Steps of our training loop; each item is one step taken."""
    from mpd.config.distill import DistillSettings
    from mpd.config.resources import DistillResources
    from mpd.training.job import TrainingJob
    from mpd.training.loop import start

    settings = DistillSettings(
        learning_rate=1e-5,
        schedule="constant",
        epochs=1000,
        batch_size=arguments.batch_size,
        divergence=divergence,
    )
    resources = DistillResources(
        micro_batch_size=arguments.batch_size,
        chunk_size=arguments.chunk_size,
        checkpoint_steps=10**9,
        threads=arguments.threads,
    )
    job = TrainingJob(
        student=folder / "student",
        rows=[folder / "cache.parquet"],
        head=None,
        folder=folder,
        scratch=folder / "nowhere",
        tracking=folder / "tracking",
        settings=settings,
        resources=resources,
    )
    return start(job).measures


def trl(folder: Path, arguments: argparse.Namespace) -> Any:
    """Steps of TRL's trainer on the same ids, generation left out."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, LlamaForCausalLM
    from trl import DistillationConfig, DistillationTrainer

    torch.set_num_threads(arguments.threads)
    tokenizer = AutoTokenizer.from_pretrained(folder / "student", padding_side="left")
    tokenizer.chat_template = "{{ messages[0].content }}"
    config = DistillationConfig(
        output_dir=str(folder / "trl"), use_cpu=True, bf16=False, report_to="none", beta=1.0,
        per_device_train_batch_size=arguments.batch_size, max_completion_length=64,
        gradient_checkpointing=False, temperature=1.0,
    )  # fmt: skip
    trainer = DistillationTrainer(
        model=LlamaForCausalLM.from_pretrained(folder / "student", dtype=torch.float32),
        teacher_model=build(TEACHER),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["1 2 3"] * arguments.batch_size}),
        processing_class=tokenizer,
    )
    rows = trajectories(arguments)

    def padded(sequences: list[list[int]], left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(ids) for ids in sequences)
        ids = torch.full((len(sequences), width), 2)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            place = slice(width - len(sequence), None) if left else slice(0, len(sequence))
            ids[row, place], mask[row, place] = torch.tensor(sequence), 1
        return ids, mask

    prompts, completions = zip(*rows, strict=True)
    inputs = dict(
        zip(
            ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask"),
            (*padded(list(prompts), True), *padded(list(completions), False)),
            strict=True,
        )
    )
    inputs["num_items_in_batch"] = inputs["completion_mask"].sum()
    trainer.create_optimizer()
    trainer.model.train()
    while True:
        loss = trainer.compute_loss(trainer.model, dict(inputs))
        trainer.accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        yield loss.item()


def work(arguments: argparse.Namespace) -> None:
    """A contestant: one step for each line that comes in, its seconds and the peak memory out."""
    folder = Path(arguments.folder)
    if arguments.work == "trl":
        steps = trl(folder, arguments)
    else:
        steps = ours(folder, arguments.work, arguments)
    for _ in sys.stdin:
        start = time.monotonic()
        next(steps)
        seconds = time.monotonic() - start
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
        print(json.dumps({"seconds": seconds, "peak": peak}), flush=True)


def compete(
    contestants: dict[str, str], folder: Path, arguments: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """Steps of every contestant, in turns; `contestants` maps names to Python interpreters."""
    options = [
        "--batch-size",
        "--prompt-tokens",
        "--completion-tokens",
        "--chunk-size",
        "--threads",
    ]
    passed = [
        text
        for option in options
        for text in (option, str(getattr(arguments, option[2:].replace("-", "_"))))
    ]
    processes = {
        name: subprocess.Popen(
            [python, __file__, "--work", name, "--folder", str(folder), *passed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if arguments.verbose else subprocess.DEVNULL,
            text=True,
        )
        for name, python in contestants.items()
    }
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for turn in range(arguments.repeats + 1):
        for name, process in processes.items():
            assert process.stdin and process.stdout
            process.stdin.write("step\n")
            process.stdin.flush()
            line = process.stdout.readline()
            while line and not line.startswith("{"):  # what a library prints
                line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{name} ended; run again with --verbose to see why")
            if turn:  # the first step makes the optimiser's state
                taken[name].append(json.loads(line))
    for process in processes.values():
        process.kill()
        process.wait()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--against", choices=["sft", "trl"], default="sft")
    parser.add_argument("--batch-size", type=int, default=8, help="trajectories of a step")
    parser.add_argument("--prompt-tokens", type=int, default=60, help="of the longest prompt")
    parser.add_argument("--completion-tokens", type=int, default=160, help="of the longest")
    parser.add_argument("--chunk-size", type=int, default=128, help="positions, ours")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bench-python", default=".venv-bench/bin/python", help="has TRL")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments)
        return
    other = {"sft": "cross_entropy", "trl": "trl"}[arguments.against]
    pythons = {"sft": sys.executable, "trl": arguments.bench_python}
    tokens = sum(len(completion) for _, completion in trajectories(arguments))
    results = Path("results").absolute()
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as name:
        prepare(Path(name), arguments)
        contestants = {"reverse_kl": sys.executable, other: pythons[arguments.against]}
        taken = compete(contestants, Path(name), arguments)
    seconds = {name: statistics.median(one["seconds"] for one in of) for name, of in taken.items()}
    peaks = {name: max(one["peak"] for one in of) for name, of in taken.items()}
    for name in taken:
        print(f"{name:14} {tokens / seconds[name]:8.1f} completion tokens/s  {peaks[name]:8.0f} MB")
    result = {
        "speed_ratio": round(seconds[other] / seconds["reverse_kl"], 3),
        "memory_ratio": round(peaks["reverse_kl"] / peaks[other], 3),
    }
    print(f"speed ratio {result['speed_ratio']}, memory ratio {result['memory_ratio']}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
