"""audit: recompute a sample of a finished cache, and say how good it is.

Student and teacher score some of the cached trajectories again. Printed are the error of the
sparse loss and of its gradient against the exact full-vocabulary ones, the captured masses, how
far the stored divergences are off, and the noise floor: the teacher scored twice, once with each
trajectory alone. The exit code is 1 where a limit is exceeded.

    python -m mpd.audit results/tiny/mpd/seed_0/round_1/logits/shard_0.parquet \\
        --student results/tiny/models/student_seed_0/manifest.json \\
        --teacher results/tiny/models/teacher/manifest.json --min-cosine 0.99
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import torch
from pydantic import TypeAdapter

from mpd.config.logits import LogitsSettings
from mpd.config.resources import ScoringResources
from mpd.job import command
from mpd.scoring.cache import Rows, Support
from mpd.scoring.divergence import dense, reverse_kl
from mpd.scoring.outcomes import outcomes_of
from mpd.scoring.output_head import OutputHead
from mpd.scoring.scorer import Scorer
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest

CHUNK_SIZE = 256  # positions whose full logits exist at a time
PACKED_ROWS = 4  # trajectories scored together for the noise floor
NO_SIGNAL = 1e-5  # nats: the student is the teacher
NOISE = {"float32": 1e-3, "bfloat16": 0.5}  # nats; expected of a scoring in this dtype


def fidelity(
    head: OutputHead,
    states: torch.Tensor,
    teacher_logits: torch.Tensor,
    cached: Support | torch.Tensor,
) -> dict[str, float]:
    """Sums over n positions that tell a cached reverse KL from the exact one.

    `states` [n, H] are inputs of the student's `head`, `teacher_logits` [n, V] are exact, `cached`
    is a support, or logits made from cached hidden states. Gradients are at `states`.
    """
    masses = {"teacher_mass": float(len(states)), "student_mass": float(len(states))}

    def exact(logits: torch.Tensor) -> torch.Tensor:
        return dense(reverse_kl, logits, teacher_logits)

    def approximate(logits: torch.Tensor) -> torch.Tensor:
        if not isinstance(cached, Support):
            return dense(reverse_kl, logits, cached)
        entries = cached.ids.shape[1]
        num_buckets = cached.logprobs.shape[1] - entries
        own, _ = outcomes_of(logits, cached.ids.long(), cached.distinct, num_buckets)
        for name, outcomes in (("teacher_mass", cached.logprobs), ("student_mass", own.detach())):
            masses[name] = float(outcomes[:, :entries].exp().sum())
        return reverse_kl(own, cached.logprobs)

    def gradient(divergence: Any) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            hidden = states.clone().requires_grad_()
            found = divergence(head.logits(hidden))
            (of_hidden,) = torch.autograd.grad(found.sum(), hidden)
        return found.detach(), of_hidden.float()

    (loss, of_loss), (other, of_other) = gradient(exact), gradient(approximate)
    return {
        "positions": float(len(states)),
        "exact_loss": float(loss.sum()),
        "cached_loss": float(other.sum()),
        "product": float((of_loss * of_other).sum()),
        "exact_square": float(of_loss.square().sum()),
        "cached_square": float(of_other.square().sum()),
        "error_square": float((of_loss - of_other).square().sum()),
        **masses,
    }


def summary(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over all positions of what `fidelity` summed; loss in nats.

    Cosine and error of the gradient are of all positions together. Where the exact loss is zero,
    so are the errors.
    """
    total = {name: sum(part[name] for part in parts) for name in parts[0]}
    count, square = total["positions"], total["exact_square"]
    norms = (square * total["cached_square"]) ** 0.5
    return {
        "positions": count,
        "exact_loss": total["exact_loss"] / count,
        "loss_ratio": total["cached_loss"] / total["exact_loss"] if total["exact_loss"] else 1.0,
        "gradient_cosine": total["product"] / norms if norms else 1.0,
        "gradient_error": (total["error_square"] / square) ** 0.5 if square else 0.0,
        "teacher_mass": total["teacher_mass"] / count,
        "student_mass": total["student_mass"] / count,
    }


@torch.no_grad()
def measure(scorer: Scorer, rows: pl.DataFrame) -> dict[str, float]:
    """The measures of cached rows; `scorer` holds the models and the settings of their cache."""
    cached = Rows(rows)
    of_student, of_teacher = scorer.heads
    parts, stored_error = [], 0.0
    for number, row in enumerate(rows.iter_rows(named=True)):
        student, teacher = scorer.states(*([ids] for ids in _ids(row)))
        support = None if cached.has_hidden else cached.support(number)
        stored = torch.tensor(row["divergence"], device=student.device)
        for start in range(0, len(student), scorer.chunk_size):
            part = slice(start, start + scorer.chunk_size)
            logits = of_teacher.logits(teacher[part])
            other: Support | torch.Tensor
            if support is None:
                hidden = cached.hidden(number)[part].to(teacher)
                other = of_teacher.logits(hidden)
            else:
                columns = support.ids, support.distinct, support.logprobs
                other = Support(*(values[part].to(student.device) for values in columns))
            parts.append(fidelity(of_student, student[part], logits, other))
            again = dense(reverse_kl, of_student.logits(student[part]), logits)
            stored_error += float((stored[part] - again).abs().sum())
    found = summary(parts)
    return {
        **found,
        "stored_divergence_error": stored_error / found["positions"],
        **_noise(scorer, rows),
    }


def _ids(row: Mapping[str, Any]) -> tuple[list[int], list[int], list[int]]:
    """The student's prompt, the teacher's, and the completion."""
    plain = row["prompt_ids"]
    return plain, row["teacher_prompt_ids"] or plain, row["completion_ids"]


def _noise(scorer: Scorer, rows: pl.DataFrame) -> dict[str, float]:
    """How far two scorings of the teacher are apart, in nats: some rows packed, and each alone."""
    ids = [_ids(row) for row in rows.iter_rows(named=True)]
    count, largest, total = 0, 0.0, 0.0
    for first in range(0, len(ids), PACKED_ROWS):
        batch = ids[first : first + PACKED_ROWS]
        together = scorer.states(*map(list, zip(*batch, strict=True)))[1]
        alone = torch.cat([scorer.states(*([part] for part in row))[1] for row in batch])
        for start in range(0, len(alone), scorer.chunk_size):
            part = slice(start, start + scorer.chunk_size)
            one, other = (
                scorer.heads[1].logits(states[part]).log_softmax(-1) for states in (alone, together)
            )
            total += float((one.exp() * (one - other)).sum())
            likely = one > -10  # nats: what is rarer is no part of a support
            largest = max(largest, float((one - other).abs().where(likely, 0).max()))
        count += len(alone)
    return {"noise_divergence": abs(total) / count, "noise_largest": largest}


def sampled_rows(path: Path, count: int, seed: int) -> pl.DataFrame:
    """`count` random rows of a shard, from the row groups that hold them."""
    keys = table.read_columns(path, schema.LOGITS.key)
    if not len(keys):
        raise ValueError(f"{path}: an empty shard; give one with rows")
    chosen = sorted(random.Random(seed).sample(range(len(keys)), min(count, len(keys))))
    file, start, parts = pq.ParquetFile(path), 0, []
    for group in range(file.metadata.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        places = [row - start for row in chosen if start <= row < stop]
        if places:
            frame = pl.from_arrow(file.read_row_group(group))
            assert isinstance(frame, pl.DataFrame)
            parts.append(frame[places])
        start = stop
    return pl.concat(parts)


def exceeded(measures: Mapping[str, float], limits: argparse.Namespace) -> list[str]:
    """One phrase for each limit that the measures exceed.

    Loss and gradient are not judged where there is nothing to learn: their errors are then of
    rounding against rounding.
    """
    found = []
    most = {
        "stored_divergence_error": measures["stored_divergence_error"],
        "noise_divergence": measures["noise_divergence"],
    }
    if measures["exact_loss"] > NO_SIGNAL:
        most["loss_error"] = abs(measures["loss_ratio"] - 1)
        cosine = measures["gradient_cosine"]
        if cosine < limits.min_cosine:
            found.append(f"gradient_cosine is {cosine:.6f}, below {limits.min_cosine}")
    for name, value in most.items():
        limit = getattr(limits, f"max_{name}")
        if value > limit:
            found.append(f"{name} is {value:.6g}, above {limit}")
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m mpd.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cache", type=Path, help="a shard of logits")
    parser.add_argument("--student", type=Path, required=True, help="manifest it was made for")
    parser.add_argument("--teacher", type=Path, required=True, help="manifest of the teacher")
    parser.add_argument("--num-rows", type=int, default=32, help="trajectories to recompute")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of trajectories")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    parser.add_argument("--min-cosine", type=float, default=0.95, help="of the gradient")
    parser.add_argument("--max-loss-error", type=float, default=0.2, help="share of the exact loss")
    parser.add_argument(
        "--max-stored-divergence-error", type=float, default=0.01, help="nats, mean"
    )
    parser.add_argument(
        "--max-noise-divergence", type=float, help=f"nats, mean; by default as the dtype: {NOISE}"
    )
    arguments = parser.parse_args(argv)
    student, teacher = read_manifest(arguments.student), read_manifest(arguments.teacher)
    made_by = {"student": student["digest"], "teacher": teacher["digest"]}
    table.check(arguments.cache, schema.LOGITS, made_by)
    rows = sampled_rows(arguments.cache, arguments.num_rows, arguments.seed)
    note = json.loads(arguments.cache.with_suffix(".json").read_text(encoding="utf-8"))
    settings: LogitsSettings = TypeAdapter(LogitsSettings).validate_python(note["settings"])
    if arguments.max_noise_divergence is None:
        arguments.max_noise_divergence = NOISE[settings.dtype]

    folders = arguments.student.parent, arguments.teacher.parent
    resources = ScoringResources(batch_size=1, chunk_size=CHUNK_SIZE, threads=arguments.threads)
    scorer = Scorer(*folders, settings, resources, total=0)
    measures = measure(scorer, rows)
    for name, value in measures.items():
        print(f"{name.replace('_', ' '):24} {value:.6g}")
    found = exceeded(measures, arguments)
    if found:
        raise ValueError(f"{arguments.cache}: {'; '.join(found)}; run logits again, or mend it")


if __name__ == "__main__":
    command.run(main, "audit")
