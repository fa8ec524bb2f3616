"""Projects that tests run the workflow in: a small embedded world in a folder of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from tests.ordinary import ORDINARY

REPOSITORY = Path(__file__).parents[2]
# Jobs call `python`: that of the environment the tests run in, activated or not.
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

WORLD: dict[str, Any] = {
    "experiment": "small",
    "models": {"student": {"num_steps": 60}, "teacher": {"num_steps": 60}},
    "problems": {
        "train": {"num_problems": 60},
        "num_train": 12,
        "num_dev": 6,
        "benchmarks": [
            {"name": "sampled", "source": "tiny", "num_problems": 6},
            {"name": "greedy", "source": "tiny", "num_problems": 6, "temperature": 0},
        ],
    },
    "sample": {"max_new_tokens": 160},
    "compress": {"max_new_tokens": 64},
    "custom": [{"name": "mpd", "like": "mpd", "axes": {"kept": "all"}}],
    "filter": {"max_ratio": 9.0},
    "distill": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-5},
    "evaluate": {"max_new_tokens": 48},
    "resources": {
        stage: {"batch_size": 4, "rows_per_part": 8} for stage in ("sample", "compress", "logits")
    },
}


class Project:
    """A copy of the workflow in a folder of its own.

    The words `rights` begin each command, which has the variables of `environment`; `world` is the
    overlay that the changes of a command change.
    """

    def __init__(self, folder: Path, world: dict[str, Any] = WORLD) -> None:
        self.folder = folder
        self.world = world
        self.rights = ORDINARY
        self.environment = ENVIRONMENT
        if not (folder / "Snakefile").exists():
            for name in ("rules", "profiles", "envs"):
                shutil.copytree(REPOSITORY / name, folder / name)
            for name in ("Snakefile", "config.yaml"):
                shutil.copy(REPOSITORY / name, folder / name)

    def command(self, *arguments: str, **changes: Any) -> list[str]:
        overlay = self.folder / "overlay.yaml"
        overlay.write_text(yaml.safe_dump(merged(self.world, changes)))
        snakemake = [*self.rights, sys.executable, "-m", "snakemake", "--cores", "2"]
        return [*snakemake, "--configfile", "overlay.yaml", *arguments]

    def run(self, *arguments: str, **changes: Any) -> str:
        """Run Snakemake to success; all that it printed."""
        done = subprocess.run(
            self.command(*arguments, **changes),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def visits(self, *arguments: str, **changes: Any) -> set[str]:
        """The jobs that a dry run lists."""
        printed = self.run("--dry-run", *arguments, **changes)
        names = re.findall(r"^Job \d+: (.*)$|^(?:local)?rule (\w+):$", printed, re.MULTILINE)
        found = set()
        for message, rule in names:
            stage, _, place = (message or rule).partition(" ")
            branch = re.match(r"([\w-]+)/seed_\d+/round_(\d+)", place)
            found.add(" ".join([stage, *(branch.groups() if branch else [place])]).strip())
        return found

    def bytes_of(self, pattern: str) -> dict[str, bytes]:
        results = self.folder / "results" / "small"
        return {str(path.relative_to(results)): path.read_bytes() for path in results.glob(pattern)}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    whole = dict(base)
    for key, value in changes.items():
        own = whole.get(key)
        both = isinstance(own, dict) and isinstance(value, dict)
        whole[key] = merged(own, value) if both else value
    return whole


def computed(printed: str) -> list[str]:
    """The artifacts that a run computed, in the order of their names."""
    return sorted(re.findall(r"^\w+(?: [^:]+)?: computed (\w+) \w+$", printed, re.MULTILINE))


def finished(folder: Path, **changes: Any) -> Path:
    """A finished run with one round in `folder`, which nobody changes; made by who comes first."""
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            draft = folder.with_suffix(".draft")
            draft.mkdir()
            printed = Project(draft).run(rounds=1, **changes)
            assert "ship mpd, seed 0" in printed
            draft.rename(folder)
    return folder


def copied(source: Path, target: Path) -> None:
    """Copy what is in a folder with times and hard links, as an untouched project has them."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)
