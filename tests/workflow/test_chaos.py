"""Runs that are killed at random moments come back by the same command, with the same bytes."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# The numbers that may be anything; all others are of what must not happen.
MEASURED = {
    "kills",
    "seconds",
    "wasted seconds",
    "files cut or emptied",
    "slowest end of a job",
    "slowest end by Ctrl-C",
}


def test_ten_kills_cost_no_byte_and_no_second_command(finished_folder: Path) -> None:
    command = [sys.executable, "benchmarks/chaos.py", "--kills", "10", "--seed", "4"]
    done = subprocess.run(
        [*command, "--stages", "benchmark", "filter", "--project", str(finished_folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kills"] == 10
    assert {name for name, number in figures.items() if number} <= MEASURED
