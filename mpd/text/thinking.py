"""The thinking of a rewriter about its task, which is no part of the rewrite.

A template may open it in the prompt, whatever is asked, as those of DeepSeek-R1's distillations do;
a model may also open it, or only close it.
"""

import re

# Beside tags such as <think> or [THINK], which `_TAG` recognises.
PAIRS = {
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",
    "<|channel>thought": "<channel|>",
    "Here is my thought process:": "Here is my response:",
}
for _word in ("think", "thinking", "thought", "reasoning"):
    PAIRS[f"<|{_word}|>"] = f"<|/{_word}|>"
    PAIRS[f"<|{_word}_start|>"] = f"<|{_word}_end|>"
_WORD = r"(?:\w+:)?\w*(?:think|thought|reason|reflection|scratchpad|analysis|monologue)\w*"
_TAG = re.compile(rf"<({_WORD})>|\[({_WORD})\]", re.IGNORECASE)
_CLOSE = re.compile(
    "|".join([rf"</{_WORD}>", rf"\[/{_WORD}\]", *map(re.escape, PAIRS.values())]), re.IGNORECASE
)

_ANSWER = re.compile(r"<answer>(.*)</answer>", re.DOTALL | re.IGNORECASE)

Tags = tuple[str, str]


def without_thinking(text: str, prompt: str, tags: Tags | None, can_think: bool) -> str | None:
    """What follows the rewriter's own thinking; None where the thinking never ends.

    Args:
        text: the whole completion.
        prompt: the rewriting prompt, or its end.
        tags: what opens and closes the reasoning of a rewrite; None where the format has no tags.
            A rewriter that does not think may use them for the rewrite itself.
        can_think: whether the rewriter may think first, so that the first block is its thinking.
    """
    text, opened = text.strip(), _opened_by(prompt.rstrip(), tags)
    if opened is not None:
        return _after(text.removeprefix(opened[0]), opened)
    while (block := _block_at_start(text, tags)) is not None:
        opening, close = block
        content, found, rest = text.removeprefix(opening).partition(close)
        rest = rest.strip()
        another = _block_at_start(rest, tags) is not None
        if block != tags or can_think or another:
            return _after(text.removeprefix(opening), block)
        if content.strip() or not found:
            return text  # the rewriter's tags are those of the rewrite
        text = rest
    if can_think:
        first = _CLOSE.search(text)
        if first is not None:
            opening = tags[0] if tags and first.group() == tags[1] else ""
            return _after(text, (opening, first.group()))
    return text


def mentions_thinking(template: str) -> bool:
    """Whether a chat template has anything to do with the end of thinking."""
    return _CLOSE.search(template) is not None


def _after(text: str, tags: Tags) -> str | None:
    """The text behind thinking that is open at its start.

    A tag that the thinking only mentions does not end it: what follows then has another end of
    thinking before a new beginning.
    """
    opening, close = tags
    _, found, rest = text.partition(close)
    if not found:
        return None
    rest = _bare(rest)
    while close in rest and not (opening and rest.startswith(opening)):
        rest = _bare(rest.partition(close)[2])
    empty = re.match(rf"{re.escape(opening)}\s*{re.escape(close)}", rest) if opening else None
    return _bare(rest[empty.end() :]) if empty else rest


def _bare(text: str) -> str:
    """What follows thinking, without the tags that some models put around all of it."""
    answer = _ANSWER.fullmatch(text.strip())
    return (answer[1] if answer else text).strip()


def _known_tags(tags: Tags | None) -> dict[str, str]:
    """The closes of tags that are known by name, by what opens them."""
    return PAIRS if tags is None or not tags[0] else {**PAIRS, tags[0]: tags[1]}


def _closed(match: re.Match[str]) -> Tags:
    tag = match.group()
    return tag, f"{tag[0]}/{tag[1:]}"


def _opened_by(prompt: str, tags: Tags | None) -> Tags | None:
    """The tags of thinking that a prompt opens at its end, if it does."""
    for opening, close in _known_tags(tags).items():
        if prompt.endswith(opening):
            return opening, close
    last = prompt[max(prompt.rfind("<"), prompt.rfind("[")) :]
    match = _TAG.fullmatch(last)
    return _closed(match) if match else None


def _block_at_start(text: str, tags: Tags | None) -> Tags | None:
    """The tags of a block of thinking, or of reasoning, with which a text begins, if it does."""
    for opening, close in _known_tags(tags).items():
        if text.startswith(opening):
            return opening, close
    match = _TAG.match(text)
    return _closed(match) if match else None
