"""Sentences that state an answer: "Answer: 5", "Final answer — 5", "So the answer is 5."."""

import re

_KIND = r"(?:(?:final|correct|right|exact)[ \t]+){0,2}"
_HENCE = r"(?:(?:so|thus|hence|therefore)[ \t]*,?[ \t]*)?"
# What stands before "answer" at the start of a line: marks, emoji, and a conclusion's first word.
_START = rf"^(?:[^\w\n]|_){{0,80}}{_HENCE}"
_MARK = r"(?:[:：]|=+>?|[→⇒⟹—―]|[-–]+(?=[ \t]))"
_LABEL = rf"(?:the[ \t]+)?{_KIND}(?:answer|ans\b\.?)[ \t*_`]*{_MARK}"
_SENTENCE = rf"the[ \t]+{_KIND}(?:answer|option|choice)[ \t]+is\b[ \t]*:?"
_STATEMENT = re.compile(
    rf"{_START}{_LABEL}(.*)$"
    rf"|(?:{_START}|(?<=[.!?:,] )(?:and[ \t]+)?{_HENCE}){_SENTENCE}(.*)$"
    rf"|{_START}answer[ \t]+is\b[ \t]*:?(.*)$"
    rf"|^[ \t>]*(?:#+[ \t]*|\*\*|__)(?:the[ \t]+)?{_KIND}answer[ \t*_]*()$",
    re.IGNORECASE | re.MULTILINE,
)
_AGAIN = re.compile(rf"(?:^|(?<=[.!?:,] ))(?:and[ \t]+)?{_HENCE}{_SENTENCE}", re.IGNORECASE)
_PHRASE = re.compile(
    rf"(?:{_HENCE}{_SENTENCE}|{_LABEL}|answer[ \t]+is\b:?)[ \t]*(.*)", re.IGNORECASE | re.DOTALL
)
_TAG = re.compile(r"<(/?)answer>\s*", re.IGNORECASE)
_ALL_TAGGED = re.compile(r"<answer>(.{1,500})</answer>", re.IGNORECASE | re.DOTALL)
_HOPE = re.compile(r"[.!]?(?<![ \t])[ \t]+I hope (?:it|this)(?: is|'s| helps)\b.*$", re.IGNORECASE)
_END = r"[\s*`\u2700-\u27bf\ufe0f\U0001f000-\U0001faff]"
_ENDING = re.compile(rf"(?<!{_END})(?:{_END}|(?<=[*`])\.)+$")
_ADVERB = re.compile(
    r"(?:therefore|thus|then|hence|clearly|simply|just|indeed|obviously|equal to|given by)[ \t,]+",
    re.IGNORECASE,
)
_REASON = re.compile(r"(?<=\S)(?:,[ \t]+|[ \t]+)(?:because|since|which|as we|by the)\b.*$")
_REST = re.compile(r"(?<=\S)[.!][ \t]+(?=[A-Z])(.*)$")
_RETRACTION = re.compile(
    r"\b(?:wait|actually|no|not|however|but|oops|sorry|mistake|rather|instead|or)\b", re.IGNORECASE
)
# Statements about the answer, which do not say what it is.
_ABOUT = re.compile(
    r"(?:not|wrong|incorrect|in|inside|to|that|this|now|correct|right|as|on|at|of|also|still|shown"
    r"|given|found|obtained|consistent|reasonable|valid|verified|confirmed|unknown|unclear|below"
    r"|above|what|how|if|when|the same)\b",
    re.IGNORECASE,
)
_MAX_WORDS = 3  # of a stated answer without digits and formulas
_MAX_BLOCK = 300  # characters of an answer below its heading, or between tags


def stated_answer(text: str) -> str | None:
    """What the last statement of an answer says; None where there is none.

    That is the rest of a line behind "Answer" and a colon, a dash or the like, the rest of a
    sentence "The answer is", or the one paragraph below the heading "Answer" that ends the text.
    `<answer>...</answer>` goes before all of these.
    """
    tagged = _last_tagged(text)
    if tagged is not None:
        return _cleaned(" ".join(tagged.split())) or None
    for match in reversed(list(_STATEMENT.finditer(text))):
        label, sentence, short, _ = match.groups()
        answer = _cleaned(label) if label is not None else _said(sentence or short or "")
        if not answer and not sentence and not short:
            block = text[match.end() : match.end() + _MAX_BLOCK + 1].strip()
            is_last = match.end() + _MAX_BLOCK >= len(text)
            answer = _cleaned(" ".join(block.split())) if is_last and "\n\n" not in block else ""
        if answer:
            return answer
    return None


def without_phrase(text: str) -> str:
    """The text without "Answer:" or "The answer is" at its start, or `<answer>` around it."""
    phrase = _ALL_TAGGED.fullmatch(text) or _PHRASE.fullmatch(text)
    return _cleaned(phrase[1]) if phrase and phrase[1].strip() else text


def _last_tagged(text: str) -> str | None:
    """What stands between the last `<answer>` and `</answer>`; None where nothing does.

    Where tags open several times before one closes, the first counts that is near enough. One pass:
    linear in the length of the text.
    """
    content = None
    starts: list[int] = []  # of contents whose tags are open
    for tag in _TAG.finditer(text):
        if not tag[1]:
            starts.append(tag.end())
        elif starts:
            inside = text[starts[0] : tag.start()].rstrip()
            end = starts[0] + len(inside)
            near = next((start for start in starts if end - start <= _MAX_BLOCK), None)
            if near is not None and tag.start() > near - 1:
                content = text[near:end]
            starts = []
    return content


def _said(sentence: str) -> str:
    """The answer in what follows "the answer is"; "" where that does not say one."""
    is_marked = sentence.lstrip()[:1] in ("*", "$", "`", "\\")
    answer = _cleaned(sentence)
    if answer.endswith("?") or _ABOUT.match(answer):
        return ""
    is_formula = is_marked or re.search(r"[\d\\$]", answer)
    return answer if is_formula or len(answer.split()) <= _MAX_WORDS else ""


def _cleaned(line: str) -> str:
    """A stated answer without marks around it, reasons and further sentences."""
    line = _AGAIN.split(line.strip(" \t*_`"))[-1]
    line = _HOPE.sub("", line).strip(" \t\r*`")
    line = _ENDING.sub("", line)
    if line.count("**") == 1:  # the other one stood at an end
        line = line.replace("**", "")
    line = _ADVERB.sub("", line, count=1) if _ADVERB.match(line) else line
    line = _REASON.sub("", line)
    rest = _REST.search(line)
    if rest and not _RETRACTION.search(rest[1]):
        line = line[: rest.start()]
    formula = re.fullmatch(r"(\$[^$]+\$)\.", line)
    line = formula[1] if formula else line
    for opening, closing in ("()", "[]"):
        if line.endswith(closing) and line.count(closing) == line.count(opening) + 1:
            line = line[:-1]
    return _ENDING.sub("", line)
