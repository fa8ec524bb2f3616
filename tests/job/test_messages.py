"""Lines of a log and tracebacks: nothing in them moves the cursor of a terminal."""

import subprocess
import sys

SCRIPT = r"""
import logging
from mpd.job.messages import log_to_stderr

log_to_stderr("stage 50%")
logging.getLogger("mpd").warning("row %d: %s", 3, "a\x1b[2J\u202eb\nline")
raise RuntimeError("c\x1b]0;title\x07")
"""


def test_log_and_traceback_show_control_characters_as_signs():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[:2] == ["stage 50%: row 3: a\\x1b[2J\\u202eb", "line"]
    assert lines[-1] == "RuntimeError: c\\x1b]0;title\\x07"
