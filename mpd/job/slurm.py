"""What this project asks of Slurm beside Snakemake's executor plugin."""

import re
import subprocess
import time
from pathlib import Path

from mpd.job.layout import RESULTS

JOB_NAME = "mpd"  # begins the names of jobs that profiles/slurm submits
LOGS = ".snakemake/slurm_logs"  # which the plugin makes with the first job of a folder
END_SECONDS = 120.0  # that cancelled jobs get to end


def status_command() -> str:
    """The command that knows the state of a job: squeue where the cluster has no accounting."""
    storage = re.search(r"AccountingStorageType\s*=\s*(\S+)", _answer("scontrol", "show", "config"))
    has_database = storage is not None and storage[1] != "accounting_storage/none"
    return "sacct" if has_database else "squeue"


def cancel_left_jobs(experiment: str, folder: Path) -> int:
    """Cancel the jobs that an earlier run of an experiment left in Slurm; returns their number.

    They belong to this user, were submitted in `folder`, and make something of the experiment. The
    function returns when they have ended. Raises ValueError where they do not.
    """
    if not (folder / LOGS).is_dir():  # Slurm is not asked where only local runs have been
        return 0
    jobs = [job for job in _queued(folder) if _makes(job, experiment)]
    if not jobs:
        return 0
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
    """The numbers of this user's jobs that were submitted in a folder and have not ended."""
    lines = _answer("squeue", "--me", "--noheader", "--format=%A|%j|%Z").splitlines()
    rows = [line.split("|", 2) for line in lines if line.count("|") >= 2]
    return [
        number for number, name, place in rows if name.startswith(JOB_NAME) and place == str(folder)
    ]


def _makes(job: str, experiment: str) -> bool:
    """Whether the command of a job names results of an experiment."""
    return f"{RESULTS}/{experiment}/" in _answer("scontrol", "write", "batch_script", job, "-")


def _answer(*command: str) -> str:
    """What a command prints; nothing where it is missing, fails, or takes a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
