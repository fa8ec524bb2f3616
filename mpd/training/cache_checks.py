"""What distill refuses: too few rows, and files that do not belong together or to the objective."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from mpd.config.checks import loss_conflict
from mpd.config.distill import DistillSettings, RelaxedSettings
from mpd.store import schema, table
from mpd.store.files import recompute_advice
from mpd.store.lineage import require_made_from
from mpd.store.seal import sealed_metadata
from mpd.text.completions import ids_digest

# What to change where most rows were dropped for a reason.
ADVICE = {
    "wrong_answer": "train on easier problems, take a stronger teacher, or more samples",
    "answer_none": "check chat.close and the prompts: completions lack a marked final answer",
    "sample_truncated": "raise sample.max_new_tokens",
    "rewrite_truncated": "raise compress.max_new_tokens",
    "format": "check compress.prompt: rewrites lack an answer line",
    "ratio_too_high": "rewrites are not shorter: check compress.prompt, or raise filter.max_ratio",
}

# Methods that keep all rows drop none for these reasons.
ANSWER_REASONS = ("wrong_answer", "answer_none", "answer_unparsed", "answer_timeout")


def require_rows(verdicts: pl.DataFrame, num_kept: int, min_kept: int) -> None:
    """Raise ValueError, with the reasons and what to change, where too few rows were kept."""
    if num_kept >= min_kept:
        return
    dropped = verdicts.filter(~pl.col("keep"))["reason"].value_counts()
    counts = dropped.sort("count", "reason", descending=[True, False]).rows()
    others = ", ".join(f"{count} {reason}" for reason, count in counts) or "none"
    raise ValueError(
        f"{num_kept} of {len(verdicts)} candidates survived the filter, and distill.min_kept is "
        f"{min_kept}; the others: {others}. Nothing was trained: {_advice_on(counts)}"
    )


def _advice_on(counts: list[tuple[Any, ...]]) -> str:
    """What to change, from the reasons of the dropped rows, the most frequent first."""
    if not counts:
        return "give more problems, draw more samples, or lower distill.min_kept"
    advice = ADVICE.get(counts[0][0], "read the column reason of the filter files")
    num_unverified = sum(count for reason, count in counts if reason in ANSWER_REASONS)
    if 2 * num_unverified > sum(count for _, count in counts):
        advice += "; or train regardless of correctness, by a custom row with axes: {kept: all}"
    return advice


def require_ids(path: Path) -> None:
    """Raise ValueError where the ids of a cached row are not those that were scored."""
    columns = "sample_id", "prompt_ids", "completion_ids", "ids_digest"
    for sample_id, prompt, completion, expected in table.iterate(path, columns):
        if ids_digest(prompt, completion) != expected:
            raise ValueError(
                f"{path}: the ids of row {sample_id} are not those that the teacher scored; "
                f"{recompute_advice(path)}"
            )


def require_one(key: str, identities: Mapping[Path, table.Identity]) -> str:
    """What all cache shards have under a key of their identity.

    Raises ValueError with a shard that has something else than the first one.
    """
    first, *others = identities
    expected = identities[first][key]
    for path in others:
        found = identities[path][key]
        if found != expected:
            raise ValueError(
                f"{path}: expected the {key} {expected[:12]} of {first}, found {found[:12]}: one "
                f"of them is of another branch or run; run again with --forcerun {first} {path}"
            )
    return expected


def require_objective(settings: DistillSettings, cache: str) -> None:
    """Raise ValueError where a cache of this kind cannot give the loss of the settings."""
    sentence = loss_conflict(
        settings.divergence, settings.temperature, settings.tail, cache, settings.merge_stop_ids
    )
    if sentence:
        raise ValueError(sentence)


def require_old_logprobs(settings: DistillSettings, path: Path) -> None:
    """Raise ValueError where an importance ratio lacks the student's log-probabilities of a row."""
    if not isinstance(settings, RelaxedSettings) or not settings.relaxed.importance_ratio:
        return
    rows = table.read_columns(path, ["sample_id", "student_logprob"])
    for sample_id in rows.filter(pl.col("student_logprob").is_null())["sample_id"][:1]:
        raise ValueError(
            f"{path}: row {sample_id} has no log-probabilities of the student that sampled it; set "
            "distill.relaxed.importance_ratio: false, or logits.engine: transformers"
        )


def require_verdicts(caches: list[Path], verdicts: list[Path]) -> None:
    """Raise ValueError unless each cache shard was made from its shard of verdicts."""
    if len(caches) != len(verdicts):
        raise ValueError(
            f"--logits names {len(caches)} shards and --filter {len(verdicts)}; give all of a round"
        )
    for cache, path in zip(caches, verdicts, strict=True):
        content = table.content_digest(path, schema.FILTER)
        require_made_from(cache, schema.LOGITS, {"filter": (path, content)})


def require_head(paths: list[Path], teacher: str, cache: str) -> None:
    """Raise ValueError where an output head is missing, damaged, or not of the cache's teacher."""
    if cache == "hidden" and not paths:
        raise ValueError("the cache holds hidden states; give the teacher's output head by --head")
    for path in paths:
        found = sealed_metadata(path).get("teacher", "of no name")
        if found != teacher:
            raise ValueError(
                f"{path}: expected the output head of teacher {teacher[:12]}, which the cache is "
                f"of, found that of teacher {found[:12]}; {recompute_advice(path)}"
            )


def require_kept_rows(verdicts: pl.DataFrame, rows: pl.DataFrame) -> None:
    """Raise ValueError unless the cached rows are exactly the candidates that filter keeps."""
    key = list(schema.FILTER.key)
    kept, cached = verdicts.filter("keep").select(key), rows.select(key)
    if not kept.sort(key).equals(cached.sort(key)):
        missing = len(kept.join(cached, on=key, how="anti"))
        raise ValueError(
            f"the cache has {len(cached)} rows, but filter keeps {len(kept)} candidates, "
            f"{missing} of which are not cached; they are not of one run: run logits again"
        )
