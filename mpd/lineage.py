"""Which shards belong together.

sample_id is the same in every round and seed, so the keys of two shards do not tell whether one
was made from the other. The footer does: it names the content that its rows were made from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpd import schema, table


def require_made_from(path: Path, artifact: schema.Artifact, **contents: str) -> None:
    """Raise ValueError unless a shard names these contents, as in `sample=content_digest(...)`."""
    identity = table.check(path, artifact)["identity"]
    for source, content in contents.items():
        if identity.get(source) != content:
            raise ValueError(
                f"{path}: it was made from another {source} shard than the one given here: of "
                f"another round, seed or shard number, or before {source} ran again; give shards "
                f"of one round, or run {artifact.name} again"
            )


def sampled_by(path: Path, student: Mapping[str, Any]) -> table.Identity:
    """The identity to ask of a shard of trajectories: the student's tokens, and the student.

    Trajectories that the user gave name no student.
    """
    identity = table.check(path, schema.SAMPLE)["identity"]
    own = {"student": student["digest"]} if "student" in identity else {}
    return {"token_map": student["token_map"], **own}
