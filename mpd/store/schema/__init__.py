"""Columns, dtypes, units and VERSION of every artifact. No I/O, no heavy import.

A stage writes the keys and its own columns; readers join strictly on the keys:
`problem_id` (digest of the normalised question), `sample_id`, `candidate`.
Raise an artifact's `version` whenever the same inputs and settings give other rows: the version is
part of its fingerprint, so the store then computes it again. A folder has the versions of all its
tables, see `problems_version` and `student_version`.
"""

from mpd.store.schema.bank import BANK, ROUTES
from mpd.store.schema.cache import LOGITS
from mpd.store.schema.column import Artifact, Column, Version
from mpd.store.schema.costs import COSTS, SPEED
from mpd.store.schema.report import BUDGETS, COMPARISON, DIFFICULTY, SUMMARY
from mpd.store.schema.students import ANSWERS, EVALUATE, METRICS
from mpd.store.schema.trajectories import (
    ASKED,
    COMPRESS,
    CURRICULUM_PROBLEMS,
    DROPPED,
    FILTER,
    PROBLEMS,
    REFERENCES,
    SAMPLE,
    SCORED_PROBLEMS,
)

# What is not a table of ours (weights, a student, the report) has a version too.
MODELS_VERSION = 3
HEAD_VERSION = 1
REPORT_VERSION = 17
STUDENT_VERSION = 3


def problems_of(has_scorer: bool, has_rounds: bool = False) -> Artifact:
    """The artifact that problems of a source are, by whether they have scorers of their own.

    Those of a curriculum have rounds, too.
    """
    if has_rounds:
        return CURRICULUM_PROBLEMS
    return SCORED_PROBLEMS if has_scorer else PROBLEMS


def problems_version(
    has_scorer: bool = False,
    has_references: bool = False,
    has_rounds: bool = False,
    dev_has_scorer: bool | None = None,
) -> Version:
    """The version of the folder of training problems, which has the table `dropped` too.

    It may also have the table `references`. The development split is of the artifact of the shards,
    unless it has a source of its own, or they have rounds.
    """
    versions = [problems_of(has_scorer, has_rounds).version, DROPPED.version]
    if has_rounds or dev_has_scorer is not None:
        of_dev = has_scorer if dev_has_scorer is None else dev_has_scorer
        versions.append(problems_of(of_dev).version)
    return [*versions, REFERENCES.version] if has_references else versions


def student_version() -> Version:
    """The version of a student's folder, which has `metrics` too.

    As long as `metrics` has version 2, it is the number of the student alone: folders that were
    computed before both counted stay valid.
    """
    return STUDENT_VERSION if METRICS.version == 2 else [STUDENT_VERSION, METRICS.version]


ARTIFACTS = (
    *(
        PROBLEMS,
        SCORED_PROBLEMS,
        CURRICULUM_PROBLEMS,
        DROPPED,
        REFERENCES,
        SAMPLE,
        BANK,
        ROUTES,
        COMPRESS,
        FILTER,
        LOGITS,
        METRICS,
        ANSWERS,
        EVALUATE,
    ),
    *(SUMMARY, COMPARISON, BUDGETS, DIFFICULTY, COSTS, SPEED),
)

__all__ = [
    "ANSWERS",
    "ARTIFACTS",
    "ASKED",
    "BANK",
    "BUDGETS",
    "COMPARISON",
    "COMPRESS",
    "COSTS",
    "CURRICULUM_PROBLEMS",
    "DIFFICULTY",
    "DROPPED",
    "EVALUATE",
    "FILTER",
    "HEAD_VERSION",
    "LOGITS",
    "METRICS",
    "MODELS_VERSION",
    "PROBLEMS",
    "REFERENCES",
    "REPORT_VERSION",
    "ROUTES",
    "SAMPLE",
    "SCORED_PROBLEMS",
    "SPEED",
    "STUDENT_VERSION",
    "SUMMARY",
    "Artifact",
    "Column",
    "Version",
    "problems_of",
    "problems_version",
    "student_version",
]
