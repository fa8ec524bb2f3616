"""The tasks of the package reasoning-gym: datasets that make problems, and score answers to them.

A task at a level of its curriculum, with settings, is a dataset. An entry is what the package makes
of a problem: question, answer and metadata. It is stored as JSON, in which tuples, and mappings
whose keys are no text, are marked.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from mpd.config.gym import PACKAGE, gym_version

SCORING_SIZE = 10  # problems of a dataset that only scores: it makes none of them
_TUPLE, _PAIRS = "(tuple)", "(pairs)"  # marks; no entry of the package has such a key


@dataclass(frozen=True)
class Generator:
    """A task at a level of its curriculum, with settings as JSON; without a level, its defaults."""

    task: str
    level: int | None
    settings: str

    def __str__(self) -> str:
        level = "" if self.level is None else f", level {self.level}"
        return f"task {self.task}{level}"

    @property
    def scorer(self) -> str:
        """The name of the scorer: package, version and task."""
        return f"{PACKAGE}=={gym_version()}:{self.task}"

    def dataset(self, seed: int, size: int) -> Any:
        """The dataset of the package.

        Raises ValueError where there is no such task, level or setting.
        """
        from reasoning_gym.factory import DATASETS

        if self.task not in DATASETS:
            raise ValueError(
                f"{PACKAGE} {gym_version()} has no task {self.task}; it has "
                f"{', '.join(sorted(DATASETS))}"
            )
        kind, config_kind = DATASETS[self.task]
        names = {field.name for field in fields(config_kind)} - {"seed", "size"}
        settings = json.loads(self.settings)
        unknown = sorted(settings.keys() - names)
        if unknown:
            raise ValueError(
                f"{self}: no setting {unknown[0]}; settings are {', '.join(sorted(names))}"
            )
        try:
            values = {**self._of_level(), **settings, "seed": seed, "size": size}
            return kind(config_kind(**values))  # which validates it
        except (AssertionError, TypeError) as error:
            raise ValueError(f"{self}: settings {self.settings}: {error}") from None

    def _of_level(self) -> dict[str, Any]:
        """The settings of the level; none without one."""
        from reasoning_gym.factory import CURRICULA

        if self.level is None:
            return {}
        if self.task not in CURRICULA:
            raise ValueError(f"task {self.task} has no curriculum; remove its levels")
        curriculum: Any = CURRICULA[self.task]
        curriculum = curriculum()
        highest = max((len(item.levels) for item in curriculum.attributes.values()), default=1) - 1
        if self.level > highest:
            raise ValueError(
                f"task {self.task} has levels 0 to {highest}, found {self.level}; lower it"
            )
        curriculum.set_global_level(self.level)
        config = curriculum.generate_configuration()
        return {field.name: getattr(config, field.name) for field in fields(config)}

    def stored(self, entry: Mapping[str, Any]) -> str:
        """What the scorer needs of a problem, as JSON: level and settings of its task, the entry.

        Raises TypeError where the entry has an object that is no JSON.
        """
        content = {"level": self.level, "settings": self.settings, "entry": _marked(entry)}
        return json.dumps(content, sort_keys=True, ensure_ascii=False)


def scored(scorer: str, stored: str, answer: str) -> float:
    """The task's score of an answer, from 0 to 1: only 1 is correct.

    `scorer` and `stored` are those of a `Generator`. May raise whatever the scorer raises, or never
    end: call it in a process that can be killed.
    """
    content = json.loads(stored)
    dataset = _scoring_dataset(Generator(task_of(scorer), content["level"], content["settings"]))
    return float(dataset.score_answer(answer, _unmarked(content["entry"])))


@lru_cache(maxsize=64)
def _scoring_dataset(generator: Generator) -> Any:
    return generator.dataset(seed=0, size=SCORING_SIZE)


def task_of(scorer: str) -> str:
    """The task that a scorer belongs to."""
    return scorer.partition(":")[2]


def version_of(scorer: str) -> str:
    """The version of the package that a scorer belongs to."""
    return scorer.partition(":")[0].removeprefix(f"{PACKAGE}==")


def _marked(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, tuple):
        return {_TUPLE: [_marked(item) for item in value]}
    if isinstance(value, list):
        return [_marked(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if all(isinstance(key, str) for key in value):
        return {key: _marked(item) for key, item in value.items()}
    return {_PAIRS: [[_marked(key), _marked(item)] for key, item in value.items()]}


def _unmarked(value: Any) -> Any:
    """The value that `_marked` was given."""
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TUPLE}:
        return tuple(_unmarked(value[_TUPLE]))
    if value.keys() == {_PAIRS}:
        return {_unmarked(key): _unmarked(item) for key, item in value[_PAIRS]}
    return {key: _unmarked(item) for key, item in value.items()}
