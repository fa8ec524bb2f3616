"""A Hugging Face cache, written as the library huggingface_hub writes it."""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


def write_repository(home: Path, kind: str, name: str, folder: Path, revision=REVISION) -> Path:
    """Put the files of a folder into the cache below `home`; returns the folder of the revision."""
    repository = home / "hub" / "--".join([f"{kind}s", *name.split("/")])
    snapshot = repository / "snapshots" / revision
    for path in (repository / "blobs", repository / "refs", snapshot):
        path.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(revision)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            blob = repository / "blobs" / sha256(path.read_bytes()).hexdigest()
            shutil.copyfile(path, blob)
            link = snapshot / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def run_offline(home: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess:
    """Run `python -m mpd.<arguments>` with this cache and without a network."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", **changes}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
