"""Which shards belong together.

sample_id is the same in every round and seed, so the keys of two shards do not tell whether one
was made from the other. The footer does: it has the digests of what its rows were made from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpd.store import schema, table


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


def sampled_by(path: Path, *models: Mapping[str, Any]) -> table.Identity:
    """The identity that a shard of trajectories must have: the tokens and the model that sampled.

    The model is the one that the shard names, if it is one of `models`, or the first of these. A
    shard of trajectories that the user gave names no model.
    """
    identity = table.check(path, schema.SAMPLE)["identity"]
    digests = [model["digest"] for model in models]
    named = identity.get("student")
    sampler = {} if named is None else {"student": named if named in digests else digests[0]}
    return {"token_map": models[0]["token_map"], **sampler}


def rewritten_by(path: Path, scorer: Mapping[str, str]) -> table.Identity:
    """The identity that a shard of rewrites must have: that of the scorer.

    Rewrites are scored by the teacher that wrote them: another one would find them improbable. A
    shard of trajectories that were not rewritten names no teacher.
    """
    identity = table.check(path, schema.COMPRESS)["identity"]
    return dict(scorer) if "teacher" in identity else {"token_map": scorer["token_map"]}
