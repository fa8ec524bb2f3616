"""What ends a turn of a model: the control token that its chat template puts behind an answer."""

from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ANSWER = "probe-7391"
DAY = date(2025, 1, 31)  # of templates that put the day into prompts


def probe_turn_end(tokenizer: "PreTrainedTokenizerFast") -> int | None:
    """The id that the chat template writes behind an assistant's turn.

    None where the template writes none, or no assistant's turn.
    """
    from jinja2 import TemplateError

    messages = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": ANSWER}]
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
