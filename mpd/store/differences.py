"""How an artifact would differ from the one that is linked now, by the note of that one."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mpd.store.notes import note_of, read_note
from mpd.store.schema import Version

MAX_SHOWN = 60  # characters of a setting that are shown

Note = Mapping[str, Any]  # kind, version, settings and inputs, as the store wrote them


def note_beside(output: Path) -> Note:
    """The note of what is linked to an output, a file or a folder; empty where there is none.

    Raises ValueError where it is damaged.
    """
    note = note_of(output)
    return read_note(note, output) if note else {}


def differences(
    note: Note, settings: Mapping[str, Any], version: Version, name_of: Callable[[str], str]
) -> list[str]:
    """Sentences on settings that differ from those in a note, and on another version.

    `name_of` gives the key in config.yaml of a setting by its path, such as chat.close. There are
    no sentences without a note.
    """
    if not note:
        return []
    before, now = flat(note["settings"]), flat(settings)
    sentences = [
        "{} was {}, is {}".format(name_of(key), *_texts(before, now, key))
        for key in sorted({**before, **now})
        if key not in before or key not in now or before[key] != now[key]
    ]
    if version != note["version"]:
        sentences.append(f"version of {note['kind']} was {note['version']}, is {version}")
    return sentences


def other_content(note: Note, inputs: Mapping[str, str]) -> list[str]:
    """A sentence on the inputs whose content is not that of the note, if there is a note."""
    changed = [key for key in inputs if note and note["inputs"].get(key) != inputs[key]]
    return [f"changed inputs: {', '.join(changed)}"] if changed else []


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys: {"chat": {"open": ""}} gives {"chat.open": ""}."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, dict) and value
        result |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return result


def _texts(before: Mapping[str, Any], now: Mapping[str, Any], key: str) -> list[str]:
    """Both values as JSON, long ones from where they begin to differ."""
    texts = [
        json.dumps(values[key], ensure_ascii=False) if key in values else "not there"
        for values in (before, now)
    ]
    if max(map(len, texts)) <= MAX_SHOWN:
        return texts
    pairs = enumerate(zip(*texts, strict=False))
    first = next((place for place, (one, other) in pairs if one != other), min(map(len, texts)))
    start = max(first - MAX_SHOWN // 3, 0)
    return [
        ("…" if start else "")
        + text[start : start + MAX_SHOWN]
        + ("…" if len(text) > start + MAX_SHOWN else "")
        for text in texts
    ]
