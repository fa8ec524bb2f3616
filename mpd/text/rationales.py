r"""Structural rationales: a path of named steps with one derivation each, under a budget.

The schema of arXiv 2605.07139 (D-RPC). A teacher writes it as JSON:

    {"route": {"category": "Arithmetic", "intent": ["sum of prices"], "difficulty": 1, "budget": 2,
               "reasoning_path": ["AddPrices", "SubtractDiscount"]},
     "rationale": {"AddPrices": "1+3=4", "SubtractDiscount": "4-2=2"}, "ans": "2"}

It may have been given the route, from a bank of paths: then it may change the path alone.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

BUDGETS = {1: 2, 2: 3, 3: 3}  # steps, by difficulty
_OBJECT = re.compile(r'\{\s*"')  # that of LaTeX is followed by something else
_NAME = re.compile(r"[A-Z][A-Za-z]*")
# What JSON makes of LaTeX whose backslashes were not doubled (\times, \beta, \frac, \rho, \neq,
# \neg, \not, \notin and \nabla; \nu and \ne may be lines of their own), and of half an escaped
# emoji, which no tokenizer takes.
_SPOILT = re.compile("[\t\b\f\r\ud800-\udfff]|\n(?:eq|eg|ot|otin|abla)(?![A-Za-z])")


# What a teacher that was given a route may not change.
_FIXED = ("category", "intent", "difficulty", "budget")


@dataclass(frozen=True)
class Rationale:
    """The steps, each a name and its derivation, the final answer, and the route as written."""

    steps: tuple[tuple[str, str], ...]
    answer: str
    route: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str, ...]:
        """The names of the steps."""
        return tuple(name for name, _ in self.steps)

    @property
    def reasoning(self) -> str:
        """The steps as text, a paragraph each; the route is no part of it."""
        return "\n\n".join(f"{name}: {derivation}" for name, derivation in self.steps)

    @property
    def boxed(self) -> str:
        r"""The answer in a \boxed{}."""
        return self.answer if r"\boxed{" in self.answer else rf"\boxed{{{self.answer}}}"


def route_of(category: str, intent: str, path: Sequence[str]) -> str:
    """The route along a path of a bank, as JSON."""
    route = {
        "category": category,
        "intent": [intent],
        "difficulty": 1 if len(path) <= BUDGETS[1] else 2,
        "budget": len(path),
        "reasoning_path": list(path),
    }
    return json.dumps(route, ensure_ascii=False)


def rationale_of(text: str, given: str | None = None) -> Rationale | None:
    """The rationale that a teacher's text is; None where it does not keep to the schema.

    As `written_rationale`. The path has as many steps as the budget, which the difficulty decides.
    Where the teacher was `given` a route, as JSON, it has kept all of it but the path, and that has
    at most as many steps as the budget.
    """
    rationale = written_rationale(text)
    if rationale is None:
        return None
    route, num_steps = rationale.route, len(rationale.steps)
    if given is not None:
        expected = json.loads(given)
        kept = all(route[key] == expected[key] for key in _FIXED)
        return rationale if kept and num_steps <= route["budget"] else None
    fits = BUDGETS.get(route["difficulty"]) == route["budget"] == num_steps
    return rationale if fits else None


def written_rationale(text: str) -> Rationale | None:
    """The rationale that a text is, whatever its budget; None where it is none.

    Text around the outermost braces is ignored. Names of steps are letters and begin with a
    capital; `rationale` has the steps of the path in its order, and nothing is empty.
    """
    first, last = text.find("{"), text.rfind("}")
    return _rationale_at(text[first : last + 1], 0) if first >= 0 else None


def last_rationale(text: str) -> Rationale | None:
    """The rationale with which a text ends, whatever thinking comes before; None without one.

    Nothing but the last closing brace ends it. At most one opening brace begins a rationale that
    ends there, so that of a rewrite with the status ok it is what compress read after the thinking.
    """
    text = text[: text.rfind("}") + 1]
    starts = [match.start() for match in _OBJECT.finditer(text)]
    found = (_rationale_at(text, start) for start in reversed(starts))
    return next((rationale for rationale in found if rationale is not None), None)


def _rationale_at(text: str, start: int) -> Rationale | None:
    """The rationale that all of a text from a position on is; None where it is none."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    if end != len(text) or not isinstance(value, dict):
        return None
    if not isinstance(value.get("rationale"), dict):
        return None
    steps, route, answer = value["rationale"], value.get("route"), value.get("ans")
    if not _is_route(route, list(steps)):
        return None
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    if not isinstance(answer, str) or not all(map(_is_text, (*steps.values(), answer))):
        return None
    named = tuple((name, text.strip()) for name, text in steps.items())
    return Rationale(named, answer.strip(), route)


def _is_route(route: Any, names: list[str]) -> TypeGuard[dict[str, Any]]:
    """Whether it is a route along the steps of these names."""
    if not isinstance(route, dict):
        return False
    if any(type(route.get(key)) is not int for key in ("difficulty", "budget")):
        return False
    if not route.get("category") or not route.get("intent"):
        return False
    return bool(names) and route.get("reasoning_path") == names and all(map(_NAME.fullmatch, names))


def _is_text(value: Any) -> bool:
    """Whether a value says something, and lost nothing in JSON."""
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


_DECODER = json.JSONDecoder(
    object_pairs_hook=_without_repeats, parse_constant=_refuse, strict=False
)
