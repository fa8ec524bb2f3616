"""logits: teacher and current student score the kept trajectories; the teacher's are cached.

Both run over the plain student prompt and the trained ids. Per completion position the cache
holds the teacher's log-probabilities on a support (of its own and the student's most probable ids
those that matter, the realised id, the control ids) with the logs of the masses outside it, the
exact dense reverse KL of the current student, and the student's log-probability of the realised
id. With `cache: hidden` it holds the input of the teacher's output head instead of a support.

    python -m mpd.logits --settings JSON --problems ... --sample ... --compress ... \\
        --filter ... --student .../manifest.json --teacher .../manifest.json \\
        --output .../logits/shard_0.parquet
"""

import logging
from collections.abc import Callable, Mapping, Sequence
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

        from mpd.forward import require_separate_sequences
        from mpd.head import head_of, require_known_head
        from mpd.progress import Progress

        torch.set_num_threads(threads)
        tokenizer = load_tokenizer(student)
        self.chat = ChatFormat(tokenizer, settings["chat"], stop_ids(student, tokenizer))
        self.models = load_model(student, settings["dtype"]), load_model(teacher, settings["dtype"])
        for model in self.models:
            require_known_head(model)
            require_separate_sequences(model)
        with torch.no_grad():
            self.heads = [head_of(model, self.chat.vocabulary_size) for model in self.models]
        self.settings = settings
        self.batch_size, self.chunk_size = batch_size, chunk_size
        self.progress = Progress("scored", total)

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Score the rows of a part; batches hold rows of similar length."""
        ordered = rows.with_row_index("number").sort("num_tokens", "number")
        scored = []
        for batch in ordered.iter_slices(self.batch_size):
            scored.append(self._score(batch))
            self.progress.advance(len(batch), int(batch["num_tokens"].sum()))
        return pl.concat(scored).sort("number").select(schema.LOGITS.names)

    def _score(self, rows: pl.DataFrame) -> pl.DataFrame:
        from mpd.cache import encode

        prompts, completions = rows["prompt_ids"].to_list(), rows["completion_ids"].to_list()
        contexts = [self._teacher_prompt(row) for row in rows.iter_rows(named=True)]
        lengths = rows["num_tokens"].to_list()
        scores = self.scores(prompts, contexts, completions)
        return pl.DataFrame(
            [
                rows["number"],
                *self._keys(rows, prompts, contexts, completions),
                *encode(scores, lengths),
            ]
        ).pipe(self._with_summaries)

    def states(
        self,
        prompts: Sequence[list[int]],
        contexts: Sequence[list[int]],
        completions: Sequence[list[int]],
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Inputs [N, H] of the output heads of student and teacher at all completion positions.

        The student sees `prompts`, the teacher `contexts`; sequence stands after sequence.
        """
        import torch

        from mpd.forward import completion_states, pack

        with torch.no_grad():
            of_student, of_teacher = (
                completion_states(model, *pack(before, completions))
                for model, before in zip(self.models, (prompts, contexts), strict=True)
            )
        return of_student, of_teacher

    def scores(
        self,
        prompts: Sequence[list[int]],
        contexts: Sequence[list[int]],
        completions: Sequence[list[int]],
    ) -> "dict[str, torch.Tensor]":
        """What mpd.support.score finds at all completion positions, chunk by chunk."""
        import torch

        from mpd.support import score

        student, teacher = self.states(prompts, contexts, completions)
        realised = torch.tensor(list(chain(*completions)), device=student.device)
        control = torch.tensor(self.chat.control_ids, device=student.device)
        chunks = []
        for start in range(0, len(realised), self.chunk_size):
            part = slice(start, start + self.chunk_size)
            with torch.no_grad():
                of_student = self.heads[0].logits(student[part])
                of_teacher = self.heads[1].logits(teacher[part])
                found = score(of_student, of_teacher, realised[part], control, self.settings)
            chunks.append(found)
        merged = {name: torch.cat([chunk[name] for chunk in chunks]).cpu() for name in chunks[0]}
        if self.settings["cache"] == "hidden":
            merged["teacher_hidden"] = teacher.float().cpu()
        return merged

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

    def _keys(
        self,
        rows: pl.DataFrame,
        prompts: list[list[int]],
        contexts: list[list[int]],
        completions: list[list[int]],
    ) -> list[pl.Series]:
        """The columns that say which ids a row scores."""
        integers = pl.List(pl.Int32)
        width = len(self.chat.close_ids)
        ends = [self.chat.thinking_end(ids) for ids in completions]
        others = [
            None if context == prompt else context
            for prompt, context in zip(prompts, contexts, strict=True)
        ]
        digests = [ids_digest(*ids) for ids in zip(prompts, completions, strict=True)]
        return [
            *rows.select("sample_id", "candidate", "prompt_ids").iter_columns(),
            pl.Series("teacher_prompt_ids", others, integers),
            *rows.select("completion_ids", "num_tokens").iter_columns(),
            pl.Series(
                "think_end", [None if end is None else end - width for end in ends], pl.Int32
            ),
            pl.Series("ids_digest", digests),
            pl.Series("control_ids", [self.chat.control_ids] * len(rows), integers),
        ]

    def _with_summaries(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Fill up the columns of the artifact: per trajectory means, and nulls for what is not."""
        realised = pl.col("realised_logprob")
        closing = realised.list.slice("think_end", len(self.chat.close_ids)).list.sum()
        made = rows.with_columns(
            mean_teacher_logprob=realised.list.eval(pl.element().cast(pl.Float64)).list.mean(),
            think_close_logprob=pl.when(pl.col("think_end").is_not_null())
            .then(closing)
            .cast(pl.Float64),
            stop_logprob=realised.list.last().cast(pl.Float64),
        )
        empty = table.frame_of([], schema.LOGITS)
        missing = {
            name: pl.lit(None, dtype)
            for name, dtype in empty.schema.items()
            if name not in made.columns
        }
        return made.with_columns(**missing).select("number", *schema.LOGITS.names)


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
