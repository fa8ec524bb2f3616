"""Problems of reasoning-gym: how many of which task, all different, apart from held-out ones."""

import json
import logging
import os
import random
import subprocess
import sys

import pytest

from mpd.config.gym import Task
from mpd.config.problems import Source
from mpd.text.grading.extraction import MAX_CHARACTERS
from mpd.text.gym import scored, task_of, version_of
from mpd.text.gym_problems import NO_GOLD, made_problems, problems_of


def source_of(**keys):
    return Source(source="reasoning_gym", **keys)


def made(number=10, seed=0, split="train", held_out=frozenset(), **keys):
    return made_problems(source_of(num_problems=number, **keys), seed, split, held_out)


def ids(rows):
    return [row["problem_id"] for row in rows]


@pytest.fixture(autouse=True)
def _fake(fake_gym):
    pass


def test_a_row_has_what_its_scorer_needs():
    rows = made(task="sum", settings={"bonus": 5})
    assert [row["source_row"] for row in rows] == list(range(10))
    assert len(set(ids(rows))) == 10
    for row in rows:
        assert row["scorer"] == "reasoning-gym==0.0.1:sum"
        assert (version_of(row["scorer"]), task_of(row["scorer"])) == ("0.0.1", "sum")
        assert int(row["gold"]) == eval(row["question"]) + 5
        entry = json.loads(row["entry"])["entry"]
        assert (entry["question"], entry["answer"]) == (row["question"], row["gold"])
        assert scored(row["scorer"], row["entry"], row["gold"]) == 1.0
        assert 0 < scored(row["scorer"], row["entry"], f"it is {row['gold']}") < 1


def test_another_draw_has_other_problems_and_the_same_seed_the_same():
    rows = made(task="drawn")
    assert made(task="drawn") == rows
    for other in (made(task="drawn", seed=1), made(task="drawn", split="test")):
        assert set(ids(other)).isdisjoint(ids(rows))


def test_a_task_that_draws_from_a_set_makes_the_same_problems_in_every_process():
    source = source_of(task="unordered", num_problems=3)
    code = "import sys; print('+'.join({str(number) for number in range(10)}))"
    variables = {**os.environ, "PYTHONHASHSEED": "0"}
    words = subprocess.check_output([sys.executable, "-c", code], env=variables, text=True)
    rows = problems_of(source, 0, "train")
    assert rows[0]["question"] == words.strip()
    with pytest.raises(ValueError, match="makes no problem"):
        problems_of(source_of(task="broken", num_problems=3), 0, "train")


def test_random_numbers_of_others_change_nothing():
    random.seed(1)
    rows = made(task="drawn")
    random.seed(2)
    assert made(task="drawn") == rows


def test_held_out_problems_are_not_made_and_the_number_is_reached():
    held_out = set(ids(made(12, task="sum", split="test")))
    rows = made(15, task="sum", held_out=held_out)  # of 3 ** 3 = 27
    assert len(rows) == 15
    assert held_out.isdisjoint(ids(rows))


def test_too_few_problems_are_refused_with_their_number():
    assert len(made(27, task="sum")) == 27
    with pytest.raises(ValueError, match=r"task sum, settings {}, has 27 different problems"):
        made(28, task="sum")
    held_out = ids(made(20, task="sum", split="test"))
    with pytest.raises(ValueError, match=r"has 7 different .* but 8 are wanted .*: lower"):
        made(8, task="sum", held_out=held_out)


def test_a_dataset_that_ends_is_followed_by_another():
    assert len(made(3, task="few")) == 3
    with pytest.raises(ValueError, match="has 3 different problems"):
        made(4, task="few")
    with pytest.raises(ValueError, match="has 0 different problems"):
        made(1, task="empty")


def test_levels_are_those_of_the_curriculum():
    rows = made(9, task="sum", levels=[0, 1, 2])
    assert [row["question"].count("+") for row in rows] == [2] * 3 + [3] * 3 + [4] * 3
    rows = made(4, task="sum", levels=[1], settings={"numbers": 2})
    assert {row["question"].count("+") for row in rows} == {1}


def test_a_mix_shares_by_weight():
    mix = (Task(task="sum", weight=2, levels=(0, 1)), Task(task="open"), Task(task="few", weight=3))
    numbers = {
        (part.task, part.level): number
        for part, number in source_of(tasks=mix, num_problems=13).shares.items()
    }
    assert numbers == {("sum", 0): 2, ("sum", 1): 2, ("open", None): 2, ("few", None): 7}
    assert sum(source_of(tasks=mix, num_problems=100).shares.values()) == 100
    rows = made(13, tasks=[Task(task="sum", weight=9), Task(task="few")])
    assert [task_of(row["scorer"]) for row in rows].count("few") == 1


def test_a_task_whose_share_is_less_than_a_problem_makes_none():
    rows = made(2, tasks=[Task(task="sum", levels=(0, 1)), Task(task="drawn")])
    assert len(rows) == 2
    rows = made(3, tasks=[Task(task="drawn", weight=0.01), Task(task="sum")])
    assert {task_of(row["scorer"]) for row in rows} == {"sum"}


def test_parts_of_a_mix_have_different_problems():
    rows = made(27, tasks=[Task(task="sum"), Task(task="sum", settings={"numbers": 3})])
    assert len(set(ids(rows))) == 27


def test_a_task_without_answers_says_so():
    rows = made(3, task="open")
    assert {row["gold"] for row in rows} == {NO_GOLD}
    assert scored(rows[0]["scorer"], rows[0]["entry"], "4") == 1.0


def test_problems_whose_own_answer_cannot_count_are_left_out(caplog):
    with caplog.at_level(logging.WARNING, "mpd"):
        rows = made(8, task="odd")
    assert {int(row["gold"]) % 2 for row in rows} == {1}
    assert "problems were left out, whose own answer" in caplog.text
    with pytest.raises(ValueError, match="has 0 different problems"):
        made(1, task="odd", settings={"bonus": 10**MAX_CHARACTERS})


def test_answers_that_no_box_can_hold_are_left_out():
    assert [row["gold"] for row in made(2, task="braces")] == ["{0}", "{2}"]


def test_a_scorer_that_does_not_end_is_given_up():
    assert [row["gold"] for row in made(1, task="endless")] == ["1"]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"task": "sums"}, "reasoning-gym 0.0.1 has no task sums; it has braces, broken"),
        ({"task": "sum", "levels": [3]}, "task sum has levels 0 to 2, found 3; lower it"),
        ({"task": "open", "levels": [0]}, "task open has no curriculum; remove its levels"),
        (
            {"task": "sum", "settings": {"number": 4}},
            "task sum: no setting number; settings are bonus, numbers",
        ),
        (
            {"task": "sum", "settings": {"numbers": 1}},
            "task sum: settings {.*}: numbers must be above 1",
        ),
        ({"task": "sum", "settings": {"seed": 1}}, "no setting seed"),
        ({"task": "broken"}, "makes no problem .RuntimeError: no puzzle was found.; change"),
        ({"task": "objects"}, "task objects has entries that cannot be stored"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(keys, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        made(**keys)
    assert "\n" not in str(caught.value)
