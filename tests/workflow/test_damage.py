"""The tables of a run, damaged or swapped, under the stages that read them.

Each cell is refused with the file named and the command that mends it, or gives the same bytes.
"""

import importlib
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mpd.store.notes import receipt_beside
from tests import damage
from tests.workflow.project import Project

EXPERIMENT = Path("results/small")
BRANCH = EXPERIMENT / "mpd/seed_0"
OTHER = {"experiment": "other", "seeds": [1], "rounds": 1}
PROBLEMS = {"num_shards": 2, "seed": 1}

# One job of each stage, by what its log is called.
JOBS = {
    "problems": "problems/train",
    "sample": "mpd/seed_0/round_2/sample/shard_0",
    "compress": "mpd/seed_0/round_2/compress/shard_0",
    "filter": "mpd/seed_0/round_2/filter/shard_0",
    "logits": "mpd/seed_0/round_2/logits/shard_0",
    "distill": "mpd/seed_0/round_2/distill",
    "answers": "mpd/seed_0/round_2/answers",
    "evaluate": "mpd/seed_0/round_2/evaluate",
    "report": "report",
}
ROUND = BRANCH / "round_2"
SHARDS = {
    "problems": EXPERIMENT / "problems/train/shard_0.parquet",
    **{
        stage: ROUND / stage / "shard_0.parquet"
        for stage in ("sample", "compress", "filter", "logits")
    },
    "benchmark": EXPERIMENT / "problems/eval/sampled.parquet",
    "dev": EXPERIMENT / "problems/train/dev.parquet",
    "answers": ROUND / "answers/sampled.parquet",
    "evaluate": ROUND / "evaluate/sampled.parquet",
    "metrics": ROUND / "student/metrics.parquet",
}
# What each stage reads.
READ = {
    "problems": ["benchmark"],
    "sample": ["problems"],
    "compress": ["problems", "sample"],
    "filter": ["problems", "sample", "compress"],
    "logits": ["problems", "sample", "compress", "filter"],
    "distill": ["filter", "logits"],
    "answers": ["benchmark", "dev"],
    "evaluate": ["benchmark", "dev", "answers"],
    "report": [
        *("problems", "sample", "compress", "filter", "logits"),
        *("metrics", "evaluate", "answers", "benchmark"),
    ],
}
# Of these the report reads the footer alone.
FOOTER_ALONE = [("report", kind) for kind in ("answers", "benchmark")]
CELLS = [(stage, kind) for stage, kinds in READ.items() for kind in kinds]
IDS = [f"{kind} under {stage}" for stage, kind in CELLS]
# What is written beside the output, or only noted, or holds times.
TIMED = ("costs", "speed", "report", "provenance", "manifest")


@pytest.fixture(scope="module")
def project(finished_project: Project) -> Project:
    """Two rounds of two shards, and another experiment beside them."""
    project = finished_project
    project.run(rounds=2, problems={"num_shards": 2})
    project.run(**OTHER, problems=PROBLEMS)
    return project


@pytest.fixture(scope="module")
def commands(project: Project) -> dict[str, list[str]]:
    """The words of the command line of each job of JOBS, after `python -m mpd.<stage>`."""
    printed = project.run(
        "--dry-run", "--forceall", "--printshellcmds", rounds=2, problems={"num_shards": 2}
    )
    found = {}
    pattern = r"^Shell command: python -m (mpd\..*) 2>&1 \| tee -i .*$"
    for line in re.findall(pattern, printed, re.MULTILINE):
        module, *words = shlex.split(line)
        for stage, place in JOBS.items():
            if module == f"mpd.{stage}" and place_of(words[words.index("--output") + 1]) == place:
                found[stage] = words
    assert set(found) == set(JOBS)
    return found


def place_of(output: str) -> str:
    """An output as in JOBS."""
    return str(Path(output).relative_to(EXPERIMENT).with_suffix("")).replace(
        "student/manifest", "distill"
    )


@pytest.fixture
def run(
    project: Project,
    commands: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[str, Path], str]:
    """A function that runs the job of a stage with an empty store.

    It returns the sentence that the job ends in, or an empty one, after it has compared the output
    with that of the undisturbed run.
    """
    monkeypatch.chdir(project.folder)

    def run(stage: str) -> str:
        words = list(commands[stage])
        made = Path(words[words.index("--output") + 1])
        output = tmp_path / "output" / made.name
        words[words.index("--output") + 1] = str(output)
        words += ["--store", str(tmp_path / "store")]
        try:
            module = "mpd.report.__main__" if stage == "report" else f"mpd.{stage}"
            importlib.import_module(module).main(words)
        except ValueError as error:
            return str(error)
        finally:
            forget(tmp_path)
        require_equal(made, output)
        return ""

    def forget(folder: Path) -> None:
        shutil.rmtree(folder / "store", ignore_errors=True)

    return run


def require_equal(made: Path, output: Path) -> None:
    """Assert that an output has the bytes of the undisturbed run's."""
    folder = made if made.is_dir() else made.parent
    compared = 0
    for path in sorted(output.parent.rglob("*") if not output.is_dir() else output.rglob("*")):
        name = path.relative_to(output if output.is_dir() else output.parent)
        if path.suffix in (".parquet", ".safetensors") and name.stem not in TIMED:
            assert path.read_bytes() == (folder / name).read_bytes(), path
            compared += 1
    assert compared


@contextmanager
def kept(*paths: Path) -> Iterator[None]:
    """Files of the run that come back after the block as they were, inode and time included."""
    backups = [path.with_name(f".{path.name}.kept") for path in paths]
    there = [path.is_file() for path in paths]
    for path, backup, is_there in zip(paths, backups, there, strict=True):
        if is_there:
            path.rename(backup)
            shutil.copyfile(backup, path)
    try:
        yield
    finally:
        for path, backup, is_there in zip(paths, backups, there, strict=True):
            path.unlink(missing_ok=True)
            if is_there:
                backup.rename(path)


def notes_of(path: Path) -> list[Path]:
    """Where the note of a file is."""
    return [path.with_suffix(".json"), path.with_name("provenance.json")]


def receipts_of(path: Path) -> list[Path]:
    """Where the receipt of a file is."""
    return [receipt_beside(note) for note in notes_of(path)]


def remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def require_refused(sentence: str, path: Path) -> None:
    assert str(path) in sentence, sentence
    assert re.search(r"run again|run it|run the stage|run its", sentence), sentence


@pytest.mark.parametrize(("stage", "kind"), CELLS, ids=IDS)
def test_a_damaged_table_is_refused(run: Callable[[str], str], stage: str, kind: str) -> None:
    """With its note, and without: it may have been copied alone."""
    path = SHARDS[kind]
    for has_note in (True, False):
        for change in (damage.cut, damage.empty, damage.edit):
            with kept(path, *notes_of(path), *receipts_of(path)):
                if not has_note:
                    remove([*notes_of(path), *receipts_of(path)])
                change(path)
                sentence = run(stage)
                if sentence or change is not damage.edit or (stage, kind) not in FOOTER_ALONE:
                    require_refused(sentence, path)


@pytest.mark.parametrize(("stage", "kind"), CELLS, ids=IDS)
def test_a_flipped_bit_is_refused_or_without_effect(
    run: Callable[[str], str], stage: str, kind: str
) -> None:
    path = SHARDS[kind]
    for number in range(12):
        with kept(path, *notes_of(path), *receipts_of(path)):
            remove([*notes_of(path), *receipts_of(path)])
            damage.flip(path, (number + 0.5) / 12, bit=number % 8)
            sentence = run(stage)
            if sentence:
                require_refused(sentence, path)


def likes_of(kind: str) -> list[Path]:
    """Files that a table could be mistaken for: of another round, shard, benchmark, experiment."""
    path = SHARDS[kind]
    other = str(path).replace("results/small", "results/other").replace("seed_0", "seed_1")
    changes = [
        str(path).replace("shard_0", "shard_1"),
        str(path).replace("sampled", "greedy"),
        str(path).replace("round_2", "round_1"),
        other.replace("round_2", "round_1"),
    ]
    return [Path(like) for like in dict.fromkeys(changes) if like != str(path)]


# Files that say nothing against their places where the notes and receipts of these have gone: they
# were made from the same under other settings, or from nothing (docs/reliability.md, "What is not
# promised").
UNTOLD = {
    ("problems", "benchmark"): "other/problems/eval/sampled",
    ("sample", "problems"): "other/problems/train/shard_0",
    ("answers", "benchmark"): "other/problems/eval/sampled",
    ("answers", "dev"): "other/problems/train/dev",
    ("evaluate", "answers"): "answers/greedy",
}


@pytest.mark.parametrize(("stage", "kind"), CELLS, ids=IDS)
def test_a_swapped_table_is_refused_or_without_effect(
    run: Callable[[str], str], stage: str, kind: str
) -> None:
    """With the note of its own place, with that which it brings, and without any."""
    path = SHARDS[kind]
    refused = 0
    for like in likes_of(kind):
        assert like.read_bytes() != path.read_bytes()
        its = like.with_suffix(".json")
        for note in ("that of the place", "its own", "none"):
            if note == "its own" and not its.is_file():
                continue
            with kept(path, *notes_of(path)):
                shutil.copyfile(like, path)
                if note != "that of the place":
                    remove(notes_of(path))
                if note == "its own":
                    shutil.copyfile(its, path.with_suffix(".json"))
                sentence = run(stage)
                if sentence:
                    require_refused(sentence, path)
                    refused += 1
    assert refused


@pytest.mark.parametrize(("stage", "kind"), CELLS, ids=IDS)
def test_a_swapped_table_says_itself_that_it_is_out_of_place(
    run: Callable[[str], str], stage: str, kind: str
) -> None:
    """As after a copy without hidden files, with its own note or none: by its footer alone."""
    path = SHARDS[kind]
    for number, like in enumerate(likes_of(kind)):
        if UNTOLD.get((stage, kind), "?") in str(like):
            continue
        its = like.with_suffix(".json")
        with kept(path, *notes_of(path), *receipts_of(path)):
            shutil.copyfile(like, path)
            remove([*notes_of(path), *receipts_of(path)])
            if number % 2 and its.is_file():
                shutil.copyfile(its, path.with_suffix(".json"))
            sentence = run(stage)
            if sentence:
                require_refused(sentence, path)
