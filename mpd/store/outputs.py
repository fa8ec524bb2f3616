"""What a stage would make: what it means, where it goes, and how it is computed.

A stage is a generator of outputs. It reads settings, manifests and footers, yields each output, and
is sent the path at which that can be read, or None where it is not computed. The store
computes or links each output (`publishing`), and `mpd.why` compares it with what is there. A stage
itself writes nothing, except in `compute`.
"""

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpd.store.parts import Parts
from mpd.store.schema import Artifact, Version
from mpd.store.spent import Meter

if TYPE_CHECKING:
    from mpd.store.table import Identity

MEANING = ("kind", "version", "settings", "inputs")  # what a fingerprint is taken of


def fingerprint(
    kind: str, version: Version, settings: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """Digest of what an artifact means; 32 hexadecimal digits.

    `settings` hold only what can change its content; `inputs` are content digests.
    """
    meaning = {"kind": kind, "version": version, "settings": settings, "inputs": inputs}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:32]


class Output(ABC):
    """One artifact of a stage. The fingerprint is taken of its `meaning`."""

    kind: str
    version: Version
    path: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def meaning(self) -> dict[str, Any]:
        """Kind, version, settings and digests of inputs, as in the note of a stored artifact."""
        return {name: getattr(self, name) for name in MEANING}

    @property
    def suffix(self) -> str:
        """The suffix of the stored file; a folder has none."""
        return self.path.suffix

    @abstractmethod
    def build(self, fresh: Path, scratch: Path, meter: Meter) -> None:
        """Compute the artifact to the path `fresh`; `scratch`, around it, outlives a kill."""


@dataclass(frozen=True)
class TableOutput(Output):
    """A table, computed in parts.

    `identity` goes to the footer: what a reader must be able to refuse on.
    """

    artifact: Artifact
    path: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    compute: Callable[[Parts], None]
    identity: "Identity" = field(default_factory=dict)

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The name of the artifact."""
        return self.artifact.name

    @property
    def version(self) -> Version:  # type: ignore[override]
        """The version of its columns and of what they mean."""
        return self.artifact.version

    @property
    def suffix(self) -> str:
        """That of Parquet, whatever the path of the output ends in: one entry for one meaning."""
        return ".parquet"

    def build(self, fresh: Path, scratch: Path, meter: Meter) -> None:
        """Compute the missing parts; each is appended to the table as soon as it is there."""
        from mpd.store import table

        with table.joining(fresh, self.artifact, self.identity) as append:
            self.compute(Parts(scratch, self.artifact, self.identity, meter, append))


@dataclass(frozen=True)
class FileOutput(Output):
    """A file that is no table, such as a report; `compute(path)` writes it."""

    kind: str
    version: Version
    path: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    compute: Callable[[Path], None]

    def build(self, fresh: Path, scratch: Path, meter: Meter) -> None:
        """Compute the file from nothing."""
        fresh.unlink(missing_ok=True)  # left by a killed run, perhaps another user's
        self.compute(fresh)


@dataclass(frozen=True)
class FolderOutput(Output):
    """A folder, linked file by file; `compute(folder, scratch)` fills it."""

    kind: str
    version: Version
    path: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    compute: Callable[[Path, Path], None]

    @property
    def suffix(self) -> str:
        """None: the path of a folder may have a dot in it."""
        return ""

    def build(self, fresh: Path, scratch: Path, meter: Meter) -> None:
        """Compute the folder from nothing but what is in `scratch`."""
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        self.compute(fresh, scratch)


Outputs = Generator[Output, Path | None, None]


def take_each(outputs: Outputs, take: Callable[[Output], Path | None]) -> None:
    """Give each output of a stage to `take`, and the stage the path that `take` returns.

    The stage is closed in the end, also where `take` raises: it may own processes.
    """
    with closing(outputs):
        path: Path | None = None
        while True:
            try:
                output = outputs.send(path)
            except StopIteration:  # the end of the stage; one that `take` raises is an error
                return
            path = take(output)
