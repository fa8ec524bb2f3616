"""A curriculum: the rounds of each level, their shares, and what is refused with it."""

import re

import pytest

from mpd.config import parse_config
from mpd.config.problems import TrainSource
from mpd.config.stages import as_text, stage_settings
from tests.config.test_config import RAW, changed

GYM = {"source": "reasoning_gym", "num_problems": 12}
ONE = {**GYM, "task": "sum", "levels": [2, 0, 1]}
MIX = {
    **GYM,
    "tasks": [{"task": "sum", "levels": [0, 1, 2], "weight": 2}, {"task": "gcd", "weight": 1}],
}


def rounds_of(**keys):
    """By task and level the first round, the last one, and how many problems they have."""
    shares = TrainSource(**keys).shares
    return [
        (part.task, part.level, part.first_round, part.last_round, number)
        for part, number in shares.items()
    ]


@pytest.mark.parametrize(
    ("curriculum", "last"), [(None, [None] * 3), ("add", [None] * 3), ("replace", [1, 2, None])]
)
def test_levels_come_in_the_order_in_which_they_are_given(curriculum, last):
    first = [1, 1, 1] if curriculum is None else [1, 2, 3]
    assert rounds_of(**ONE, curriculum=curriculum) == [
        ("sum", level, *rounds, 4) for level, *rounds in zip((2, 0, 1), first, last, strict=True)
    ]


def test_a_task_without_levels_takes_part_in_every_round():
    assert rounds_of(**MIX, curriculum="replace") == [
        ("sum", 0, 1, 1, 3),
        ("sum", 1, 2, 2, 3),
        ("sum", 2, 3, None, 2),
        ("gcd", None, 1, None, 4),
    ]


def test_a_level_that_is_given_twice_is_that_of_two_rounds():
    keys = {**GYM, "task": "sum", "levels": [0, 0, 1]}
    assert rounds_of(**keys, curriculum="replace") == [
        ("sum", 0, 1, 1, 4),
        ("sum", 0, 2, 2, 4),
        ("sum", 1, 3, None, 4),
    ]
    assert rounds_of(**keys) == [("sum", 0, 1, None, 8), ("sum", 1, 1, None, 4)]


def test_the_share_of_a_round_is_that_of_its_levels():
    for curriculum, shares in [
        (None, [1, 1, 1, 1]),
        ("add", [5 / 9, 7 / 9, 1, 1]),
        ("replace", [5 / 9] * 4),
    ]:
        source = TrainSource(**MIX, curriculum=curriculum)
        found = [source.share_of(number) for number in (1, 2, 3, 4)]
        assert found == pytest.approx(shares)


@pytest.mark.parametrize(
    ("train", "changes", "sentence"),
    [
        (
            {**ONE, "levels": [1]},
            {},
            "curriculum needs a task of source: reasoning_gym with several levels; give them, or "
            "remove curriculum",
        ),
        ({"source": "file"}, {}, "curriculum needs a task of source: reasoning_gym"),
        (
            {**ONE, "num_problems": 2},
            {},
            "num_problems: 2 leaves round 3 of the curriculum without a problem; raise it, or take "
            "fewer levels",
        ),
        (
            ONE,
            {"sample__trajectories": "own.jsonl"},
            "sample.trajectories replaces the samples of round 1, whose problems "
            "problems.train.curriculum chooses; remove one of the two",
        ),
        (
            ONE,
            {"methods": ["semi_opd"]},
            "in semi_opd the base student's trajectories serve every round, but "
            "problems.train.curriculum gives each round its own problems; remove one of the two",
        ),
    ],
)
def test_what_no_curriculum_can_have_is_one_sentence(train, changes, sentence):
    train = {**train, "curriculum": "replace"}
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        parse_config(changed(problems__train=train, **changes))
    assert "\n" not in str(caught.value)


def test_a_curriculum_that_adds_needs_problems_for_round_1_alone():
    assert rounds_of(**{**ONE, "num_problems": 1}, curriculum="add") == [("sum", 2, 1, None, 1)]


def test_a_development_split_is_cut_or_has_a_source(fake_gym):
    source = {"source": "reasoning_gym", "task": "gcd", "num_problems": 5}
    own = changed(problems__num_dev=None, problems__dev=source)
    settings = stage_settings(parse_config(own), "problems")
    assert settings.dev.task == "gcd"
    assert settings.gym_version == "0.0.1"
    assert settings.kinds == {
        "has_scorer": False,
        "has_references": False,
        "has_rounds": False,
        "dev_has_scorer": True,
    }
    for changes, sentence in [
        ({"problems__num_dev": None}, "num_dev is null, and dev has no source; set one of the two"),
        (
            {"problems__dev": source},
            "num_dev sets training problems aside, but dev has a source of its own; set num_dev: "
            "null, and num_problems in dev",
        ),
        (
            {
                "problems__num_dev": None,
                "problems__dev": {"source": "file"},
                "problems__path": None,
                "problems__train": {"source": "file", "path": "a.jsonl"},
            },
            "dev has no path; set its path, or problems.path for all",
        ),
    ]:
        with pytest.raises(ValueError, match=re.escape(sentence)):
            parse_config(changed(**changes))


def test_the_path_of_all_is_that_of_the_development_split():
    own = changed(problems__num_dev=None, problems__dev={"source": "file", "split": "train[:9]"})
    problems = parse_config(own).problems
    assert problems.dev_source.path == "all.jsonl"
    assert [source.path for source in problems.sources()] == [
        "all.jsonl",
        "all.jsonl",
        "one.jsonl",
        None,
    ]


def test_without_these_keys_no_setting_is_new():
    config = parse_config(RAW)
    texts = [
        as_text(stage_settings(config, rule, method="mpd", seed=0, round=2))
        for rule in ("problems", "sample")
    ]
    for key in ("curriculum", "dev", "round"):
        assert not any(f'"{key}": ' in text for text in texts)


def test_only_the_samples_of_a_curriculum_depend_on_the_round(fake_gym):
    rising = parse_config(changed(problems__train={**ONE, "curriculum": "add"}))
    for rule, differs in [("sample", True), ("compress", False), ("filter", False)]:
        one, two = (
            as_text(stage_settings(rising, rule, method="mpd", seed=0, round=number))
            for number in (1, 2)
        )
        assert (one != two) is differs
