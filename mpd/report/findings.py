"""What the page of the report shows beside its tables, read from the files of the rounds.

A round's files by kind are those of costs.round_files; `places` give method, round and seed of a
folder.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl

from mpd.report import funnel, series
from mpd.store import table

Place = Mapping[str, Any]
Files = Mapping[str, Sequence[Path]]

# By stage the notes of its artifacts in the folder of a round.
SHARD = "shard_0.json"
STAGES = {"sample": SHARD, "compress": SHARD, "filter": SHARD, "logits": SHARD}
STAGES |= {"student": "provenance.json"}
PACKAGES = ("mpd", "torch", "transformers", "vllm", "accelerate", "polars", "snakemake")


def lengths(evaluations: Mapping[Path, Place]) -> pl.DataFrame:
    """Tokens of every answer: method, round, benchmark, num_tokens."""
    return pl.concat(
        table.read_columns(path, ["num_tokens"]).select(
            *(pl.lit(place[name]).alias(name) for name in ("method", "round", "benchmark")),
            pl.col("num_tokens"),
        )
        for path, place in evaluations.items()
    )


def training(trained: Mapping[Path, Files], places: Mapping[Path, Place]) -> pl.DataFrame:
    """The metrics of every training, with method, round and seed; empty where nothing trained."""
    columns = ["step", "tokens_seen", *series.CURVES]
    frames = [
        table.read_columns(path, columns).with_columns(
            pl.lit(places[folder][name]).alias(name) for name in ("method", "round", "seed")
        )
        for folder, files in trained.items()
        for path in files["metrics"]
    ]
    return pl.concat(frames) if frames else pl.DataFrame()


def funnels(
    trained: Mapping[Path, Files], places: Mapping[Path, Place]
) -> dict[tuple[str, int], dict[str, Any]]:
    """The funnel of each method and round, over all its seeds and shards."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for folder, files in trained.items():
        samples, verdicts = (
            pl.concat(table.read_columns(path, columns) for path in files[kind])
            for kind, columns in (
                ("sample", funnel.SAMPLE_COLUMNS),
                ("filter", funnel.FILTER_COLUMNS),
            )
        )
        student = places[folder]["method"], places[folder]["round"]
        found.setdefault(student, []).append(funnel.funnel_of(samples, verdicts))
    return {student: funnel.summed(rows) for student, rows in found.items()}


def stage_seconds(
    seconds: Mapping[Path, Mapping[str, float]], places: Mapping[Path, Place]
) -> dict[tuple[str, int], dict[str, float]]:
    """Wall seconds of each method and round by stage, over all its seeds.

    `seconds`: by the folder of a round those of its stages, see `costs`.
    """
    found: dict[tuple[str, int], dict[str, float]] = {}
    for folder, stages in seconds.items():
        student = found.setdefault((places[folder]["method"], places[folder]["round"]), {})
        for stage, own in stages.items():
            student[stage] = student.get(stage, 0.0) + own
    return found


def settings_of_stages(
    places: Mapping[Path, Place], benchmarks: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """By stage the settings, as JSON, with the students that have them: "mpd, round 1, seed 0".

    From the note beside each artifact; the first shard stands for all. Others than `benchmarks` may
    be left from an earlier configuration.
    """
    found: dict[str, dict[str, list[str]]] = {}
    notes = {stage: f"{stage}/{note}" for stage, note in STAGES.items()}
    notes |= {
        f"{stage} {name}": f"{stage}/{name}.json"
        for stage in ("answers", "evaluate")
        for name in benchmarks
    }
    for folder, place in places.items():
        name = "{method}, round {round}, seed {seed}".format(**place)
        for stage, note in notes.items():
            if (folder / note).is_file():
                settings = json.loads((folder / note).read_text(encoding="utf-8"))["settings"]
                shown = json.dumps(settings, indent=1, sort_keys=True, ensure_ascii=False)
                found.setdefault(stage, {}).setdefault(shown, []).append(name)
    return {stage: found[stage] for stage in notes if stage in found}


def model_manifests(models: Path, seeds: Iterable[int]) -> dict[str, dict[str, str]]:
    """By role the digests of the models that the experiment starts from, with these seeds."""
    roles = [*(f"student_seed_{seed}" for seed in sorted(set(seeds))), "teacher"]
    return {
        role: json.loads((models / role / "manifest.json").read_text(encoding="utf-8"))
        for role in roles
        if (models / role / "manifest.json").is_file()
    }


def versions() -> dict[str, str]:
    """Of the packages that results depend on, those that are installed."""
    return {name: found for name in PACKAGES if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
