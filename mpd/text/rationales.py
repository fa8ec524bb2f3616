r"""Structural rationales: a path of named steps with one derivation each, under a budget.

The schema of arXiv 2605.07139 (D-RPC), without its bank of paths. A teacher writes it as JSON:

    {"route": {"category": "Arithmetic", "intent": ["sum of prices"], "difficulty": 1, "budget": 2,
               "reasoning_path": ["AddPrices", "SubtractDiscount"]},
     "rationale": {"AddPrices": "1+3=4", "SubtractDiscount": "4-2=2"}, "ans": "2"}
"""

import json
import re
from dataclasses import dataclass
from typing import Any

BUDGETS = {1: 2, 2: 3, 3: 3}  # steps, by difficulty
_NAME = re.compile(r"[A-Z][A-Za-z]*")
# What JSON makes of LaTeX whose backslashes were not doubled (\times, \beta, \frac, \rho, \neq,
# \neg, \not, \notin and \nabla; \nu and \ne may be lines of their own), and of half an escaped
# emoji, which no tokenizer takes.
_SPOILT = re.compile("[\t\b\f\r\ud800-\udfff]|\n(?:eq|eg|ot|otin|abla)(?![A-Za-z])")


@dataclass(frozen=True)
class Rationale:
    """The steps, each a name and its derivation, and the final answer."""

    steps: tuple[tuple[str, str], ...]
    answer: str

    @property
    def reasoning(self) -> str:
        """The steps as text, a paragraph each; the route is no part of it."""
        return "\n\n".join(f"{name}: {derivation}" for name, derivation in self.steps)

    @property
    def boxed(self) -> str:
        r"""The answer in a \boxed{}."""
        return self.answer if r"\boxed{" in self.answer else rf"\boxed{{{self.answer}}}"


def rationale_of(text: str) -> Rationale | None:
    """The rationale that a teacher's text is; None where it does not keep to the schema.

    Text around the outermost braces is ignored. The path has as many steps as the budget, which the
    difficulty decides; names of steps are letters and begin with a capital; `rationale` has the
    steps of the path in its order, and nothing is empty.
    """
    first, last = text.find("{"), text.rfind("}")
    try:
        value = json.loads(
            text[first : last + 1],
            object_pairs_hook=_without_repeats,
            parse_constant=_refuse,
            strict=False,
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("rationale"), dict):
        return None
    steps, answer = value["rationale"], value.get("ans")
    if not _keeps_to(value.get("route"), list(steps)):
        return None
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    if not isinstance(answer, str) or not all(map(_is_text, (*steps.values(), answer))):
        return None
    return Rationale(tuple((name, text.strip()) for name, text in steps.items()), answer.strip())


def _keeps_to(route: Any, names: list[str]) -> bool:
    """Whether these are the steps of a route, within its budget."""
    if not isinstance(route, dict):
        return False
    difficulty, budget = route.get("difficulty"), route.get("budget")
    if type(difficulty) is not int or type(budget) is not int:
        return False
    if not route.get("category") or not route.get("intent"):
        return False
    fits = BUDGETS.get(difficulty) == budget == len(names)
    return fits and route.get("reasoning_path") == names and all(map(_NAME.fullmatch, names))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not _SPOILT.search(value)


def _refuse(constant: str) -> None:
    """Raises ValueError: NaN and Infinity are no JSON."""
    raise ValueError(f"{constant} is no JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises ValueError where two of its keys are the same."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key occurs twice")
    return value
