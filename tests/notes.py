"""Notes as the store writes them, for tests that lay files out themselves."""

import json

WHOLE = {"kind": "mine", "version": 1, "settings": {}, "inputs": {}, "sizes": {}}


def write_note(path, **changes):
    """Write a note of an earlier version, without digests and checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**WHOLE, **changes}))
