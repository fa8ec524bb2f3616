"""Where everything lies below results/. Stages and rules ask here, and nowhere else.

results/{experiment}/models/{role}/manifest.json        role: teacher, student_seed_{seed},
                                                        embedder
results/{experiment}/problems/train/shard_{shard}.parquet, dev.parquet
results/{experiment}/problems/eval/{benchmark}.parquet
results/{experiment}/{method}/seed_{seed}/round_{round}/
    {sample,compress,filter,logits}/shard_{shard}.parquet
    bank/bank.parquet, routes.parquet                   where there is a bank of paths, from round 2
    student/manifest.json, metrics.parquet
    {answers,evaluate}/{benchmark}.parquet
results/{experiment}/report.html
results/store
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from mpd.config.base import DEV
from mpd.store.manifest import MANIFEST

RESULTS = Path("results")
STORE = RESULTS / "store"
BENCHMARK_STAGES = ("answers", "evaluate")  # those that write a file for each benchmark

_ROUND = re.compile(r"(?:(.*)/)?([^/]+)/seed_(\d+)/round_(\d+)")
_SHARD = re.compile(r"shard_(\d+)\.\w+")


@dataclass(frozen=True)
class Experiment:
    """The results of one experiment, in `folder`."""

    folder: Path

    @property
    def report(self) -> Path:
        """The page that compares the students."""
        return self.folder / "report.html"

    @property
    def train(self) -> Path:
        """The folder of the training problems."""
        return self.folder / "problems" / "train"

    def train_shards(self, num_shards: int) -> list[Path]:
        """The shards of the training problems."""
        return shards_in(self.train, num_shards)

    def num_train_shards(self) -> int:
        """The number of shards of the training problems that there are."""
        return len([*self.train.glob("shard_*.parquet")])

    def problems(self, benchmark: str) -> Path:
        """The problems of a benchmark, or of the development split."""
        folder = self.train if benchmark == DEV else self.folder / "problems" / "eval"
        return table_in(folder, benchmark)

    def model(self, role: str) -> Path:
        """The manifest of a model that the experiment starts from, or of the teacher."""
        return self.folder / "models" / role / MANIFEST

    @property
    def teacher(self) -> Path:
        """The manifest of the teacher."""
        return self.model("teacher")

    def base_student(self, seed: int) -> Path:
        """The manifest of the student that the branches of a seed start from."""
        return self.model(f"student_seed_{seed}")

    @property
    def embedder(self) -> Path:
        """The manifest of the model that embeds texts, for a bank of paths."""
        return self.model("embedder")

    @property
    def head(self) -> Path:
        """The teacher's output head, for a cache of hidden states."""
        return self.folder / "models" / "head" / "head.safetensors"

    def base_head(self, seed: int) -> Path:
        """The output head of the base student of a seed, where that scores."""
        return self.folder / "models" / f"head_seed_{seed}" / "head.safetensors"

    def round(self, method: str, seed: int, number: int) -> "Round":
        """A round of the branch of a method and a seed."""
        return Round(self, method, seed, number)

    def rounds(
        self, methods: Iterable[str], seeds: Iterable[int], numbers: Iterable[int]
    ) -> list["Round"]:
        """The rounds with these numbers of every method and seed, method by method."""
        return [Round(self, *place) for place in product(methods, seeds, numbers)]

    def rounds_there(self) -> list["Round"]:
        """The rounds that have a folder; a copy, such as round_1.bak, is none."""
        folders = sorted(self.folder.glob("*/seed_*/round_*"))
        return [Round.at(path) for path in folders if path.is_dir() and _ROUND.fullmatch(str(path))]

    def shard_files(self) -> list[tuple[int, Path]]:
        """Every file of a shard in any round, with the number of the shard."""
        files = self.folder.glob("*/seed_*/round_*/*/shard_*")
        return [(int(name[1]), path) for path in files if (name := _SHARD.fullmatch(path.name))]


@dataclass(frozen=True)
class Round:
    """A round of a branch, which is a method with a seed. Nothing is trained in round 0."""

    experiment: Experiment
    method: str
    seed: int
    number: int

    @classmethod
    def at(cls, folder: Path) -> "Round":
        """The round whose folder this is. Raises ValueError where its path is not a round's."""
        place = _ROUND.fullmatch(folder.as_posix().rstrip("/"))
        if not place:
            raise ValueError(
                f"{folder}: not a round; give results/<experiment>/<method>/seed_<n>/round_<n>"
            )
        experiment, method, seed, number = place.groups()
        return cls(Experiment(Path(experiment or ".")), method, int(seed), int(number))

    @property
    def name(self) -> str:
        """Its path in the experiment, such as mpd/seed_0/round_1."""
        return f"{self.method}/seed_{self.seed}/round_{self.number}"

    @property
    def place(self) -> dict[str, str | int]:
        """Its method, round and seed, by the names of the columns that hold them in tables."""
        return {"method": self.method, "round": self.number, "seed": self.seed}

    @property
    def folder(self) -> Path:
        """The folder with the results of the round."""
        return self.experiment.folder / self.name

    @property
    def student(self) -> Path:
        """The manifest of the student at the end of the round; of round 0, the base student's."""
        if self.number == 0:
            return self.experiment.base_student(self.seed)
        return self.folder / "student" / MANIFEST

    @property
    def metrics(self) -> Path:
        """The training metrics."""
        return table_in(self.folder / "student", "metrics")

    @property
    def bank(self) -> Path:
        """The bank of paths of the rounds before, if the branch has one."""
        return table_in(self.folder / "bank", "bank")

    @property
    def routes(self) -> Path:
        """The routes of the training problems along the bank."""
        return table_in(self.folder / "bank", "routes")

    @property
    def before(self) -> "Round":
        """The round whose student samples in this one."""
        return Round(self.experiment, self.method, self.seed, self.number - 1)

    @property
    def base(self) -> "Round":
        """Round 0, whose student is the base student of the branch."""
        return Round(self.experiment, self.method, self.seed, 0)

    def shards(self, stage: str, num_shards: int) -> list[Path]:
        """The shards that a stage wrote in this round."""
        return shards_in(self.folder / stage, num_shards)

    def benchmark(self, stage: str, name: str) -> Path:
        """What answers or evaluate wrote for a benchmark."""
        return table_in(self.folder / stage, name)


def require_in_place(path: Path, identity: Mapping[str, str]) -> None:
    """Raise ValueError where a table of results/ is of another seed, shard or benchmark.

    `identity` is that of its footer. Shards of trajectories and answers name the seed that they
    were drawn with, where the teacher samples also the round, such as 0.2.
    """
    folder, expected = path.parent, {}
    place = _ROUND.fullmatch(folder.parent.as_posix())
    shard = _SHARD.fullmatch(path.name)
    if place:
        seed, number = place.group(3, 4)
        named = identity.get("seed", "")
        expected["seed"] = f"{seed}.{number}" if "." in named else seed
    elif folder.parent.name == "problems":
        expected = {"shard": shard[1]} if shard else {"benchmark": path.stem}
    for name, value in expected.items():
        if identity.get(name, value) != value:
            raise ValueError(
                f"{path}: {name} {value} is expected there, but it holds that of {name} "
                f"{identity[name]}; run again with --forcerun {path}"
            )


def place_in_experiment(output: Path) -> str:
    """An output in its experiment, such as mpd/seed_0/round_1/shard_0; empty outside results/."""
    parts = output.with_suffix("").parts
    return "/".join(parts[2:]) if parts[:1] == RESULTS.parts else ""


def shards_in(folder: Path, num_shards: int) -> list[Path]:
    """The shards that a stage writes into a folder."""
    return [table_in(folder, f"shard_{number}") for number in range(num_shards)]


def table_in(folder: Path, name: str) -> Path:
    """The table of a benchmark, or another one with a name, that a stage writes into a folder."""
    return folder / f"{name}.parquet"


def tracking_beside(student: Path) -> Path:
    """The folder for what a tracker keeps of the training of a student, given by its manifest."""
    return student.parent.parent / "tracking"
