r"""Plain and Unicode spelling of mathematics as LaTeX: `2*pi`, `x**2`, `sqrt(3)`, √2, ½, ∞, 60°."""

import re

from mpd.text.grading.exact import repeating

_FRACTIONS = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5),
    "⅗": (3, 5), "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7), "⅛": (1, 8), "⅜": (3, 8),
    "⅝": (5, 8), "⅞": (7, 8), "⅑": (1, 9), "⅒": (1, 10),
}  # fmt: skip
_SYMBOLS = {
    "∞": r"\infty ", "π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∙": r"\cdot ", "÷": r"\div ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ",
    "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∉": r"\notin ",
    "∅": r"\emptyset ", "±": r"\pm ", "∓": r"\mp ", "°": r"^{\circ}", "∘": r"\circ ",
    "≈": r"\approx ", "≅": r"\approx ", "∖": r"\setminus ", "⊂": r"\subset ", "∠": r"\angle ",
    "△": r"\triangle ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ",
    "δ": r"\delta ", "ε": r"\epsilon ", "θ": r"\theta ", "λ": r"\lambda ", "μ": r"\mu ",
    "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi ", "ω": r"\omega ",
    "Δ": r"\Delta ", "Σ": r"\Sigma ", "Ω": r"\Omega ", "⟨": r"\langle ", "⟩": r"\rangle ",
    "−": "-", "﹣": "-", "⁄": "/", "∕": "/", "∗": "*", "，": ",", "’": "'", "′": "'",
    "✅": "", "✓": "", "✔": "", "\ufe0f": "", "\u200b": "", "\ufeff": "", "\u2061": "",
    "\u2062": "", "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ",
    "\N{THIN SPACE}": " ",
}  # fmt: skip
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_CHARACTERS: dict[int, int | str] = {
    **_FULL_WIDTH,
    **{ord(sign): latex for sign, latex in _SYMBOLS.items()},
    **{ord(sign): rf"\frac{{{a}}}{{{b}}}" for sign, (a, b) in _FRACTIONS.items()},
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_LEADING_DASH = re.compile(r"(?:(?<=^)|(?<=[(\[{,=]))(\s*)[\u2010-\u2014](?=\s*[\d.\\√A-Za-z])")
_ROOT = re.compile(r"([√∛∜])\s*(?:(\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z])|\\pi )|(?=([({])))")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}

_NAMES = "arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|pi|theta|alpha|beta|infty"
_TEXT = re.compile(r"(\\(?:text[a-z]*|math[a-z]+|mbox|operatorname)\s*\{[^{}]*\})")
_NAME = re.compile(rf"(?<![\\A-Za-z])({_NAMES})(?![A-Za-z])")
_INFINITY = re.compile(r"(?<![\\A-Za-z])(?:infinity|oo|inf)(?![A-Za-z])")
_ROOT_NAME = re.compile(r"(?<![\\A-Za-z])sqrt *(?:(?=\()|(\d+))")
_EXPONENTIAL = re.compile(r"(?<![\\A-Za-z])exp *(?=\()")
_POWER = re.compile(r" ?(?:\*\*|\^) ?(?=\()")
_POWER_OF_NUMBER = re.compile(r" ?\*\* ?([-+]?(?:\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z])))")
_ZEROS = re.compile(r"(?<![\d.])(\d+)\.0+(?![\d\\(])")
_REPEATING = re.compile(r"\d*\.\d*(?:\\overline|\\bar)\s*(?:\{\d+\}|\d)", re.ASCII)
_MIXED = re.compile(
    r"(?<![\w.^}\])])(?<!frac )(?<!binom )(?<!sqrt )\b(\d+) +(\d+) ?/ ?(\d+)(?![\d^!(\w]|[.,]\d)",
    re.ASCII,
)
_DEGREES = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc)(?: ?\^ ?\{?\d\}?)?) *(?:\\left)?[({]? *(\d+(?:\.\d+)?) *"
    r"\^ ?\{? *\\circ *\}? *(?:\\right)?[)}]?"
)
# A logarithm without a base may have base 10 or e: it has one that no number is.
_LOG = re.compile(r"\\log(?![A-Za-z]|\s*_)")
_ARGUMENT = r"(?:(\\(?:pi|theta|alpha|beta)(?![A-Za-z])|[A-Za-z0-9])|(\{[^{}]*\}))"
_FRACTION = re.compile(rf"\\[dtc]?frac(?![A-Za-z])\s*{_ARGUMENT}\s*{_ARGUMENT}")


def from_unicode(text: str) -> str:
    """The text with LaTeX in place of Unicode's mathematical characters; ASCII stays as it is."""
    if text.isascii():
        return text
    text = _LEADING_DASH.sub(r"\1-", text)
    text = _ROOT.sub(lambda m: _ROOTS[m[1]] + (f"{{{m[2]}}}" if m[2] else "\0"), text)
    text = _replace_marked(text)
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _SUBSCRIPT.sub(lambda m: f"_{{{m[0].translate(_SUBSCRIPTS)}}}", text)
    return text.translate(_CHARACTERS)


def to_latex(text: str) -> str:
    r"""The text with plain spelling as LaTeX: `2*pi` as `2\cdot \pi `, `x**2` as `x^{2}`.

    Mixed numbers become sums, and repeating decimals fractions. What stands in `\text{...}` stays.
    """
    parts = _TEXT.split(text.replace("\0", ""))  # every other one is such a text
    return "".join(part if index % 2 else _to_latex(part) for index, part in enumerate(parts))


def _to_latex(text: str) -> str:
    text = _FRACTION.sub(
        lambda m: rf"\frac{m[2] or '{' + m[1] + '}'}{m[4] or '{' + m[3] + '}'}", text
    )
    text = _REPEATING.sub(lambda match: _fraction(match[0]), text)
    text = _MIXED.sub(_sum, text)
    text = _ZEROS.sub(r"\1", text)
    text = _ROOT_NAME.sub(lambda m: r"\sqrt" + (f"{{{m[1]}}}" if m[1] else "\0"), text)
    text = _EXPONENTIAL.sub("e^\0", text)
    text = _POWER_OF_NUMBER.sub(r"^{\1}", text)
    text = _POWER.sub("^\0", text)
    text = _replace_marked(text)
    text = text.replace("**", "^").replace("*", r"\cdot ")
    text = text.replace("<=", r"\le ").replace(">=", r"\ge ")
    text = _INFINITY.sub(r"\\infty ", text)
    text = _NAME.sub(r"\\\1 ", text)
    text = _DEGREES.sub(r"\1\\left(\\frac{\2\\pi }{180}\\right)", text)
    return _LOG.sub(r"\\log_{\\beta }", text)


def _fraction(text: str) -> str:
    value = repeating(text)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _sum(match: re.Match[str]) -> str:
    integer, above, below = (int(digits) for digits in match.groups())
    if not 0 < above < below:
        return match[0]
    return rf"\left({integer}+\frac{{{above}}}{{{below}}}\right)"


def _replace_marked(text: str) -> str:
    """Braces in place of each pair of parentheses whose opening one follows a NUL. One pass."""
    if "\0" not in text:
        return text
    characters = list(text)
    open_brackets: list[int] = []
    for index, character in enumerate(text):
        if character in "([{":
            open_brackets.append(index)
        elif character in ")]}" and open_brackets:
            start = open_brackets.pop()
            if text[max(start - 1, 0) : start + 1] == "\0(":
                characters[start], characters[index] = "{", "}"
    return "".join(characters).replace("\0", "")
