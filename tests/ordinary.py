"""Commands run as an ordinary user, where the user of the tests is root.

Root may read and write what a mode forbids, by two capabilities; without them it may do with its
own files what any user may with theirs. Whose files are several users' needs users of their own.
"""

import os
import re
from pathlib import Path

import pytest

OVERRIDE, READ = "dac_override", "dac_read_search"
# Users of one group. In CI it is an error, not a reason to skip, that there are none.
ANNA, BEN, GROUP = 47001, 47002, 47000
NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 and "CI" not in os.environ, reason="only root can run as several users"
)


def overrides_modes() -> bool:
    """Whether this process may write what a mode forbids."""
    if os.geteuid() != 0:
        return False
    effective = re.search(r"^CapEff:\t(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert effective
    return bool(int(effective[1], 16) & 0b10)  # CAP_DAC_OVERRIDE is number 1


def without(*capabilities: str) -> list[str]:
    """The beginning of a command that runs without some of root's capabilities."""
    given_up = ",".join(f"-{name}" for name in capabilities)
    return ["setpriv", f"--bounding-set={given_up}", f"--inh-caps={given_up}"]


# Of commands that the tests run; empty where the tests have no rights to give up.
ORDINARY = without(OVERRIDE, READ) if os.geteuid() == 0 else []


def as_user(number: int, umask: str = "002") -> list[str]:
    """The beginning of a command that runs as a user of the group GROUP, at home in its folder.

    It may read anything: Python and the environment of the tests may lie in root's home.
    """
    ids = [f"--reuid={number}", f"--regid={GROUP}", "--clear-groups"]
    reads = [f"--inh-caps=+{READ}", f"--ambient-caps=+{READ}"]
    script = f'umask {umask}; export HOME="$PWD" USER="" LOGNAME=user_{number}; exec "$@"'
    return ["setpriv", *ids, *reads, "sh", "-c", script, "sh"]
