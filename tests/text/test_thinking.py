"""The rewriter's own thinking is no part of the rewrite, in whatever form it comes."""

import copy

import pytest

from mpd.text.prompts import Prompts
from mpd.text.thinking import without_thinking
from mpd.text.vocabulary import Vocabulary
from tests.qwen import CHATML, OPENED

TAGS = ("<think>", "</think>")
PLAIN = "Add.\n\\boxed{4}"
TAGGED = "<think>Add.</think>\\boxed{4}"
OPENED_PROMPT = "<|im_start|>assistant\n<think>\n"
PROMPT = "<|im_start|>assistant\n"
OFF = f"{PROMPT}<think>\n\n</think>\n\n"


@pytest.mark.parametrize("rewrite", [PLAIN, TAGGED])
@pytest.mark.parametrize(
    "thoughts",
    [
        "They want it shorter. \\boxed{4}\n</think>\n\n",
        "<think>\nThey want it shorter.</think>",  # the tag again
        "</think>\n\n",
        "\n</think>",
        "I write <think> and </think> around it. So: \\boxed{4}.\n</think>\n\n",
        "It has to end with </think>, then \\boxed{4}.</think>",
        "Shorter.</think>\n<think>\n\n</think>\n\n",
    ],
)
def test_thinking_that_the_prompt_opens(thoughts, rewrite):
    for can_think in (True, False):
        text = thoughts + rewrite
        assert without_thinking(text, OPENED_PROMPT, TAGS, can_think) == rewrite


@pytest.mark.parametrize("text", ["They want it shorter.\nSo\n\\boxed{4}", "", "<think>Add."])
def test_thinking_that_never_ends(text):
    assert without_thinking(text, OPENED_PROMPT, TAGS, True) is None


@pytest.mark.parametrize("rewrite", [PLAIN, TAGGED])
@pytest.mark.parametrize(
    "thoughts",
    [
        "<think>\nThey want it shorter.\n\\boxed{4}\n</think>\n\n",
        "\n<think>Shorter.</think>",
        "They want it shorter.</think>\n",
        "<think>\n\n</think>\n\n",
        "<thought>They want it shorter.</thought>\n",
        "<THINKING>They want it shorter.</THINKING>\n",
        "[THINK]They want it shorter.[/THINK]",
        "They want it shorter.[/THINK]",
        "<seed:think>They want it shorter.</seed:think>",
        "◁think▷They want it shorter.◁/think▷",
        "<|channel|>analysis<|message|>Short.<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|channel>thought\nThey want it shorter.\n<channel|>",
        "<|thinking|>They want it shorter.<|/thinking|>\n",
        "<|reasoning_start|>They want it shorter.<|reasoning_end|>",
        "<|begin_of_thought|>\nThey want it shorter.\n<|end_of_thought|>\n",
        "<reflection>They want it shorter.</reflection>",
        "<scratchpad>\nThey want it shorter.\n</scratchpad>\n",
        "<analysis>They want it shorter.</analysis>",
        "<inner_monologue>They want it shorter.</inner_monologue>",
        "Here is my thought process:\nThey want it shorter.\n\nHere is my response:\n",
        "",
    ],
)
def test_thinking_of_a_rewriter_that_may_think(thoughts, rewrite):
    if not thoughts and rewrite == TAGGED:
        return  # that is a thinking that the next test has
    assert without_thinking(thoughts + rewrite, PROMPT, TAGS, True) == rewrite


@pytest.mark.parametrize("rewrite", [PLAIN, TAGGED, "no"])
def test_what_follows_the_thinking_may_stand_between_tags(rewrite):
    """As in Hunyuan and in many models that reinforcement learning taught to think."""
    answer = f"<answer>\n{rewrite}\n</answer>"
    assert without_thinking(f"Shorter.</think>\n{answer}", OPENED_PROMPT, TAGS, True) == rewrite
    assert without_thinking(f"<think>Shorter.</think>{answer}", PROMPT, TAGS, True) == rewrite


def test_a_block_is_thinking_where_the_rewriter_may_think():
    assert without_thinking(TAGGED, PROMPT, TAGS, True) == "\\boxed{4}"
    assert without_thinking("<think>Shorter.\n\\boxed{4}", PROMPT, TAGS, True) is None


@pytest.mark.parametrize("rewrite", [PLAIN, TAGGED, "Add.</think>\\boxed{4}", "no"])
@pytest.mark.parametrize("prompt", [PROMPT, OFF])
def test_the_tags_of_a_rewriter_that_does_not_think_are_those_of_the_rewrite(prompt, rewrite):
    assert without_thinking(rewrite, prompt, TAGS, False) == rewrite
    assert without_thinking(f"<think>\n\n</think>\n\n{rewrite}", prompt, TAGS, False) == rewrite


@pytest.mark.parametrize("thoughts", ["<think>Short.</think>", "[THINK]Short.[/THINK]\n"])
def test_of_two_blocks_the_last_is_the_rewrites(thoughts):
    assert without_thinking(thoughts + TAGGED, OFF, TAGS, False) == TAGGED


@pytest.mark.parametrize("prompt", [PROMPT, "<|im_start|>assistant\n<thinking>\n"])
def test_a_format_without_tags(prompt):
    opening = "" if prompt != PROMPT else "<thinking>"
    text = f"{opening}Short.</thinking>\nAdd. \\boxed{{4}}"
    assert without_thinking(text, prompt, None, False) == "Add. \\boxed{4}"


def test_a_format_whose_reasoning_has_no_open_tag():
    text = "Add.\nAnswer: 4"
    for can_think in (True, False):
        assert without_thinking(text, PROMPT, ("", "Answer:"), can_think) == text


SPLIT = "{# {{ content.split('</think>')[-1] }} #}"
HEADER = "{{ messages[0].content + '<|im_start|>assistant\\n' }}"


@pytest.mark.parametrize(
    ("template", "thinking", "can_think"),
    [
        (CHATML, True, True),
        (CHATML, False, False),
        (OPENED, False, False),  # it has a switch
        (HEADER, False, False),
        (HEADER + SPLIT, False, True),  # as DeepSeek-R1's first template
    ],
)
def test_a_template_without_a_switch_may_be_of_a_model_that_always_thinks(
    qwen_tokenizer, template, thinking, can_think
):
    tokenizer = copy.deepcopy(qwen_tokenizer)
    tokenizer.chat_template = template
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_token_id])
    assert Prompts(vocabulary, "{problem}", "key", thinking, None).can_think == can_think
