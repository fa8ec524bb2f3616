"""audit: recompute a sample of a finished cache, and print how good it is.

Student and teacher score some of the cached trajectories again. It prints the errors of the sparse
loss and its gradient against the exact full-vocabulary ones, the masses on the supports, the error
of the stored divergences, and the noise floor: how far two scorings by the teacher are apart, with
trajectories packed and alone. The exit code is 1 where a limit is exceeded.

    python -m mpd.audit results/tiny/mpd/seed_0/round_1/logits/shard_0.parquet \\
        --student results/tiny/models/student_seed_0/manifest.json \\
        --teacher results/tiny/models/teacher/manifest.json --min-cosine 0.99
"""

import argparse
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch
from pydantic import TypeAdapter, ValidationError

from mpd.config.logits import LogitsSettings
from mpd.config.mistakes import sentences
from mpd.config.resources import ScoringResources
from mpd.job import command
from mpd.job.layout import STORE
from mpd.scoring.cache import DecodedRows, Support
from mpd.scoring.divergence import dense, reverse_kl
from mpd.scoring.fidelity import fidelity_sums, mean_fidelity
from mpd.scoring.scorer import Trajectories
from mpd.scoring.transformers_scorer import TransformersScorer
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest
from mpd.store.notes import note_of, read_note
from mpd.store.publishing import Store
from mpd.store.row_groups import RowGroups

CHUNK_SIZE = 256  # positions whose full logits exist at a time
PACKED_ROWS = 4  # trajectories scored together for the noise floor
LEAST_PROBABLE = -10  # nats; noise of rarer ids is not counted: they are in no support
NO_SIGNAL = 1e-5  # nats: the student is the teacher
EXPECTED_NOISE = {"float32": 1e-3, "bfloat16": 0.5}  # nats, by the dtype of the scoring


@torch.no_grad()
def measure(scorer: TransformersScorer, rows: pl.DataFrame) -> dict[str, float]:
    """The measures of cached rows; `scorer` has the models and the settings of their cache."""
    decoded = DecodedRows(rows)
    student_head, teacher_head = scorer.heads
    parts, stored_error = [], 0.0
    for number, row in enumerate(rows.iter_rows(named=True)):
        student_states, teacher_states = scorer.states(_trajectories([row]))
        support = None if decoded.has_hidden else decoded.support(number)
        stored = torch.tensor(row["divergence"], device=student_states.device)
        for start in range(0, len(student_states), scorer.chunk_size):
            part = slice(start, start + scorer.chunk_size)
            states, logits = student_states[part], teacher_head.logits(teacher_states[part])
            cached: Support | torch.Tensor
            if support is None:
                cached = teacher_head.logits(decoded.hidden(number)[part].to(teacher_states))
            else:
                columns = support.ids, support.distinct, support.logprobs
                cached = Support(*(values[part].to(states.device) for values in columns))
            parts.append(fidelity_sums(student_head, states, logits, cached))
            again = dense(reverse_kl, student_head.logits(states), logits)
            stored_error += float((stored[part] - again).abs().sum())
    measures = mean_fidelity(parts)
    return {
        **measures,
        "stored_divergence_error": stored_error / measures["positions"],
        **_noise(scorer, rows),
    }


def _trajectories(rows: list[dict[str, Any]]) -> Trajectories:
    """The ids of cached rows, as a scorer takes them."""
    return Trajectories(
        [row["prompt_ids"] for row in rows],
        [row["teacher_prompt_ids"] or row["prompt_ids"] for row in rows],
        [row["completion_ids"] for row in rows],
    )


def _noise(scorer: TransformersScorer, rows: pl.DataFrame) -> dict[str, float]:
    """How far two scorings of the teacher are apart, in nats: some rows packed, and each alone."""
    records = rows.to_dicts()
    count, largest, total = 0, 0.0, 0.0
    for first in range(0, len(records), PACKED_ROWS):
        batch = records[first : first + PACKED_ROWS]
        _, packed_states = scorer.states(_trajectories(batch))
        alone_states = torch.cat([scorer.states(_trajectories([row]))[1] for row in batch])
        for start in range(0, len(alone_states), scorer.chunk_size):
            part = slice(start, start + scorer.chunk_size)
            alone, packed = (
                scorer.heads[1].logits(states[part]).log_softmax(-1)
                for states in (alone_states, packed_states)
            )
            difference = alone - packed
            total += float((alone.exp() * difference).sum())
            is_likely = alone > LEAST_PROBABLE
            largest = max(largest, float(difference.abs().where(is_likely, 0).max()))
        count += len(alone_states)
    return {"noise_divergence": abs(total) / count, "noise_largest": largest}


def sampled_rows(path: Path, count: int, seed: int) -> pl.DataFrame:
    """`count` random rows of a shard, from the row groups that hold them."""
    keys = table.read_columns(path, schema.LOGITS.key)
    if not len(keys):
        raise ValueError(f"{path}: an empty shard; give one with rows")
    sampled = sorted(random.Random(seed).sample(range(len(keys)), min(count, len(keys))))
    file, start, parts = RowGroups(path), 0, []
    for group in range(file.num_groups):
        stop = start + file.sizes[group]
        places = [row - start for row in sampled if start <= row < stop]
        if places:
            frame = pl.from_arrow(file.read(group))
            assert isinstance(frame, pl.DataFrame)
            parts.append(frame[places])
        start = stop
    return pl.concat(parts)


def exceeded(measures: Mapping[str, float], limits: argparse.Namespace) -> list[str]:
    """One phrase for each limit that the measures exceed.

    Loss and gradient are not judged where there is nothing to learn: their errors would compare
    rounding with rounding.
    """
    phrases = []
    bounded = {
        "stored_divergence_error": measures["stored_divergence_error"],
        "noise_divergence": measures["noise_divergence"],
    }
    if measures["exact_loss"] > NO_SIGNAL:
        bounded["loss_error"] = abs(measures["loss_ratio"] - 1)
        cosine = measures["gradient_cosine"]
        if cosine < limits.min_cosine:
            phrases.append(f"gradient_cosine is {cosine:.6f}, below {limits.min_cosine}")
    for name, value in bounded.items():
        limit = getattr(limits, f"max_{name}")
        if value > limit:
            phrases.append(f"{name} is {value:.6g}, above {limit}")
    return phrases


def settings_of(cache: Path) -> LogitsSettings:
    """The settings of a cache, from its note. Raises ValueError where that is not of these rows."""
    path = note_of(cache)
    if path is None:
        raise ValueError(f"{cache}: no note beside it; give the shard in results/")
    note = read_note(path, cache)
    Store(STORE).require_unchanged(cache)
    adapter: TypeAdapter[LogitsSettings] = TypeAdapter(LogitsSettings)
    try:
        return adapter.validate_python(note["settings"])
    except ValidationError as error:
        phrases = "; ".join(sentences(error, adapter.json_schema()))
        raise ValueError(f"{path}: {phrases}; run logits again") from None


def command_line() -> argparse.ArgumentParser:
    """The command line of the audit."""
    parser = argparse.ArgumentParser(
        prog="python -m mpd.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cache", type=Path, help="a shard of logits")
    parser.add_argument(
        "--student", type=Path, required=True, help="manifest of the student that the cache is for"
    )
    parser.add_argument("--teacher", type=Path, required=True, help="manifest of the teacher")
    parser.add_argument(
        "--num-rows", type=int, default=32, help="trajectories to score; default 32"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    parser.add_argument(
        "--min-cosine",
        type=float,
        default=0.95,
        help="least cosine between the gradients; default 0.95",
    )
    parser.add_argument(
        "--max-loss-error", type=float, default=0.2, help="relative to the exact loss; default 0.2"
    )
    parser.add_argument(
        "--max-stored-divergence-error",
        type=float,
        default=0.01,
        help="mean, in nats; default 0.01",
    )
    parser.add_argument(
        "--max-noise-divergence",
        type=float,
        help=f"mean, in nats; default by dtype: {EXPECTED_NOISE}",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Audit a cache. Raises ValueError where it exceeds a limit."""
    arguments = command_line().parse_args(argv)
    student, teacher = read_manifest(arguments.student), read_manifest(arguments.teacher)
    made_by = {"student": student["digest"], "teacher": teacher["digest"]}
    table.check(arguments.cache, schema.LOGITS, made_by)
    rows = sampled_rows(arguments.cache, arguments.num_rows, arguments.seed)
    settings = settings_of(arguments.cache)
    if settings.cache == "realised":
        raise ValueError(
            f"{arguments.cache}: a cache of completion ids alone has no distribution to compare; "
            "give one with logits.cache: sparse or hidden"
        )
    if arguments.max_noise_divergence is None:
        arguments.max_noise_divergence = EXPECTED_NOISE[settings.dtype]

    models = arguments.student, arguments.teacher
    resources = ScoringResources(chunk_size=CHUNK_SIZE, threads=arguments.threads)
    scorer = TransformersScorer(*models, settings, resources, total=0)
    measures = measure(scorer, rows)
    for name, value in measures.items():
        print(f"{name.replace('_', ' '):24} {value:.6g}")
    phrases = exceeded(measures, arguments)
    if phrases:
        raise ValueError(f"{arguments.cache}: {'; '.join(phrases)}; run logits again")


if __name__ == "__main__":
    command.run(main, "audit")
