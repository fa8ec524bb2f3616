"""Chat templates: turns as they write them, and the control token that ends a turn."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ANSWER = "probe-7391"
QUESTION = {"role": "user", "content": "2+2"}
FAILURES = TypeError, AttributeError, LookupError, ArithmeticError, RecursionError  # in a template
DAY = date(2025, 1, 31)  # of templates that put the day into prompts


def render(
    tokenizer: "PreTrainedTokenizerFast", messages: list[dict[str, str]], **names: Any
) -> str:
    """Messages as the chat template writes them; it also sees `names`.

    Jinja's sandbox runs it. Raises ValueError with one sentence where it fails, or wants more than
    the sandbox allows.
    """
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **names))
    except (TemplateError, *FAILURES) as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{tokenizer.name_or_path}: its chat template fails ({words}); take that of the "
            "model's instruct version"
        ) from error


def probe_turn_end(tokenizer: "PreTrainedTokenizerFast", stop_ids: Sequence[int]) -> int | None:
    """The id that the chat template writes behind an assistant's turn.

    Where it writes none, turns may end with one of `stop_ids` that begins the user's next turn, as
    in GLM's. None where the template writes neither, or no assistant's turn.
    """
    for following in ([], [QUESTION]):
        end = _token_behind_answer(tokenizer, [QUESTION, {"role": "assistant"}, *following])
        if end is not None and (not following or end in stop_ids):
            return end
    return None


def _token_behind_answer(
    tokenizer: "PreTrainedTokenizerFast", turns: list[dict[str, str]]
) -> int | None:
    """The control token behind the answer of a conversation as the chat template writes it."""
    messages = [{"content": ANSWER, **turn} for turn in turns]
    try:
        rendered = render(
            tokenizer, messages, add_generation_prompt=False, strftime_now=DAY.strftime
        )
    except ValueError:  # it may allow only prompts
        return None
    _, found, tail = rendered.rpartition(ANSWER)
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    tail = tail.lstrip()
    ends = [text for text in added if found and text.strip() and tail.startswith(text)]
    return added[max(ends, key=len)] if ends else None
