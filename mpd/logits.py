"""logits: teacher and current student score the kept trajectories; the teacher's are cached.

Both run over the plain student prompt and the trained ids. Per completion position the cache
holds the teacher's log-probabilities on a support (its top-K, the realised id, the control ids)
with the log of the mass outside it, the exact dense reverse KL of the current student, and the
student's log-probability of the realised id.

    python -m mpd.logits --settings JSON --problems ... --sample ... --compress ... \\
        --filter ... --student .../manifest.json --teacher .../manifest.json \\
        --output .../logits/shard_0.parquet
"""

import logging
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mpd import command, schema, table
from mpd.chat import ChatFormat, fill, ids_digest
from mpd.lineage import require_made_from, sampled_by
from mpd.model_folder import (
    load_model,
    load_tokenizer,
    read_manifest,
    require_same_tokens,
    stop_ids,
)
from mpd.store import Parts

if TYPE_CHECKING:
    import torch

log = logging.getLogger("mpd")

POSITION_COLUMNS = ("realised_logprob", "student_logprob", "divergence", "teacher_entropy")


class Scorer:
    """Teacher and student side by side, scoring one part of rows at a time."""

    def __init__(
        self,
        student: Path,
        teacher: Path,
        settings: Mapping[str, Any],
        batch_size: int,
        chunk_size: int,
        threads: int,
        total: int,
    ) -> None:
        import torch

        from mpd.forward import require_plain_head
        from mpd.progress import Progress

        torch.set_num_threads(threads)
        tokenizer = load_tokenizer(student)
        self.chat = ChatFormat(tokenizer, settings["chat"], stop_ids(student, tokenizer))
        self.student = load_model(student, settings["dtype"])
        self.teacher = load_model(teacher, settings["dtype"])
        for model in (self.student, self.teacher):
            require_plain_head(model)
        self.settings = settings
        self.batch_size, self.chunk_size = batch_size, chunk_size
        self.progress = Progress("scored", total)

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Score the rows of a part; batches hold rows of similar length."""
        ordered = rows.with_row_index("number").sort("num_tokens", "number")
        scored: list[dict[str, Any]] = []
        for batch in ordered.iter_slices(self.batch_size):
            scored += self._score(batch.to_dicts())
            self.progress.advance(len(batch), int(batch["num_tokens"].sum()))
        scored.sort(key=lambda row: row.pop("number"))
        return table.frame_of(scored, schema.LOGITS)

    def _score(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        import torch

        from mpd.forward import completion_states, output_logits, pad

        completions = [row["completion_ids"] for row in rows]
        size = self.chat.vocabulary_size
        chunks = []
        with torch.inference_mode():
            plain = [row["prompt_ids"] for row in rows]
            student = completion_states(self.student, *pad(plain, completions))
            context = [self._teacher_prompt(row) for row in rows]
            teacher = completion_states(self.teacher, *pad(context, completions))
            realised = torch.tensor(list(chain(*completions)), device=student.device)
            for start in range(0, len(realised), self.chunk_size):
                part = slice(start, start + self.chunk_size)
                chunks.append(
                    score_positions(
                        output_logits(self.student, student[part], size),
                        output_logits(self.teacher, teacher[part], size),
                        realised[part],
                        torch.tensor(self.chat.control_ids, device=student.device),
                        self.settings["top_k"],
                    )
                )
        merged = {name: torch.cat([chunk[name] for chunk in chunks]).cpu() for name in chunks[0]}
        ends = torch.tensor([len(ids) for ids in completions]).cumsum(0).tolist()
        return [
            self._row(
                row,
                {name: values[end - row["num_tokens"] : end] for name, values in merged.items()},
            )
            for row, end in zip(rows, ends, strict=True)
        ]

    def _teacher_prompt(self, row: Mapping[str, Any]) -> list[int]:
        """The plain prompt, or the rewriting prompt, rendered as the student's prompts are."""
        if self.settings["context"] == "problem":
            return row["prompt_ids"]
        content = fill(
            self.settings["rewriting_prompt"],
            problem=row["question"],
            trajectory=row["sample_text"],
        )
        return self.chat.prompt_ids(content, self.settings["chat"]["thinking"])

    def _row(self, row: dict[str, Any], scores: "dict[str, torch.Tensor]") -> dict[str, Any]:
        from mpd.cache import encode

        sizes, ids, logprobs = encode(scores["top_ids"], scores["top_logprobs"], scores["taken"])
        end = self.chat.thinking_end(row["completion_ids"])
        closing = None
        if end is not None:
            closing = scores["realised_logprob"][end - len(self.chat.close_ids) : end].sum().item()
        return {
            "number": row["number"],
            **{key: row[key] for key in ("sample_id", "candidate", "prompt_ids", "completion_ids")},
            "ids_digest": ids_digest(row["prompt_ids"], row["completion_ids"]),
            "control_ids": self.chat.control_ids,
            "support_size": sizes,
            "support_ids": ids,
            "support_logprobs": logprobs,
            "tail_logprob": scores["tail_logprob"].tolist(),
            "control_logprobs": scores["control_logprobs"].flatten().tolist(),
            **{name: scores[name].tolist() for name in POSITION_COLUMNS},
            "mean_teacher_logprob": scores["realised_logprob"].double().mean().item(),
            "think_close_logprob": closing,
            "stop_logprob": scores["realised_logprob"][-1].item(),
        }


def score_positions(
    student_logits: "torch.Tensor",
    teacher_logits: "torch.Tensor",
    realised: "torch.Tensor",
    control: "torch.Tensor",
    top_k: int,
) -> "dict[str, torch.Tensor]":
    """What the cache holds of N positions, from logits [N, V] of both models.

    `top_ids`, `top_logprobs`, `taken` [N, K] are the teacher's most probable ids; `taken` marks
    those that stand in the fixed columns. (The student's own most probable ids would join here.)
    """
    import torch

    from mpd.divergence import dense_reverse_kl, on_support

    teacher = torch.log_softmax(teacher_logits, -1)
    top = teacher.topk(min(top_k, teacher.shape[-1]), -1)
    fixed = torch.cat([realised[:, None], control.expand(len(realised), -1)], 1)
    support = torch.cat([fixed, top.indices], 1)
    student = torch.log_softmax(student_logits, -1)
    tail = on_support(teacher_logits, support, torch.ones_like(support, dtype=torch.bool))[:, -1]
    return {
        "top_ids": top.indices,
        "top_logprobs": top.values,
        "taken": (top.indices[:, :, None] == fixed[:, None, :]).any(-1),
        "tail_logprob": tail,
        "realised_logprob": teacher.gather(1, realised[:, None])[:, 0],
        "control_logprobs": teacher[:, control],
        "student_logprob": student.gather(1, realised[:, None])[:, 0],
        "divergence": dense_reverse_kl(student_logits, teacher_logits),
        "teacher_entropy": -(teacher.exp() * teacher).sum(-1),
    }


def kept_rows(
    problems: pl.DataFrame, samples: pl.DataFrame, candidates: pl.DataFrame, verdicts: pl.DataFrame
) -> pl.DataFrame:
    """The kept candidates with prompt and trained ids. Raises ValueError where some are missing."""
    kept = verdicts.filter("keep").select("sample_id", "candidate", "problem_id")
    rows = (
        kept.join(
            candidates.select("sample_id", "candidate", "completion_ids", "num_tokens"),
            on=["sample_id", "candidate"],
            validate="1:1",
            maintain_order="left",
        )
        .join(
            samples.select("sample_id", "prompt_ids", pl.col("text").alias("sample_text")),
            on="sample_id",
            validate="1:1",
            maintain_order="left",
        )
        .join(problems.select("problem_id", "question"), "problem_id", maintain_order="left")
    )
    if len(rows) != len(kept):
        raise ValueError("filter keeps rows that compress, sample or problems lack: other shards")
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = command.parser(__doc__, "logits")
    for name in ("problems", "sample", "compress", "filter"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"{name} of this shard")
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    parser.add_argument("--teacher", type=Path, required=True, help="manifest of the teacher")
    parser.add_argument("--chunk-size", type=int, default=1024, help="positions with full logits")
    command.generation_arguments(parser)
    arguments = parser.parse_args(argv)
    student, teacher = read_manifest(arguments.student), read_manifest(arguments.teacher)
    require_same_tokens(student, teacher)
    # The scorer must be the rewriter: another teacher would not like its rewrites.
    rewriter = {"token_map": student["token_map"], "teacher": teacher["digest"]}
    paths: dict[str, Any] = {
        "problems": (arguments.problems, schema.PROBLEMS),
        "sample": (arguments.sample, schema.SAMPLE, sampled_by(arguments.sample, student)),
        "compress": (arguments.compress, schema.COMPRESS, rewriter),
        "filter": (arguments.filter, schema.FILTER),
    }
    contents = {name: table.content_digest(*of) for name, of in paths.items()}
    made_from = {name: contents[name] for name in ("sample", "compress")}
    require_made_from(arguments.compress, schema.COMPRESS, sample=contents["sample"])
    require_made_from(arguments.filter, schema.FILTER, **made_from)

    def compute(parts: Parts) -> None:
        rows = kept_rows(*(table.read(*of) for of in paths.values()))
        if not len(rows):
            log.warning("no row of this shard was kept; the cache of this shard is empty")
            parts.map(rows, 1, lambda: lambda part: table.frame_of([], schema.LOGITS))
            return

        def prepare() -> Callable[[pl.DataFrame], pl.DataFrame]:
            return Scorer(
                arguments.student.parent,
                arguments.teacher.parent,
                arguments.settings,
                arguments.batch_size,
                arguments.chunk_size,
                arguments.threads,
                len(rows),
            )

        parts.map(rows, arguments.rows_per_part, prepare)

    command.store_of(arguments).publish_table(
        schema.LOGITS,
        arguments.output,
        arguments.settings,
        {
            **contents,
            "student": student["digest"],
            "teacher": teacher["digest"],
        },
        compute,
        identity={**rewriter, "student": student["digest"]},
    )


if __name__ == "__main__":
    command.run(main, "logits")
