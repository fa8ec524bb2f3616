"""A safetensors file that says the digest of its own content.

The metadata has SEAL: the SHA-256 of the file with zeros in place of these 64 digits.
"""

import hashlib
import json
from pathlib import Path
from typing import BinaryIO

from mpd.store.files import recompute_advice
from mpd.store.known_digests import digest_like

SEAL = "digest"
UNSEALED = "0" * 64
EARLIER = {"cap", "scale", "teacher"}  # the keys of the metadata of an earlier version
LENGTH = 8  # bytes of the number of bytes of the header, which follows


def seal(path: Path) -> None:
    """Write the digest into a file whose metadata has SEAL: UNSEALED, and put its keys in order.

    Safetensors writes them in any order, so that equal content would not be equal bytes.
    """
    with path.open("r+b") as file:
        header = _header(file)
        content = json.loads(header[LENGTH:])
        content["__metadata__"] = dict(sorted(content["__metadata__"].items()))
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        header = header[:LENGTH] + text.ljust(len(header) - LENGTH)
        digest = _digest(file, header)
        file.seek(0)
        file.write(header.replace(UNSEALED.encode(), digest.encode(), 1))


def sealed_metadata(path: Path, remembers: bool = True) -> dict[str, str]:
    """The metadata of a file, after a check of its content.

    The content is read again where this machine does not remember it, or `remembers` is false. The
    file of an earlier version has no digest, and its content is not checked. Raises ValueError
    where it is damaged.
    """
    advice = recompute_advice(path)
    try:
        with path.open("rb") as file:
            metadata = json.loads(_header(file)[LENGTH:])["__metadata__"]
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError
        if set(metadata) != EARLIER:
            metadata[SEAL]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; {advice}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            f"{path}: expected a safetensors file with metadata, found a damaged header; {advice}"
        ) from None
    _require_whole(path, advice)
    expected = metadata.get(SEAL)
    if expected is not None:
        digest = digest_like(path, expected, _digest_of) if remembers else _digest_of(path)
        if digest != expected:
            raise ValueError(
                f"{path}: expected content with the digest {expected[:12]} of its metadata, found "
                f"{digest[:12]}; {advice}"
            )
    return metadata


def _require_whole(path: Path, advice: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged, or cut ({error}); {advice}") from None


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        header = _header(file)
        expected = json.loads(header[LENGTH:])["__metadata__"][SEAL]
        return _digest(file, header.replace(expected.encode(), UNSEALED.encode(), 1))


def _digest(file: BinaryIO, header: bytes) -> str:
    """The digest of a header and of what follows it in the file."""
    running = hashlib.sha256(header)
    return hashlib.file_digest(file, lambda: running).hexdigest()  # type: ignore[arg-type]


def _header(file: BinaryIO) -> bytes:
    """The number of its bytes and the JSON at the beginning of a file, which is read so far."""
    length = file.read(LENGTH)
    return length + file.read(min(int.from_bytes(length, "little"), 100 << 20))
