"""What the manifest of a model says, and whether the files beside it are what it says.

A manifest of an earlier version has no checksum and no digest of each file. It stays valid; only
the weights are compared with it, by the digest of all of them.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from mpd.store.digests import digest_of, file_digest
from mpd.store.files import checksummed, has_its_checksum, json_object, recompute_advice
from mpd.store.known_digests import digest_like

MANIFEST = "manifest.json"
WEIGHTS = ".safetensors"  # the suffix of files that are hashed once for each machine
TEXTS = ("weights", "tokenizer", "token_map", "chat_template", "digest")


def described(manifest: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """A manifest with the digests of its files, and with a checksum of all other keys."""
    return checksummed({**manifest, "digests": dict(digests)})


def parse_manifest(path: Path) -> dict[str, Any]:
    """The content of a manifest. Raises ValueError where it is damaged or was edited."""
    if not path.is_file():
        raise ValueError(f"{path}: no such manifest; give the manifest.json of a resolved model")
    advice = recompute_advice(path)
    manifest = json_object(path, advice)
    for key in (*TEXTS, "context_length", "files"):
        kind: type = {"context_length": int, "files": dict}.get(key, str)
        if type(manifest.get(key)) is not kind:
            raise ValueError(
                f"{path}: expected {key} to be {kind.__name__}, found {_shown(manifest, key)}; "
                f"{advice}"
            )
    is_new = "checksum" in manifest or "digests" in manifest
    if is_new and not has_its_checksum(manifest):
        raise ValueError(
            f"{path}: expected the checksum of its other keys, found "
            f"{_shown(manifest, 'checksum')}: it was edited or damaged; {advice}"
        )
    return manifest


def require_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ValueError where a file is missing, or has another size or content than is expected.

    Weights are not read.
    """
    for name, size in manifest["files"].items():
        file = path.parent / name
        found = f"{file.stat().st_size} bytes" if file.is_file() else "no file"
        if found != f"{size} bytes":
            raise ValueError(
                f"{file}: expected the {size} bytes of {path}, found {found}; "
                f"{recompute_advice(path)}"
            )
    for name, digest in manifest.get("digests", {}).items():
        if not name.endswith(WEIGHTS):
            _require_digest(path, name, digest, file_digest(path.parent / name))


def require_weights_of(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ValueError where weights are not those of the manifest.

    They are read unless this machine knows them already.
    """
    names = sorted(name for name in manifest["files"] if name.endswith(WEIGHTS))
    if "digests" in manifest:
        for name in names:
            digest = manifest["digests"][name]
            _require_digest(path, name, digest, digest_like(path.parent / name, digest))
        return

    @cache
    def require_all() -> None:
        digests = {name: file_digest(path.parent / name) for name in names}
        _require_digest(path, " ".join(names), manifest["weights"], digest_of(digests))

    for name in names:
        # It is remembered of each file that it was of this name among these weights.
        place = digest_of([manifest["weights"], name])
        digest_like(path.parent / name, place, partial(_after, require_all, place))


def _after(check: Callable[[], None], value: str, _: Path) -> str:
    """A value, once a check has passed."""
    check()
    return value


def _require_digest(path: Path, name: str, expected: str, digest: str) -> None:
    if digest != expected:
        raise ValueError(
            f"{path.parent / name}: expected the content with SHA-256 {expected[:12]} of {path}, "
            f"found {digest[:12]}; {recompute_advice(path)}"
        )


def _shown(content: Mapping[str, Any], key: str) -> str:
    return f"{content[key]!r:.40}" if key in content else "nothing"
