"""Where a report came from: the settings of the stages, the models and the versions of packages."""

import json
from collections.abc import Iterable, Sequence, Set
from importlib import metadata
from pathlib import Path
from typing import Any

from mpd.job.layout import BENCHMARK_STAGES, Experiment, Round
from mpd.report.rounds import SHARDED, bank_files
from mpd.store.differences import note_beside
from mpd.store.files import CHECKSUM
from mpd.store.manifest import parse_manifest

PACKAGES = ("mpd", "torch", "transformers", "vllm", "accelerate", "polars", "snakemake")


def settings_of_stages(
    rounds: Iterable[Round], benchmarks: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """By stage the settings, as JSON, with the students that have them: "mpd, round 1, seed 0".

    They are read from the note of each artifact; the first shard stands for all. Files of other
    benchmarks may be left from an earlier configuration, and are not read.
    """
    stages: dict[str, dict[str, list[str]]] = {}
    for round in rounds:
        name = f"{round.method}, round {round.number}, seed {round.seed}"
        for stage, output in _outputs(round, benchmarks).items():
            groups = stages.setdefault(stage, {})
            note = note_beside(output)
            if note:
                settings = note["settings"]
                text = json.dumps(settings, indent=1, sort_keys=True, ensure_ascii=False)
                groups.setdefault(text, []).append(name)
    return {stage: groups for stage, groups in stages.items() if groups}


def _outputs(round: Round, benchmarks: Sequence[str]) -> dict[str, Path]:
    """An output of each stage in a round, in the order of the stages."""
    bank = bank_files(round) if round.number else []
    return {
        **{stage: round.shards(stage, 1)[0] for stage in SHARDED},
        **({"bank": bank[0]} if bank else {}),
        "distill": round.metrics.parent,
        **{
            f"{stage} {name}": round.benchmark(stage, name)
            for stage in BENCHMARK_STAGES
            for name in benchmarks
        },
    }


def model_manifests(experiment: Experiment, seeds: Set[int]) -> dict[str, dict[str, Any]]:
    """By role the manifests of the models that the experiment starts from, with these seeds.

    Models that are not there are left out, as are the digests of single files, which `digest`
    covers. Raises ValueError where a manifest is damaged.
    """
    paths = {f"student_seed_{seed}": experiment.base_student(seed) for seed in sorted(seeds)}
    paths |= {"teacher": experiment.teacher, "embedder": experiment.embedder}
    manifests = {role: parse_manifest(path) for role, path in paths.items() if path.is_file()}
    return {
        role: {key: manifest[key] for key in manifest if key not in ("digests", CHECKSUM)}
        for role, manifest in manifests.items()
    }


def versions() -> dict[str, str]:
    """The installed versions of the packages that results depend on."""
    return {name: version for name in PACKAGES if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
