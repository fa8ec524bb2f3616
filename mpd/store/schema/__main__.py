"""The artifact reference of docs/artifacts.md, as `python -m mpd.store.schema` prints it."""

import sys

from mpd.store.schema import ARTIFACTS


def artifact_reference() -> str:
    """The artifact reference, docs/artifacts.md: a table for each artifact."""
    sections = []
    for artifact in ARTIFACTS:
        key = ", ".join(f"`{name}`" for name in artifact.key)
        rows = "\n".join(
            f"| `{column.name}` | {column.dtype}{', null' if column.nullable else ''} "
            f"| {column.unit} | {column.description} |"
            for column in artifact.columns
        )
        sections.append(
            f"## {artifact.name}\n\n"
            f"Version {artifact.version}, key {key}: {artifact.description}.\n\n"
            f"| column | type | unit | meaning |\n| --- | --- | --- | --- |\n{rows}\n"
        )
    return "\n".join(sections)


if __name__ == "__main__":
    # A document is UTF-8, whatever the terminal.
    sys.stdout.buffer.write(f"{artifact_reference()}\n".encode())
