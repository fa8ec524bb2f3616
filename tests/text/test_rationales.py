r"""Structural rationales: what keeps to the schema, and what it becomes."""

import copy
import json
import time

import pytest

from mpd.text.rationales import last_rationale, rationale_of

GOOD = {
    "route": {
        "category": "Arithmetic",
        "intent": ["sum of prices"],
        "difficulty": 1,
        "budget": 2,
        "reasoning_path": ["AddPrices", "SubtractDiscount"],
    },
    "rationale": {"AddPrices": "1+3=4", "SubtractDiscount": " 4-2=2 "},
    "ans": "2",
}


def test_steps_and_answer_become_text():
    rationale = rationale_of(json.dumps(GOOD))
    assert rationale.reasoning == "AddPrices: 1+3=4\n\nSubtractDiscount: 4-2=2"
    assert rationale.boxed == "\\boxed{2}"


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "Here it is:\n{}\nDone."])
def test_text_around_the_json_is_ignored(around):
    assert rationale_of(around.replace("{}", json.dumps(GOOD))) == rationale_of(json.dumps(GOOD))


@pytest.mark.parametrize(
    ("answer", "boxed"),
    [
        (2, "\\boxed{2}"),
        (2.5, "\\boxed{2.5}"),
        ("\\frac{1}{2}", "\\boxed{\\frac{1}{2}}"),
        ("\\boxed{3}", "\\boxed{3}"),
    ],
)
def test_an_answer_is_boxed_once(answer, boxed):
    assert rationale_of(json.dumps({**GOOD, "ans": answer})).boxed == boxed


def test_lines_of_a_derivation_stay():
    steps = {**GOOD["rationale"], "AddPrices": "so\nu = 4,\nothers are\nequal,\ne = 1"}
    rationale = rationale_of(json.dumps({**GOOD, "rationale": steps}))
    assert rationale.steps[0] == ("AddPrices", steps["AddPrices"])


def test_a_longer_budget_is_one_of_three_steps():
    path = ["First", "Second", "Third"]
    value = {
        **GOOD,
        "route": {**GOOD["route"], "difficulty": 3, "budget": 3, "reasoning_path": path},
        "rationale": dict.fromkeys(path, "so"),
    }
    assert [name for name, _ in rationale_of(json.dumps(value)).steps] == path


@pytest.mark.parametrize(
    "changes",
    [
        {"route__difficulty": 2},  # its budget is 3
        {"route__difficulty": 4},
        {"route__difficulty": True},
        {"route__budget": 3},
        {"route__budget": "2"},
        {"route__reasoning_path": ["SubtractDiscount", "AddPrices"]},
        {"route__reasoning_path": ["AddPrices"]},
        {"route": "none"},
        {"rationale": {"AddPrices": "1+3=4"}},
        {"rationale": []},
        {"rationale__AddPrices": " "},
        {"rationale__AddPrices": 4},
        {"rationale__AddPrices": "3 \times 4"},  # a tab: one backslash of \times
        {"rationale__AddPrices": "x \neq 3"},
        {"rationale__AddPrices": "x \notin A"},
        {"rationale__AddPrices": "so \neg a"},
        {"rationale__AddPrices": "so \nabla"},
        {"route__category": ""},
        {"route__intent": []},
        {"ans": float("nan")},
        {"ans": float("inf")},
        {"ans": ""},
        {"ans": None},
        {"ans": True},
    ],
    ids=str,
)
def test_what_does_not_keep_to_the_schema_is_none(changes):
    value = copy.deepcopy(GOOD)
    for key, changed in changes.items():
        section, _, name = key.partition("__")
        (value[section] if name else value)[name or section] = changed
    assert rationale_of(json.dumps(value)) is None


@pytest.mark.parametrize("name", ["Step1", "addPrices", "Add Prices", "Add_Prices", ""])
def test_names_are_letters_and_begin_with_a_capital(name):
    path = [name, "SubtractDiscount"]
    value = {
        **GOOD,
        "route": {**GOOD["route"], "reasoning_path": path},
        "rationale": dict.fromkeys(path, "so"),
    }
    assert rationale_of(json.dumps(value)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "}{",
        "[1]",
        "{" * 100_000 + "}",
        json.dumps(GOOD).replace('"SubtractDiscount": "', '"AddPrices": "'),  # twice one step
        json.dumps(GOOD).replace("1+3", r"1\+3"),
    ],
    ids=range(7),
)
def test_text_that_is_no_json_is_none(text):
    assert rationale_of(text) is None


@pytest.mark.parametrize(
    "thinking",
    [
        "",
        "<think>\\frac{1}{2} of {a, b}</think>",
        '<think>Perhaps {"route": {</think>\n\n',
        f"[THINK]{json.dumps(GOOD)}[/THINK]\n",
        "<think>Not </think> yet }</think>Here it is: ",
        "<think></think><answer>",
    ],
)
@pytest.mark.parametrize("after", ["", "\n```", "</answer>"])
def test_the_rationale_after_thinking_is_read_without_the_tags(thinking, after):
    text = json.dumps({**GOOD, "ans": r"\boxed{\frac{1}{2}}", "note": {"set": '{"1", {}'}})
    assert last_rationale(thinking + text + after) == rationale_of(text)


@pytest.mark.parametrize("text", ["", "}{", f"{json.dumps(GOOD)} {{}}", f"[{json.dumps(GOOD)}]}}"])
def test_a_text_that_does_not_end_with_a_rationale_has_none(text):
    assert last_rationale(text) is None


def test_long_thinking_takes_no_long_time():
    start = time.process_time()
    assert last_rationale('{"a": \\frac{1}{2} ' * 100_000 + json.dumps(GOOD)) is not None
    assert last_rationale(r"\frac{1}{2} " * 200_000) is None
    assert time.process_time() - start < 5
