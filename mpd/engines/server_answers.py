"""What a server answered, checked: each fault is a ValueError with what was expected and found."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from mpd.engines.base import Completion

EXCERPT = 300  # characters of an answer that a message shows


def excerpt(value: object) -> str:
    """The beginning of a value in one printable line."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= EXCERPT else text[:EXCERPT] + " …"


def require(is_right: bool, expected: str, value: object) -> None:
    """Raise ValueError with what was expected and found, unless it is right."""
    if not is_right:
        raise ValueError(f"expected {expected}, found {excerpt(value)}")


def is_integer(value: object) -> bool:
    """Whether a value of JSON is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_logprob(value: object) -> bool:
    """Whether a value of JSON is a finite number of at most 0."""
    is_number = is_integer(value) or isinstance(value, float)
    return is_number and -sys.float_info.max <= value <= 0  # type: ignore[operator]


def answered_object(content: bytes) -> dict[str, Any]:
    """The object that an answer is."""
    value: Any
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = content.decode("utf-8", "replace")
    require(isinstance(value, dict), "a JSON object", value)
    return value


def context_lengths(content: bytes) -> dict[str, int | None]:
    """The tokens that each model of a list of models takes, None where the server does not say."""
    answer = answered_object(content)
    cards: Any = answer.get("data")
    require(isinstance(cards, list), "a list of models under data", answer)
    lengths: dict[str, int | None] = {}
    for card in cards:
        is_named = isinstance(card, dict) and isinstance(card.get("id"), str)
        require(is_named and card["id"].isprintable(), "a model with an id", card)
        length = card.get("max_model_len")
        require(length is None or is_integer(length), "a whole number as max_model_len", length)
        lengths[card["id"]] = length
    return lengths


def only_choice(content: bytes) -> dict[str, Any]:
    """The one choice of an answer to a request for one completion."""
    answer = answered_object(content)
    choices: Any = answer.get("choices")
    require(isinstance(choices, list), "a list of choices", answer)
    require(len(choices) == 1 and isinstance(choices[0], dict), "one choice", choices)
    return choices[0]


def prompt_ids_of(choice: dict[str, Any]) -> list[int]:
    """The ids that the server made of a prompt."""
    ids: Any = choice.get("prompt_token_ids")
    require(
        isinstance(ids, list) and all(map(is_integer, ids)),
        "a list of ids as prompt_token_ids",
        ids,
    )
    return ids


def completion_of(
    choice: dict[str, Any],
    prompt_ids: list[int],
    max_new_tokens: int,
    vocabulary_size: int,
    stop_ids: Sequence[int],
) -> Completion:
    """The completion in a choice, which has to be one that was asked for."""
    echo = choice.get("prompt_token_ids")
    require(echo is None or echo == prompt_ids, "the ids of the prompt as prompt_token_ids", echo)
    ids: Any = choice.get("token_ids")
    require(isinstance(ids, list), "a list of ids as token_ids", ids)
    if not 1 <= len(ids) <= max_new_tokens:
        raise ValueError(f"expected 1 to {max_new_tokens} token_ids, found {len(ids)}")
    for id in ids:
        is_right = is_integer(id) and 0 <= id < vocabulary_size
        require(is_right, f"ids from 0 to {vocabulary_size - 1} as token_ids", id)
    _require_end(choice.get("finish_reason"), ids, max_new_tokens, stop_ids)
    return Completion(ids, _logprobs_of(choice, len(ids)), choice["finish_reason"])


def _require_end(
    reason: object, ids: list[int], max_new_tokens: int, stop_ids: Sequence[int]
) -> None:
    """Raise ValueError unless a completion ends at its first stop id, or at the limit."""
    require(reason in ("stop", "length"), "stop or length as finish_reason", reason)
    first = next((place for place, id in enumerate(ids, 1) if id in stop_ids), None)
    if first is not None and (first != len(ids) or reason != "stop"):
        raise ValueError(
            f"expected an end with finish_reason stop at stop id {ids[first - 1]}, token {first}, "
            f"found {reason} after {len(ids)} tokens"
        )
    if first is None and (len(ids) != max_new_tokens or reason != "length"):
        raise ValueError(
            f"expected a stop id at the end, or finish_reason length at {max_new_tokens} tokens, "
            f"found {reason} after {len(ids)} tokens without one"
        )


def _logprobs_of(choice: dict[str, Any], length: int) -> list[float]:
    """The log-probabilities of a completion of so many ids."""
    logprobs: Any = choice.get("logprobs")
    require(isinstance(logprobs, dict), "token_logprobs under logprobs", logprobs)
    values: Any = logprobs.get("token_logprobs")
    require(isinstance(values, list), "a list of numbers as token_logprobs", values)
    if len(values) != length:
        raise ValueError(f"expected {length} token_logprobs, one per id, found {len(values)}")
    for value in values:
        require(is_logprob(value), "numbers of at most 0 as token_logprobs", value)
    return [float(value) for value in values]
