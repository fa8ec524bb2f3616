"""Which settings differ between experiments, from the notes of their artifacts."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mpd.compare.experiments import Reported, methods_of
from mpd.job.layout import Round
from mpd.report.origin import settings_of_stages
from mpd.store import schema, table
from mpd.store.differences import flat
from mpd.store.digests import digest_of
from mpd.store.signs import harmless, one_line

SHOWN = 12  # digits of a digest

Values = dict[tuple[str, str], set[str]]  # of the settings of stages, as JSON


def shared_rounds(experiments: Sequence[Reported]) -> list[list[Round]]:
    """The rounds of each experiment that all have, by name; all rounds where there are none."""
    names = set.intersection(*({round.name for round in each.rounds} for each in experiments))
    trained = {name for name in names if not name.endswith("/round_0")}
    return [
        [round for round in each.rounds if not trained or round.name in names]
        for each in experiments
    ]


def values_of(rounds: Iterable[Round], benchmarks: Sequence[str]) -> Values:
    """The values of each setting in the notes of these rounds."""
    values: Values = {}
    for stage, groups in settings_of_stages(rounds, benchmarks).items():
        for text in groups:
            for key, value in flat(json.loads(text)).items():
                values.setdefault((stage, key), set()).add(json.dumps(value, ensure_ascii=False))
    return values


def differing_settings(
    experiments: Sequence[Reported], benchmarks: Sequence[str]
) -> list[dict[str, Any]]:
    """The settings that are not the same in all experiments: stage, setting, and `values`.

    `values` has a text for each experiment; empty where it has no such setting.
    """
    all_values = [values_of(rounds, benchmarks) for rounds in shared_rounds(experiments)]
    keys = dict.fromkeys(key for values in all_values for key in values)
    return [
        {
            "stage": stage,
            "setting": key,
            "values": [
                harmless(" or ".join(sorted(values.get((stage, key), ())))) for values in all_values
            ],
        }
        for stage, key in keys
        if any(values.get((stage, key)) != all_values[0].get((stage, key)) for values in all_values)
    ]


def origins_of(experiment: Reported) -> dict[str, str]:
    """Where the students of an experiment come from, as texts; digests are shortened."""
    models, place = experiment.models, experiment.experiment
    digests = {role: manifest["digest"][:SHOWN] for role, manifest in models.items()}
    shards = place.train_shards(place.num_train_shards())
    contents = [table.content_digest(path, schema.PROBLEMS) for path in shards]
    return {
        "folder": one_line(str(place.folder)),
        "methods": ", ".join(map(harmless, methods_of(experiment))),
        "seeds": ", ".join(map(str, experiment.seeds)),
        "base students": ", ".join(
            digest for role, digest in digests.items() if role.startswith("student")
        ),
        "teacher": digests.get("teacher", ""),
        "training problems": digest_of(contents)[:SHOWN] if contents else "",
    }
