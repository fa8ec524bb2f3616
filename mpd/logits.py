"""logits: teacher and current student score the kept trajectories; the teacher's are cached.

Both score the trained ids after the plain student prompt, or the teacher after one of its own. For
each completion position the cache holds the teacher's log-probabilities on a support (the realised
id, the control ids, and those of both models' most probable ids that matter), the logs of the
masses outside it, the exact dense reverse KL of the current student, and the student's
log-probability of the realised id. With `cache: hidden` it holds the input of the teacher's output
head instead of a support, with `cache: realised` neither: the log-probability of the realised id is
then exact, and that of the student is the one which its sampler stored.

    python -m mpd.logits --settings JSON --problems ... --sample ... --compress ... \\
        --filter ... --student .../manifest.json --teacher .../manifest.json \\
        --output .../logits/shard_0.parquet
"""

import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mpd.config.logits import ConciseScores, LogitsSettings, RewritingScores, SolutionScores
from mpd.config.resources import ScoringResources
from mpd.job import command
from mpd.job.shards import for_each_shard, opened
from mpd.store import schema, table
from mpd.store.joins import matched
from mpd.store.lineage import contents_of, rewritten_by, sampled_by
from mpd.store.model_folder import read_manifest, require_same_tokens
from mpd.store.outputs import Outputs, TableOutput
from mpd.store.parts import Parts
from mpd.text.prompts import prompt_inputs

if TYPE_CHECKING:
    from mpd.scoring.scorer import Scorer

log = logging.getLogger("mpd")


def kept_rows(
    problems: pl.DataFrame,
    samples: pl.DataFrame,
    candidates: pl.DataFrame,
    verdicts: pl.DataFrame,
    references: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The kept candidates with their prompts and trained ids, and references if there are any.

    Raises ValueError where another table lacks some of them.
    """
    kept = verdicts.filter("keep").select("sample_id", "candidate", "problem_id")
    completions = candidates.select(*schema.COMPRESS.key, "completion_ids", "num_tokens")
    originals = samples.select("sample_id", "prompt_ids", sample_text="text")
    rows = matched(kept, completions, schema.COMPRESS)
    rows = matched(rows, originals, schema.SAMPLE)
    rows = matched(rows, problems.select("problem_id", "question"), schema.PROBLEMS)
    if references is not None:
        rows = matched(rows, references, schema.REFERENCES)
    if len(rows) != len(kept):
        raise ValueError(
            "filter keeps rows that compress, sample, problems or references lack; the shards do "
            "not belong together"
        )
    return rows


def with_sampled_logprobs(rows: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """The rows with `sampled_logprobs`: those of the model that sampled, null where it has none."""
    sampled = samples.select("sample_id", sampled_logprobs="logprobs")
    return matched(rows, sampled, schema.SAMPLE)


def score_rows(arguments: Namespace, scoring: Path, rows: pl.DataFrame, parts: Parts) -> None:
    """Score the kept rows of a shard, if any, with the model whose manifest is `scoring`."""
    settings: LogitsSettings = arguments.settings
    resources: ScoringResources = command.resources_of(arguments)
    if not len(rows):
        log.warning("no row of this shard was kept; the cache of this shard is empty")
        parts.write(table.frame_of([], schema.LOGITS))
        return

    def prepare() -> "Scorer":
        from mpd.scoring.transformers_scorer import TransformersScorer
        from mpd.scoring.vllm_scorer import VllmScorer

        kind = VllmScorer if settings.engine == "vllm" else TransformersScorer
        models = arguments.student, scoring
        scorer: Scorer = opened(arguments, lambda: kind(*models, settings, resources, 0))
        scorer.begin(parts.remaining)
        return scorer

    parts.stream(rows, resources.rows_per_part, prepare)


def scoring_model(arguments: Namespace) -> Path:
    """The manifest of the model that scores: the teacher, or the student if that has other tokens.

    Training then needs no scores, and those of the student are for the report. Raises ValueError
    where it does need the teacher's, or the cache is to have the teacher's hidden states.
    """
    student, teacher = read_manifest(arguments.student), read_manifest(arguments.teacher)
    if student["token_map"] == teacher["token_map"]:
        return arguments.teacher
    if arguments.settings.needs_scores:
        require_same_tokens(student, teacher)
    if arguments.settings.cache == "hidden":
        raise ValueError(
            "logits.cache: hidden holds states of the teacher, whose tokens are not the student's; "
            "set cache: sparse"
        )
    return arguments.student


def references_of(arguments: Namespace) -> Path | None:
    """The references of the problems, where the scorer sees them.

    Raises ValueError where it does, and they are not given.
    """
    if not isinstance(arguments.settings, SolutionScores):
        return None
    path: Path | None = arguments.references
    if path is None:
        raise ValueError("context: solution needs the references of problems; give --references")
    return path


def prompts_of(settings: LogitsSettings, scorer: Path) -> dict[str, str]:
    """The inputs that say how text in the prompts of the scorer in this folder was encoded."""
    if isinstance(settings, RewritingScores):
        # Trajectories in rewriting prompts were encoded with their control tokens once.
        return {"trajectories_in_prompts": "plain text"}
    if isinstance(settings, ConciseScores):
        return prompt_inputs(scorer, [settings.prompt])
    return {}


def command_line() -> ArgumentParser:
    """The command line of the stage."""
    contents = {
        "problems": "problems",
        "sample": "trajectories",
        "compress": "rewrites",
        "filter": "verdicts",
    }
    parser = command.parser(__doc__, "logits", LogitsSettings, ScoringResources, contents)
    parser.add_argument("--student", type=Path, required=True, help="manifest of the student")
    parser.add_argument("--teacher", type=Path, required=True, help="manifest of the scorer")
    parser.add_argument(
        "--references",
        type=Path,
        nargs="?",
        help="references of the training problems, with context: solution",
    )
    return parser


@for_each_shard
def outputs(arguments: Namespace) -> Outputs:
    """The cache of one shard."""
    settings: LogitsSettings = arguments.settings
    student, teacher = read_manifest(arguments.student), read_manifest(arguments.teacher)
    writer = {"token_map": student["token_map"], "teacher": teacher["digest"]}
    scoring = scoring_model(arguments)
    scorer = {**writer, "teacher": read_manifest(scoring)["digest"]}
    paths: dict[str, Any] = {
        "problems": (arguments.problems, schema.PROBLEMS),
        "sample": (arguments.sample, schema.SAMPLE, sampled_by(arguments.sample, student, teacher)),
        "compress": (
            arguments.compress,
            schema.COMPRESS,
            rewritten_by(arguments.compress, writer),
        ),
        "filter": (arguments.filter, schema.FILTER),
    }
    contents = contents_of(paths)
    prompts = prompts_of(settings, scoring.parent)
    references = references_of(arguments)
    if references is not None:
        prompts["references"] = table.content_digest(references, schema.REFERENCES)

    # Whether the current student sampled what is scored, and nobody rewrote it.
    sampler = table.check(arguments.sample, schema.SAMPLE)["identity"].get("student")
    rewriter = table.check(arguments.compress, schema.COMPRESS)["identity"].get("teacher")
    is_verbatim = sampler == student["digest"] and rewriter is None

    def compute(parts: Parts) -> None:
        frames = {name: table.read(*shard) for name, shard in paths.items()}
        if references is not None:
            frames["references"] = table.read(references, schema.REFERENCES)
        rows = kept_rows(*frames.values())
        if settings.cache == "realised" and is_verbatim:
            rows = with_sampled_logprobs(rows, frames["sample"])
        score_rows(arguments, scoring, rows, parts)

    yield TableOutput(
        schema.LOGITS,
        arguments.output,
        settings.meaning(),
        {
            **contents,
            **prompts,
            "student": student["digest"],
            "teacher": scorer["teacher"],
        },
        compute,
        identity={
            **contents,
            **scorer,
            "student": student["digest"],
            "cache": settings.cache,
        },
    )


def main(argv: list[str] | None = None) -> None:
    """Run the stage with the arguments of a command line."""
    command.publish(command_line(), outputs, argv)


if __name__ == "__main__":
    command.run(main, "logits")
