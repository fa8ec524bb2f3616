"""What this project asks of Slurm beside Snakemake's executor plugin."""

import logging
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from mpd.job.layout import RESULTS

log = logging.getLogger("mpd")

JOB_NAME = "mpd"  # begins the names of jobs that profiles/slurm submits
LOGS = ".snakemake/slurm_logs"  # which the plugin makes with the first job of a folder
END_SECONDS = 120.0  # that cancelled jobs get to end
# Snakemake writes many inputs of a job to a file, whose path the command has.
FILES_FILE = re.compile(r"--wait-for-files-file[ =]['\"]?([^\s'\"]+)")


def status_command() -> str:
    """The command that knows the state of a job: squeue where the cluster has no accounting."""
    storage = re.search(r"AccountingStorageType\s*=\s*(\S+)", _answer("scontrol", "show", "config"))
    has_database = storage is not None and storage[1] == "accounting_storage/slurmdbd"
    return "sacct" if has_database else "squeue"


def cancel_left_jobs(experiment: str, folder: Path) -> int:
    """Cancel the jobs that an earlier run of an experiment left in Slurm; returns their number.

    They belong to this user, were submitted in `folder`, and make something of the experiment. The
    function returns when they have ended. Raises ValueError where they do not, or squeue fails.
    """
    if not (folder / LOGS).is_dir():  # Slurm is not asked where only local runs have been
        return 0
    jobs = [job for job in _queued(folder) if _makes(job, experiment, folder)]
    if not jobs:
        return 0
    log.info("cancelling jobs in Slurm that an earlier run left: %s", ", ".join(jobs))
    _answer("scancel", *jobs)
    deadline = time.monotonic() + END_SECONDS
    while left := set(jobs) & set(_queued(folder)):
        if time.monotonic() > deadline:
            raise ValueError(
                f"Slurm's jobs {', '.join(sorted(left))} of an earlier run of {experiment} were "
                "cancelled and have not ended: wait until squeue no longer lists them"
            )
        time.sleep(1)
    return len(jobs)


def _queued(folder: Path) -> list[str]:
    """The numbers of this user's jobs that were submitted in a folder and have not ended.

    Raises ValueError where squeue is there and fails: jobs may be left.
    """
    try:
        command = ["squeue", "--me", "--noheader", "--format=%A|%j|%Z"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        return []
    except (OSError, subprocess.SubprocessError) as error:
        raise ValueError(
            f"squeue does not answer ({error}), and an earlier run may have jobs in Slurm: try "
            "again"
        ) from None
    rows = [line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
    return [
        number for number, name, place in rows if name.startswith(JOB_NAME) and place == str(folder)
    ]


def _makes(job: str, experiment: str, folder: Path) -> bool:
    """Whether the command of a job names results of an experiment, or its wildcards do."""
    script = _answer("scontrol", "write", "batch_script", job, "-")
    listed = FILES_FILE.search(script)
    with suppress(OSError):
        script += (folder / listed[1]).read_text(encoding="utf-8") if listed else ""
    name = re.escape(experiment)
    pattern = rf"{RESULTS}/{name}/|\bexperiment={name}(?![\w.-])"
    return re.search(pattern, script) is not None


def _answer(*command: str) -> str:
    """What a command prints; nothing where it is missing, fails, or takes a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
