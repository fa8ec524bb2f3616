"""What ends a turn of a model: the control token that its chat template puts behind an answer."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ANSWER = "probe-7391"
QUESTION = {"role": "user", "content": "2+2"}
DAY = date(2025, 1, 31)  # of templates that put the day into prompts


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
    from jinja2 import TemplateError

    messages = [{"content": ANSWER, **turn} for turn in turns]
    try:
        rendered = tokenizer.apply_chat_template(
            messages, add_generation_prompt=False, tokenize=False, strftime_now=DAY.strftime
        )
    except (TemplateError, TypeError, ValueError):  # it may allow only prompts
        return None
    _, found, tail = str(rendered).rpartition(ANSWER)
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    tail = tail.lstrip()
    ends = [text for text in added if found and text.strip() and tail.startswith(text)]
    return added[max(ends, key=len)] if ends else None
