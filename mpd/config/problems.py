"""The section problems: where they come from, and how they are divided."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mpd.config.base import (
    COMMIT,
    DEV,
    AlsoFromKey,
    Count,
    Name,
    Seed,
    StrictModel,
    World,
)
from mpd.config.curriculum import Curriculum, Part, num_steps, share_of_round, shares, weights_of
from mpd.config.gym import Level, Task, is_absent

# Left out where there is none, so that other sources have the settings that they had before.
ReferenceColumn = Annotated[str | None, Field(exclude_if=lambda column: column is None)]


class Source(StrictModel):
    """Where problems come from, and which columns hold them."""

    source: Literal["file", "hub", "tiny", "reasoning_gym"] = Field(
        "file",
        description="a file, a dataset of the hub, the embedded world, or tasks of the package "
        "reasoning-gym, which make problems without end",
    )
    world: World = "chains"
    path: Annotated[str | None, AlsoFromKey("problems.path", "for sources without a path")] = Field(
        None,
        description="file (JSONL, JSON, Parquet or CSV) or name of a hub dataset; null: "
        "problems.path",
    )
    config: str | None = Field(None, description="configuration of a hub dataset")
    split: str = Field("train", description="split, or a slice of one, such as train[:500]")
    revision: str | None = Field(
        None, pattern=COMMIT, description="full commit hash of a hub dataset"
    )
    question: str = Field("question", description="column with the question")
    answer: str = Field("answer", description="column with the answer")
    form: Literal["auto", "plain", "hash", "boxed"] = Field(
        "auto",
        description="where the gold answer is: plain, the whole cell; hash, after ####; boxed, in "
        "\\boxed{}; auto, whichever of these the cell has",
    )
    num_problems: Count | None = Field(
        None,
        description="with source: tiny or reasoning_gym, how many to make; of another benchmark "
        "or dev, the size of a random subset; null: all; for other training problems, use "
        "num_train",
    )
    task: str | None = Field(
        None,
        exclude_if=is_absent,
        description="with source: reasoning_gym, the only task, such as chain_sum",
    )
    levels: tuple[Level, ...] = Field(
        (),
        exclude_if=is_absent,
        description="levels of the curriculum of that task, from 0 (easy), in equal shares; empty: "
        "the task's defaults",
    )
    settings: dict[str, Any] = Field(
        {},
        exclude_if=is_absent,
        description="settings of that task; they replace those of the level",
    )
    tasks: tuple[Task, ...] = Field(
        (),
        exclude_if=is_absent,
        description="several tasks of reasoning-gym, in place of one; keys below",
    )

    @property
    def is_made(self) -> bool:
        """Whether the problems are made, not read: num_problems says how many."""
        return self.source in ("tiny", "reasoning_gym")

    @property
    def has_scorer(self) -> bool:
        """Whether answers are graded by a scorer of each problem, not by its gold answer."""
        return self.source == "reasoning_gym"

    @property
    def mix(self) -> tuple[Task, ...]:
        """The tasks of reasoning-gym, one or several."""
        if self.task is None:
            return self.tasks
        return (Task(task=self.task, levels=self.levels, settings=self.settings),)

    @property
    def weights(self) -> Mapping[Part, Fraction]:
        """The parts of the mix with their weights."""
        return weights_of(self.mix, None)

    @property
    def shares(self) -> dict[Part, int]:
        """How many problems each part of the mix makes."""
        assert self.num_problems is not None, "what is made has a number"
        return shares(self.weights, self.num_problems)

    @property
    def references(self) -> dict[str, str]:
        """The columns that a scorer may see, by their keys; a benchmark has none."""
        return {}

    @model_validator(mode="after")
    def _require_complete(self) -> "Source":
        if self.is_made and self.num_problems is None:
            raise ValueError(f"source: {self.source} needs num_problems")
        if self.source != "tiny" and self.world != "chains":
            raise ValueError(f"world is for source: tiny, not for {self.source}; remove it")
        if self.source == "hub" and self.revision is None:
            raise ValueError("source: hub needs revision, a commit hash")
        if self.source == "reasoning_gym" and (self.task is None) == (not self.tasks):
            raise ValueError("source: reasoning_gym needs either task or tasks")
        if self.source != "reasoning_gym" and (self.task is not None or self.tasks):
            raise ValueError(f"source: {self.source} has no tasks; set source: reasoning_gym")
        if self.task is None and (self.levels or self.settings):
            raise ValueError("levels and settings belong to task; give each of tasks its own")
        return self


class TrainSource(Source):
    """Where the training problems come from, in which rounds, and what a scorer may see of them."""

    curriculum: Curriculum = None
    original: ReferenceColumn = Field(
        None,
        description="column with a translated question's original, for methods whose scorer sees "
        "a solution",
    )
    solution: ReferenceColumn = Field(
        None,
        description="column with a reference solution, for methods whose scorer sees one",
    )

    @property
    def references(self) -> dict[str, str]:
        """The columns that a scorer may see, by their keys."""
        columns = {"original": self.original, "solution": self.solution}
        return {key: column for key, column in columns.items() if column is not None}

    @property
    def weights(self) -> Mapping[Part, Fraction]:
        """The parts of the mix with their weights, each with its rounds."""
        return weights_of(self.mix, self.curriculum)

    @property
    def num_steps(self) -> int:
        """The rounds of the curriculum until nothing changes any more; 1 without one."""
        return num_steps(self.weights)

    def share_of(self, number: int) -> float:
        """The share of the problems that take part in a round."""
        return share_of_round(self.weights, number) if self.curriculum else 1.0

    @model_validator(mode="after")
    def _require_rounds(self) -> "TrainSource":
        if self.curriculum is None:
            return self
        if self.num_steps == 1:
            raise ValueError(
                "curriculum needs a task of source: reasoning_gym with several levels; give them, "
                "or remove curriculum"
            )
        made = self.shares
        for number in range(1, self.num_steps + 1):
            if not any(part.has_round(number) for part in made):
                raise ValueError(
                    f"num_problems: {self.num_problems} leaves round {number} of the curriculum "
                    "without a problem; raise it, or take fewer levels"
                )
        return self

    @model_validator(mode="after")
    def _require_solution(self) -> "TrainSource":
        if self.original is not None and self.solution is None:
            raise ValueError("original is for methods whose scorer sees a solution; set solution")
        if self.has_scorer and self.solution is not None:
            raise ValueError(f"source: {self.source} has no reference solutions; remove solution")
        return self


class Benchmark(Source):
    """A held-out problem set. Decoding keys given here replace those of `evaluate`."""

    name: Name = Field(description="name of its files, and in the report")
    num_samples: Count | None = Field(None, description="samples per problem; null: as in evaluate")
    temperature: float | None = Field(
        None, ge=0, description="sampling temperature; 0: greedy; null: as in evaluate"
    )
    top_p: float | None = Field(
        None, gt=0, le=1, description="probability mass to sample from; null: as in evaluate"
    )
    top_k: int | None = Field(
        None,
        ge=0,
        description="number of most probable ids to sample from; 0: off; null: as in evaluate",
    )
    max_new_tokens: Count | None = Field(
        None, description="longest completion, in tokens; null: as in evaluate"
    )


OnBadRow = Annotated[
    Literal["refuse", "drop"],
    Field(
        description="rows that cannot be read, such as one without an answer: refuse, and name "
        "them; drop them, into dropped.parquet with the reason"
    ),
]


class ProblemSplit(StrictModel):
    """How the training problems are chosen and divided."""

    num_train: Count | None = Field(
        None, description="number of training problems; null: all that are left"
    )
    num_dev: Count | None = Field(
        description="number of training problems that are set aside as the development split; "
        "null: it has a source of its own, dev"
    )
    num_shards: Count = Field(
        1, description="parts of the training problems; each has jobs of its own"
    )
    seed: Seed = Field(0, description="seed of random subsets and of the split")
    on_bad_row: OnBadRow = "refuse"


class Problems(ProblemSplit):
    """The section: the training problems, the development split and the benchmarks."""

    path: str | None = Field(
        None, description="file or hub dataset of the sources that name no path"
    )
    train: TrainSource = Field(description="where training problems come from; keys below")
    dev: Source | None = Field(
        None,
        description="where the development split comes from, if it is not cut from the training "
        "problems; keys below",
    )
    benchmarks: tuple[Benchmark, ...] = Field((), description="held-out problem sets; keys below")

    @model_validator(mode="after")
    def _require_consistent(self) -> "Problems":
        names = self.benchmark_names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"benchmark {twice[0]} is given twice; give it another name")
        if DEV in names:
            raise ValueError(
                f"benchmark {DEV}: this name is reserved for the development split; choose another"
            )
        if self.dev is None and self.num_dev is None:
            raise ValueError("num_dev is null, and dev has no source; set one of the two")
        if self.dev is not None and self.num_dev is not None:
            raise ValueError(
                "num_dev sets training problems aside, but dev has a source of its own; set "
                "num_dev: null, and num_problems in dev"
            )
        named = [("train", self.train), *zip(names, self.benchmarks, strict=True)]
        for place, source in named if self.dev is None else [*named, (DEV, self.dev)]:
            if not source.is_made and not (source.path or self.path):
                raise ValueError(f"{place} has no path; set its path, or problems.path for all")
        if not self.train.is_made and self.train.num_problems is not None:
            raise ValueError(
                "train.num_problems is for source: tiny and reasoning_gym; set it to null and use "
                "num_train"
            )
        return self

    @property
    def benchmark_names(self) -> list[str]:
        """The names of the benchmarks, in their order."""
        return [benchmark.name for benchmark in self.benchmarks]

    @property
    def train_source(self) -> TrainSource:
        """The source of the training problems, its path filled in."""
        return TrainSource(
            **dict(self._with_path(self.train)),
            curriculum=self.train.curriculum,
            original=self.train.original,
            solution=self.train.solution,
        )

    @property
    def dev_source(self) -> Source | None:
        """The source of the development split, its path filled in, if it has one of its own."""
        return None if self.dev is None else self._with_path(self.dev)

    def benchmark_source(self, name: str) -> Source:
        """The source of a benchmark, its path filled in."""
        (benchmark,) = (benchmark for benchmark in self.benchmarks if benchmark.name == name)
        return self._with_path(benchmark)

    def sources(self) -> list[Source]:
        """The sources of training problems, development split and benchmarks, paths filled in."""
        held_out = [*self.benchmarks] if self.dev is None else [self.dev, *self.benchmarks]
        return [self.train_source, *map(self._with_path, held_out)]

    def _with_path(self, source: Source) -> Source:
        keys = {name: getattr(source, name) for name in Source.model_fields}
        if not source.is_made:
            keys["path"] = source.path or self.path
        return Source(**keys)
