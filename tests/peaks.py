"""Peak memory of Python processes, to compare that of a small input with that of a large one."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
# Not getrusage: its peak may be that of the process that started this one.
PRINT_PEAK = """
from pathlib import Path
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def peak_megabytes(code: str, arguments: list[str]) -> float:
    """Peak resident memory of a process that runs some code, without its children."""
    finished = subprocess.run(
        [sys.executable, "-c", code + PRINT_PEAK, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    return int(finished.stdout.split()[-1]) / 1024
