r"""What of an answer is no mathematics: choices, words, clock times, and what is misread."""

import re

TEXT = r"\\(?:text(?:bf|rm|it|sf|tt|up|normal)?|math(?:bf|rm|it|sf|tt)|mbox|operatorname)\s*"
TEXT_GROUP = re.compile(rf"{TEXT}\{{((?:[^{{}}]|\\[{{}}])*)\}}")
BLANK = r"(?:\s|\\[ ,;:!]|\\q?quad(?![A-Za-z])|~)"
_LABEL = re.compile(
    rf"(?:(?:option|choice|answer){BLANK}*:?{BLANK}*)?"
    rf"(?:\(\s*([A-J])\s*\)|([A-J])\s*\)|([A-J])(?=[.:]|{BLANK}*$))[.:]?",
    re.IGNORECASE,
)
_OPERATOR = re.compile(r"[=+*/^_!<>]|\\(?:cup|cap|times|cdot|subset|in|le|ge|to|setminus)(?![a-z])")
_CLOCK = re.compile(
    r"(?:(?P<hour>[01]?[0-9]|2[0-4]) ?(?::|\{:\}) ?(?P<minute>[0-5][0-9])"
    r"(?: ?: ?(?P<second>[0-5][0-9]))?|(?P<alone>1[0-2]|0?[1-9])(?= ?[ap]\.? ?m))"
    r" ?(?P<half>[ap]\.? ?m\b\.?)?(?: in the (?:morning|afternoon|evening))?(?: ?o'?clock)?",
    re.IGNORECASE,
)
_BETWEEN_NUMBERS = re.compile(rf"[0-9}}]{BLANK}*({TEXT}\{{[^{{}}]*\}}|[A-Za-z ]+){BLANK}*[0-9]")
_WORD = re.compile(r"[A-Za-zÀ-ÿ]{2,}")
_WORDS = re.compile("[A-Za-z]{2,}(?: [A-Za-z]+)*")
_DROPPED = re.compile(
    r"(?<=[A-Za-z)}\]]) ?(?:'|\^ ?\{? ?\\prime)|\\(?:[lc]?dots|ldots|cdots)(?![A-Za-z])|\.\.|…"
    r"|\d ?\)?_|(?<=[A-Z)\]}])\^ ?\{? ?(?:T|\\top|\\mathrm\{T\})(?![A-Za-z])"
)
_ANGLE = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_DERIVATIVE = re.compile(r"\\[dt]?frac ?\{ ?(?:d|\\partial)[^{}]*\}\{ ?(?:d|\\partial) ?[A-Za-z]")


def without_text_commands(text: str) -> str:
    r"""The text with what `\text{...}` and its kin hold, in place of the command."""
    while (plain := TEXT_GROUP.sub(r" \1 ", text)) != text:
        text = plain
    return " ".join(text.replace("\\ ", " ").split())


def choice(text: str) -> tuple[str, str] | None:
    r"""Letter and content of a multiple choice: ("C", "24") of `\textbf{(C)}\ 24`, ("C", "") of C.

    None where the text does not begin with one capital letter in the form of a label, or where
    what follows could be the rest of a formula.
    """
    plain = re.sub(rf"^{TEXT}\{{([^{{}}]*)\}}|^(\*+|_+)([^*_]+)\2", r"\1\3", text)
    match = _LABEL.match(plain)
    if match is None:
        return None
    letter = match[1] or match[2] or match[3]
    rest = plain[match.end() :]
    content = re.sub(rf"^{BLANK}+", "", rest).strip()
    if not (letter.isupper() or re.fullmatch(r"\([a-j]\)\.?", plain)) or _OPERATOR.match(content):
        return None
    if content and rest == content and plain == text:  # (A)x is a product
        return None
    return None if re.match(rf"(?:or|and|,)(?![a-z])|{_LABEL.pattern}$", content) else (
        letter.upper(), content
    )  # fmt: skip


def same_words(gold: str, answer: str) -> bool | None:
    """Whether two texts are the same words, but for their case; None where they may be formulas.

    Letters in another order are other words (HHT and HTH), where they have capitals or vowels:
    xyz is a product.
    """
    a, b = without_text_commands(gold), without_text_commands(answer)
    if a == b:
        return True
    if {a, b} == {"I", "i"}:  # math-verify reads both as the imaginary unit
        return False
    if not (_WORDS.fullmatch(a) and _WORDS.fullmatch(b)):
        return None
    if a.casefold() == b.casefold():
        if "\\text" in gold + answer or len(a) > 3 or a.casefold() in ("yes", "no"):
            return True
        return True if len(a) > 2 and (a.istitle() or b.istitle()) else None
    is_anagram = sorted(a.casefold()) == sorted(b.casefold()) and " " not in a + b
    is_word = re.search("[A-Zaeiou]", a + b) and (len(a) > 2 or not a.islower())
    return False if is_anagram and is_word else None


def is_misread(text: str) -> bool:
    """Whether math-verify would read something else without a word.

    It drops words between two numbers and multiplies these: 5 feet 3 inches is 15 to it. It drops
    primes, dots that stand for further terms, indices of numbers, transposition, and degrees in an
    angle's function. And all derivatives of one letter by another are 0.
    """
    for match in _BETWEEN_NUMBERS.finditer(text):
        words = set(_WORD.findall(match[1].casefold())) - {"text", "mbox", "mathrm"}
        others = words - {"and", "or"}
        if others and (others == words or match[1].startswith("\\")):
            return True
    if _DERIVATIVE.search(text):
        return True
    return bool(_DROPPED.search(text) or (_ANGLE.search(text) and r"\circ" in text))


def vertices_differ(gold: str, answer: str) -> bool:
    """Whether two texts have the same capitals in other runs: ABC and ACB, AB CD and AC BD."""
    runs = [sorted(re.findall(r"(?<![\\A-Za-z])[A-Z]{2,}(?![A-Za-z])", text))
            for text in (gold, answer)]  # fmt: skip
    letters = [sorted("".join(run)) for run in runs]
    return runs[0] != runs[1] and bool(letters[0]) and letters[0] == letters[1]


def brackets_differ(gold: str, answer: str) -> bool:
    """Whether one text is a set in braces, and the other begins with another bracket."""
    pairs = (gold, answer), (answer, gold)
    return any(
        a.startswith((r"\{", r"\left\{"))
        and b.startswith(("(", "[", r"\left(", r"\left["))
        and not re.search(r"\||\\mid|:|^\\\{\(", a)
        for a, b in pairs
    )


def clock_time(text: str) -> tuple[int, int, str] | None:
    """A time of day as (hour, seconds in the hour, "am", "pm" or ""); None for another text."""
    plain = without_text_commands(text).replace("\\", "").strip()
    if plain.casefold() in ("noon", "12 noon", "12:00 noon"):
        return 12, 0, "pm"
    if plain.casefold() in ("midnight", "12 midnight", "12:00 midnight"):
        return 12, 0, "am"
    match = _CLOCK.fullmatch(plain)
    if match is None:
        return None
    hour = int(match["hour"] or match["alone"])
    half = "" if match["half"] is None else match["half"][0].casefold() + "m"
    seconds = 60 * int(match["minute"] or 0) + int(match["second"] or 0)
    if hour > 12 or hour == 0:
        if half:
            return None
        hour, half = (hour - 12 or 12, "pm") if 12 < hour < 24 else (12, "am")
    return hour, seconds, half
