"""Completions read by the tokenizer's own file: what they say, and where their thinking ends.

Without transformers, which loads torch: what grades answers needs neither.
"""

from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from mpd.config.chat import ReadingChat
from mpd.text.completions import end_of_thinking


class Reading:
    """The tokenizer of a model folder, and how its completions are marked up."""

    def __init__(self, folder: Path, chat: ReadingChat) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.delimiter = chat.delimiter

    @cached_property
    def close_ids(self) -> list[int]:
        """The ids that end the thinking; none where the format has no tags."""
        if self.delimiter is None:
            return []
        return self.tokenizer.encode(self.delimiter, add_special_tokens=False).ids

    def text(self, ids: list[int]) -> str:
        """The text of ids, control tokens shown."""
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def thinking_tokens(self, ids: list[int]) -> int:
        """How many ids of a completion come up to and with the end of thinking.

        All of them where thinking never ends; none where the format has no tags.
        """
        if self.delimiter is None:
            return 0
        return end_of_thinking(ids, self.close_ids) or len(ids)
