"""Which shards belong together.

sample_id is the same in every round and seed, so the keys of two shards do not tell whether one
was made from the other. The footer does: it names the content that its rows were made from.
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
    """The identity to ask of a shard of trajectories: the tokens, and the model that sampled.

    That is the first of the models, or the one of them that the shard names. Trajectories that
    the user gave name none.
    """
    identity = table.check(path, schema.SAMPLE)["identity"]
    digests = [model["digest"] for model in models]
    named = identity.get("student")
    own = {} if named is None else {"student": named if named in digests else digests[0]}
    return {"token_map": models[0]["token_map"], **own}


def rewritten_by(path: Path, scorer: Mapping[str, str]) -> table.Identity:
    """The identity to ask of a shard of rewrites: the scorer's, since it must be the rewriter.

    Another teacher would not like its rewrites. Trajectories that nobody rewrote name none.
    """
    identity = table.check(path, schema.COMPRESS)["identity"]
    return dict(scorer) if "teacher" in identity else {"token_map": scorer["token_map"]}
