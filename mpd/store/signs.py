"""Signs for characters that cannot be seen, and that a terminal or a page would obey.

Control characters move the cursor or rename the window; marks of direction reorder what stands
beside them.
"""

MAX_LINE = 2_000  # characters of one line of a message
MAX_QUOTED = 200  # characters of a value in a message

_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
SIGNS = {chr(code): f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
SIGNS |= {chr(code): f"\\u{code:04x}" for code in (*_DIRECTIONS, 0x2028, 0x2029)}
SIGNS |= {" ": "␣", "\n": "↵", "\t": "⇥"}
_VISIBLE = str.maketrans(SIGNS)
_HARMLESS = str.maketrans({sign: SIGNS[sign] for sign in set(SIGNS) - set(" \t\n")})


def visible(text: str) -> str:
    """A text with signs for the characters that cannot be seen."""
    return text.translate(_VISIBLE)


def harmless(message: str) -> str:
    """A message that may quote rows and texts, as it goes to a terminal or a log.

    Space, tabs and lines stay; what else cannot be seen becomes a sign. Lines of more than
    MAX_LINE characters lose their middle.
    """
    lines = message.translate(_HARMLESS).split("\n")
    return "\n".join(line if len(line) <= MAX_LINE else _cut(line) for line in lines)


def one_line(text: str) -> str:
    """A harmless text in one line: a sign for each of its line breaks."""
    return harmless(text).replace("\n", SIGNS["\n"])


def _cut(line: str) -> str:
    half = MAX_LINE // 2
    return f"{line[:half]} [{len(line) - 2 * half} characters left out] {line[-half:]}"


def quoted(value: object) -> str:
    """The Python spelling of a value in a message; the start of a long one."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}… ({len(text)} characters)"
