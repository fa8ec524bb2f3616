"""Which files belong together.

sample_id is the same in every round and seed, so the keys of two shards do not tell whether one
was made from the other. The footer does: it has the digests of what its rows were made from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpd.store import schema, table

Source = tuple[Path, str]  # a file, and the digest of its content
Shard = tuple[Path, schema.Artifact] | tuple[Path, schema.Artifact, table.Identity]


def contents_of(shards: Mapping[str, Shard]) -> dict[str, str]:
    """The content digests of the shards of one round, by the names of their stages, in order.

    Raises ValueError as `table.check` does, and unless each was made from all that come before it.
    """
    sources: dict[str, Source] = {}
    for name, shard in shards.items():
        footer = table.check(*shard)
        _require_sources(shard[0], footer, sources)
        sources[name] = (shard[0], footer["content"])
    return {name: content for name, (_, content) in sources.items()}


def require_made_from(path: Path, artifact: schema.Artifact, sources: Mapping[str, Source]) -> None:
    """Raise ValueError unless a file was made from these sources.

    A file from before checksums does not name all of its sources.
    """
    _require_sources(path, table.check(path, artifact), sources)


def _require_sources(path: Path, footer: Mapping[str, Any], sources: Mapping[str, Source]) -> None:
    identity = footer["identity"]
    for name, (source, content) in sources.items():
        if name not in identity and "checksums" not in footer:
            continue
        if identity.get(name) != content:
            raise ValueError(
                f"{path}: it was made from {name} {str(identity.get(name))[:12]}, but {source} is "
                f"{content[:12]}: of another experiment, round, seed, shard or benchmark, or of "
                f"another run; run again with --forcerun {source} {path}"
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
