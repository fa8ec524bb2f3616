"""A teacher's completions for a student with another tokenizer.

Their text is put into the student's format and encoded by its tokenizer, behind its own prompts.
"""

from collections.abc import Mapping

from mpd.engines.base import Completion
from mpd.text.completions import CompletionWriter, LossyText


class Reencoder:
    """Writes completions of a teacher as a student's: `prompts` are the student's, by question."""

    def __init__(
        self, writer: CompletionWriter, prompts: Mapping[str, list[int]], context_length: int
    ) -> None:
        self.writer, self.prompts, self.context_length = writer, prompts, context_length

    def completion(self, question: str, text: str, finish_reason: str) -> Completion:
        """A completion with this text, in the ids of the student.

        Reasoning and answer are put into the student's format; a text without an answer, or that
        was cut, is encoded as it is. There are no ids where the tokenizer changes the text
        (lossy), or where the context has too little room (too_long).
        """
        if finish_reason == "too_long":
            return Completion([], [], finish_reason)
        prompt = self.prompts[question]
        is_cut = finish_reason == "length"
        ids = None if is_cut else self.writer.build(text, prompt)
        try:
            ids = ids or self.writer.encode(text, is_cut)
        except LossyText:
            return Completion([], [], "lossy")
        if len(prompt) + len(ids) > self.context_length:
            return Completion([], [], "too_long")
        return Completion(ids, [], finish_reason)
