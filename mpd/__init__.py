"""MPD: offline staged distillation that makes small reasoning models think shorter."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m mpd.<program>` begins, and its imports can take seconds
    from mpd.job.stopping import stop_at_once

    stop_at_once()
