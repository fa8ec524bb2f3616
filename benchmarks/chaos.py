"""Kills at random moments of a run, and whether the same command then makes the same bytes.

    python benchmarks/chaos.py                       10 kills
    python benchmarks/chaos.py --kills 100 --seed 1  the long form
    python benchmarks/chaos.py --project FOLDER      in a finished run of the embedded world
    python benchmarks/chaos.py --engine vllm         where vLLM generates, on an environment with it

A story takes the results of one stage away, starts the run again, and kills it, once or several
times: at a random time, or in its n-th file operation. Then the run is started once more, by the
same command, to its end, and every file but those that hold wall times is compared with the
undisturbed run. Killed are a job, its shell with all that it started, Snakemake alone,
everything, or the machine: then files that were not forced to the disk are emptied or cut. Of what
vLLM generates, keys of rows are compared instead of bytes: its batches decide the last bits.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import polars as pl
import psutil

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from mpd.store.files import CHECKSUM  # noqa: E402
from mpd.store.notes import PROVENANCE, RECEIPT, note_of  # noqa: E402
from mpd.store.outputs import MEANING, fingerprint  # noqa: E402
from tests.workflow.project import ENVIRONMENT, Project, copied, finished  # noqa: E402

ROUND = "mpd/seed_0/round_1"
# The files of each stage, the first of which is asked for.
STAGES = {
    "benchmark": ["problems/eval/greedy.parquet"],
    "problems": [f"problems/train/{name}.parquet" for name in ("shard_0", "dev", "dropped")],
    "models": ["models/teacher/manifest.json"],
    "sample": [f"{ROUND}/sample/shard_0.parquet"],
    "compress": [f"{ROUND}/compress/shard_0.parquet"],
    "filter": [f"{ROUND}/filter/shard_0.parquet"],
    "logits": [f"{ROUND}/logits/shard_0.parquet"],
    "distill": [f"{ROUND}/student/manifest.json"],
    "answers": [f"{ROUND}/answers/{name}.parquet" for name in ("dev", "greedy", "sampled")],
    "evaluate": [f"{ROUND}/evaluate/greedy.parquet"],
    "report": [f"{name}.parquet" for name in ("summary", "comparison", "budgets", "difficulty")],
}
GENERATED = ("sample", "compress", "answers")
ENGINES = {
    "transformers": {},
    "vllm": {
        stage: {"engine": "vllm", "engine_arguments": {"kv_cache_memory_bytes": 2**26}}
        for stage in ("sample", "compress", "evaluate")
    },
}
VICTIMS = ("job", "shell", "snakemake", "everything", "machine")
# What holds wall times, besides notes; and what the report makes of these.
TIMED = ("costs.parquet", "speed.parquet", "report.html")
NOTED = {"spent", "digests", "sizes", "inputs", CHECKSUM}

# In every Python process of a run: notes what is forced to the disk, and kills at an operation.
HOOK = """
import os, signal, sys
home = os.environ["CHAOS"]
victim, at = os.environ["CHAOS_VICTIM"], int(os.environ["CHAOS_AT"])
fsync = os.fsync

def note(name, text):
    file = os.open(f"{home}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, text.encode())
    os.close(file)

def noted_fsync(file):
    fsync(file)
    status = os.fstat(file)
    note("synced", f"{status.st_ino} {status.st_size}\\n")

os.fsync = noted_fsync
count, is_busy = 0, False
EVENTS = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "os.chmod"}

def look(event, arguments):
    global count, is_busy
    if is_busy or not (event in EVENTS or event == "open"):
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & 3):
        return
    if "results/" not in os.fsdecode(arguments[0] if not isinstance(arguments[0], int) else ""):
        return
    count += 1
    is_busy = True
    if count == at:
        note("killed", "1")
        if victim == "job":
            os.kill(os.getpid(), signal.SIGKILL)
        elif victim == "snakemake":
            os.kill(int(os.environ["MPD_SUPERVISOR"].split()[0]), signal.SIGKILL)
        else:
            os.killpg(os.getpgrp(), signal.SIGKILL)
    elif not at:
        note("counted", f"{count} ")
    is_busy = False

words = sys.orig_argv
if "-m" in words[:-1] and words[words.index("-m") + 1].startswith("mpd."):
    sys.addaudithook(look)
"""


class Chaos:
    """A finished run, which is killed again and again, and the figures of what came out."""

    def __init__(self, project: Project, work: Path, seed: int, engine: str) -> None:
        self.project, self.work, self.engine = project, work, engine
        self.results = project.folder / "results" / "small"
        self.random = random.Random(seed)
        self.expected = contents(self.results)
        self.figures: Counter = Counter()
        self.victims: Counter = Counter()
        self.undisturbed: dict[str, tuple[float, int]] = {}
        self.slowest_end = self.slowest_stop = 0.0
        (work / "sitecustomize.py").write_text(HOOK, encoding="utf-8")

    def command(self, stage: str) -> list[str]:
        """The command that brings the stage's results back; the user's own, whatever happened."""
        targets = [str(Path("results/small", STAGES[stage][0]))]
        command = self.project.command(rounds=1, **ENGINES[self.engine])
        python = command.index(sys.executable)
        return [*command[python : python + 3], *targets, *command[python + 3 :]]

    def start(self, stage: str, victim: str = "", at: int = 0) -> subprocess.Popen:
        """Start the command, with a kill in an operation of its job if `at` is its number."""
        for name in ("killed", "counted"):
            (self.work / name).unlink(missing_ok=True)
        hook = {"CHAOS": str(self.work), "CHAOS_VICTIM": victim, "CHAOS_AT": str(at)}
        path = f"{self.work}:{REPOSITORY}"
        with (self.work / "log").open("ab") as log:
            return subprocess.Popen(
                self.command(stage),
                cwd=self.project.folder,
                env={**ENVIRONMENT, **hook, "PYTHONPATH": path},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def forget(self, stage: str) -> int:
        """Delete the results of a stage, and what the store has of them; how many artifacts."""
        count = 0
        for name in STAGES[stage]:
            note = note_of(self.results / name)
            if note is None:  # the folder of the file before has gone as a whole
                continue
            content = json.loads(note.read_text(encoding="utf-8"))
            key = fingerprint(**{name: content[name] for name in MEANING})
            for stored in (self.results.parent / "store" / content["kind"]).glob(f"{key}*"):
                shutil.rmtree(stored) if stored.is_dir() else stored.unlink()
            is_folder = note.name == PROVENANCE
            for path in files(note.parent) if is_folder else (self.results / name, note):
                path.unlink()
            count += 1
        return count

    def measure(self, stage: str) -> tuple[float, int]:
        """Seconds and file operations of a stage that nothing disturbs."""
        if stage not in self.undisturbed:
            self.forget(stage)
            began = time.monotonic()
            if self.start(stage).wait():
                raise SystemExit(
                    f"{stage} fails undisturbed:\n{(self.work / 'log').read_text(encoding='utf-8')}"
                )
            seconds = time.monotonic() - began
            self.undisturbed[stage] = (
                seconds,
                len((self.work / "counted").read_text(encoding="utf-8").split()),
            )
            self.compare(stage)
        return self.undisturbed[stage]

    def story(self, stage: str, kills: int) -> None:
        """Kill a run of a stage several times, then let it end and compare."""
        seconds, operations = self.measure(stage)
        self.forget(stage)
        began, killed = time.monotonic(), 0
        for _ in range(kills):
            killed += self.kill(stage, seconds, operations)
        codes = []
        while not codes or (codes[-1] and len(codes) < 3):
            codes.append(self.start(stage).wait())
        self.figures["commands beyond the first"] += len(codes) - 1
        self.figures["runs that did not come back"] += codes[-1] != 0
        self.figures["wasted seconds"] += max(time.monotonic() - began - seconds, 0)
        self.compare(stage)

    def kill(self, stage: str, seconds: float, operations: int) -> int:
        """Start the command and kill it; how many kills that were."""
        victim = self.random.choice(VICTIMS)
        is_operation = victim != "shell" and self.random.random() < 0.6
        at = self.random.randint(1, operations) if is_operation else 0
        before = inodes(self.project.folder)
        process = self.start(stage, victim, at)
        moment = self.random.uniform(0.1, 1.0) * seconds
        if is_operation:
            while process.poll() is None and not (self.work / "killed").exists():
                time.sleep(0.02)
        else:
            time.sleep(moment)
            if self.strike(process, victim):
                (self.work / "killed").touch()
        has_struck = (self.work / "killed").exists()
        began = time.monotonic()
        if victim != "snakemake":
            process.wait()
        elif self.random.random() < 0.5:  # else the next command meets what is left
            while left(self.project.folder):
                time.sleep(0.05)
            self.slowest_end = max(self.slowest_end, time.monotonic() - began)
        process.wait()
        if victim == "machine":
            self.figures["files cut or emptied"] += self.lose(before)
        if has_struck:
            self.victims[f"{victim}, {'operation' if is_operation else 'time'}"] += 1
        return int(has_struck)

    def strike(self, process: subprocess.Popen, victim: str) -> bool:
        """Kill what a story is about; whether it was there, neither too early nor too late."""
        if process.poll() is not None:
            return False
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            shells = psutil.Process(process.pid).children()
            if victim in ("job", "shell"):
                tree = [member for shell in shells for member in (shell, *shell.children(True))]
                jobs = [child for child in tree if "python" in child.name()]
                struck = tree if victim == "shell" else jobs[:1]
                for member in struck:
                    member.kill()
                return bool(struck)
            if victim == "snakemake":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            return True
        return False

    def lose(self, before: dict[int, tuple[int, int]]) -> int:
        """Empty or cut what was written and not forced to the disk; how many files."""
        synced = set((self.work / "synced").read_text(encoding="utf-8").splitlines())
        paths = {}
        for path in files(self.project.folder):
            status = path.stat()
            is_new = before.get(status.st_ino) != (status.st_size, status.st_mtime_ns)
            if status.st_size and is_new and f"{status.st_ino} {status.st_size}" not in synced:
                paths[status.st_ino] = path
        for path in paths.values():
            share = self.random.choice([0.0, self.random.random()])
            os.truncate(path, int(path.stat().st_size * share))
        return len(paths)

    def compare(self, stage: str) -> None:
        """Count what differs from the undisturbed run."""
        found = contents(self.results)
        for name in sorted(set(self.expected) | set(found)):
            old, new = self.expected.get(name), found.get(name)
            rows = keys(name, old) if self.engine == "vllm" else []
            if old == new or (rows and rows == keys(name, new)):
                continue
            self.figures["files that differ"] += 1
            print(f"{stage}: {name} differs", flush=True)
            if name.endswith(".parquet"):
                self.count_rows(old, new)
        for path in (self.results.parent / "store").glob("*/*"):
            self.figures["left in the store"] += path.suffix == ".parts" or "-changed" in path.name

    def count_rows(self, old: bytes | None, new: bytes | None) -> None:
        """Count the rows that were lost, or came beside those that were there."""
        before, after = (
            Counter(map(repr, pl.read_parquet(content).rows() if content else ()))
            for content in (old, new)
        )
        self.figures["rows lost or changed"] += sum((before - after).values())
        self.figures["rows doubled or changed"] += sum((after - before).values())

    def jobs_of(self, run: subprocess.Popen) -> list[int]:
        """The jobs of a run, as soon as there are some."""
        while not (jobs := left(self.project.folder)):
            if run.poll() is not None:
                log = (self.work / "log").read_text(encoding="utf-8")
                raise SystemExit(f"the run ended before a job was seen:\n{log}")
            time.sleep(0.05)
        return jobs

    def interrupt(self, stage: str, only_snakemake: bool) -> None:
        """Ctrl-C, or SIGINT to Snakemake alone, ends a run soon; the next one goes on."""
        self.measure(stage)
        self.forget(stage)
        process = self.start(stage)
        self.jobs_of(process)
        time.sleep(self.random.uniform(0, 2))
        began = time.monotonic()
        (os.kill if only_snakemake else os.killpg)(process.pid, signal.SIGINT)
        process.wait()
        self.slowest_stop = max(self.slowest_stop, time.monotonic() - began)
        self.figures["jobs after Ctrl-C"] += len(left(self.project.folder))
        self.figures["runs that did not come back"] += self.start(stage).wait() != 0
        self.compare(stage)

    def two_in_one_folder(self, stage: str) -> None:
        """A second run is refused, and the first one ends as if there were none."""
        self.measure(stage)
        self.forget(stage)
        first = self.start(stage)
        jobs = self.jobs_of(first)
        for job in jobs:  # the first run does not end before the second has begun
            os.kill(job, signal.SIGSTOP)
        second = subprocess.run(
            self.command(stage),
            cwd=self.project.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        for job in jobs:
            os.kill(job, signal.SIGCONT)
        is_refused = second.returncode and "is at work in this folder" in second.stderr
        self.figures["second runs that were not refused"] += not is_refused
        self.figures["runs that did not come back"] += first.wait() != 0
        self.compare(stage)

    def two_folders_with_one_store(self, stage: str) -> None:
        """Two runs at once compute what is new once, and both have it."""
        self.measure(stage)
        number = self.forget(stage)
        other = self.work / "other"
        other.mkdir()
        copied(self.project.folder, other)
        shutil.rmtree(other / "results/store")
        (other / "results/store").symlink_to(self.project.folder / "results/store")
        outputs = [
            subprocess.Popen(
                self.command(stage),
                cwd=folder,
                env={**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for folder in (self.project.folder, other)
        ]
        printed = "".join(output.communicate()[0] for output in outputs)
        self.figures["runs that did not come back"] += sum(run.returncode != 0 for run in outputs)
        self.figures["computed twice"] += printed.count(": computed ") - number
        self.compare(stage)
        self.results = other / "results/small"
        self.compare(stage)
        self.results = self.project.folder / "results/small"
        shutil.rmtree(other)


def contents(results: Path) -> dict[str, bytes]:
    """The bytes of every result that holds no wall time; of a note, what does not depend on any."""
    found = {}
    for path in files(results):
        name = str(path.relative_to(results))
        if name.startswith(("logs/", "benchmarks/")) or name in TIMED:
            continue
        content = path.read_bytes()
        is_note = name.endswith((".json", RECEIPT))
        if is_note and MEANING[0] in (note := json.loads(content)):
            content = repr({key: note[key] for key in sorted(note.keys() - NOTED)}).encode()
        found[name] = content
    return found


def keys(name: str, content: bytes | None) -> list[tuple]:
    """The keys of the rows of a table that a model generates; none of other files."""
    is_generated = content and name.endswith(".parquet") and Path(name).parent.name in GENERATED
    frame = pl.read_parquet(content) if is_generated else pl.DataFrame()
    names = ("problem_id", "sample_id", "sample_index", "candidate")
    return sorted(frame.select(column for column in names if column in frame.columns).rows())


def files(folder: Path) -> list[Path]:
    """The files below a folder, hidden ones too."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def inodes(folder: Path) -> dict[int, tuple[int, int]]:
    """Size and time of every file."""
    states = [path.stat() for path in files(folder)]
    return {state.st_ino: (state.st_size, state.st_mtime_ns) for state in states}


def left(folder: Path) -> list[int]:
    """The jobs that are at work in a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_job = any(word.startswith("mpd.") for word in process.cmdline()[1:3])
            if is_job and process.cwd() == str(folder):
                found.append(process.pid)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, help="default: all")
    parser.add_argument("--engine", default="transformers", choices=ENGINES)
    parser.add_argument("--project", type=Path, help="a finished run, which is copied")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # children in the background have it
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary).resolve()
        (work / "project").mkdir()
        engine = arguments.engine
        whole = arguments.project or finished(work / "finished", **ENGINES[engine])
        copied(whole, work / "project")
        chaos = Chaos(Project(work / "project"), work, arguments.seed, engine)
        of_engine = STAGES if engine == "transformers" else GENERATED
        chosen = arguments.stages or list(of_engine)
        began = time.monotonic()
        stages = iter(())
        while chaos.victims.total() < arguments.kills:
            stage = next(stages, None)
            if stage is None:
                stages = iter(chaos.random.sample(chosen, len(chosen)))
                continue
            kills = min(chaos.random.randint(1, 4), arguments.kills - chaos.victims.total())
            chaos.story(stage, kills)
            print(f"{stage}: {dict(chaos.victims)}, {dict(chaos.figures)}", flush=True)
        for only_snakemake in (False, True):
            chaos.interrupt(chosen[0], only_snakemake)
        chaos.two_in_one_folder(chosen[0])
        chaos.two_folders_with_one_store(chosen[0])
    for name, number in sorted(chaos.victims.items()):
        print(f"killed: {name}: {number}")
    result = {name: round(number, 1) for name, number in chaos.figures.items()}
    result |= {"kills": chaos.victims.total(), "seconds": round(time.monotonic() - began)}
    result["slowest end of a job"] = round(chaos.slowest_end, 1)
    result["slowest end by Ctrl-C"] = round(chaos.slowest_stop, 1)
    print(json.dumps(result))
    bad = set(chaos.figures) - {"wasted seconds", "files cut or emptied"}
    sys.exit(any(chaos.figures[name] for name in bad))


if __name__ == "__main__":
    main()
