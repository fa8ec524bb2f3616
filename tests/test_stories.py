"""The hard world: its stories, the ways to solve them, and what its models learn."""

import json
import random
import re
from pathlib import Path

import pytest
import yaml

from mpd.config import parse_config
from mpd.config.problems import Source
from mpd.config.stages import as_text, stage_settings
from mpd.problems import load
from mpd.tiny import pretrain
from mpd.tiny.solutions import Style, columns, drill, notes, problems, shortened, solution
from mpd.tiny.stories import Story, draw, draw_many, numeral
from mpd.tiny.story_examples import STUDENT_KINDS, TEACHER_KINDS
from mpd.tiny.task import split_of
from mpd.tiny.tokenizer import build_tokenizer, unknown_piece, vocabulary
from mpd.tiny.worlds import WORLDS

STORY = Story("people", 17, (("+", 28), ("*", 2), ("-", 63)), ("Tom", "Ann", "Bob", "Eve"), "coins")
WORLD = WORLDS["stories"]
REPOSITORY = Path(__file__).parents[1]


def stories(num: int) -> list[Story]:
    rng = random.Random(0)
    return [draw("train", rng) for _ in range(num)]


def test_a_story_in_both_languages():
    assert STORY.values == [17, 45, 90, 27]
    assert STORY.question == (
        "Tom has 17 coins. Ann has 28 more than Tom. Bob has 2 times as many as Ann. "
        "Eve has 63 fewer than Bob. How many coins has Eve?"
    )
    assert STORY.translation == (
        "Tom havas dek sep moneroj. Ann havas du dek ok pli ol Tom. Bob havas du oble Ann. "
        "Eve havas ses dek tri malpli ol Bob. Kiom da moneroj havas Eve?"
    )


def test_numerals():
    assert [numeral(number) for number in (0, 7, 10, 19, 20, 99)] == [
        "nul",
        "sep",
        "dek",
        "dek naux",
        "du dek",
        "naux dek naux",
    ]


def test_stories_stay_in_range_and_in_their_split():
    for story in stories(300):
        assert 2 <= len(story.operations) <= 3
        assert all(2 <= value <= 99 for value in story.values[1:])
        assert split_of(story.question) == "train"


def test_solutions_of_every_notation_are_right():
    for story in stories(200):
        answer = rf"\boxed{{{story.values[-1]}}}"
        right = solution(story, Style(1.0, 1.0, 1.0, 0.0), random.Random(0))
        for reasoning, given in (right, shortened(story)):
            assert given == answer
            for left, result in re.findall(r"([\d+*-]+)=(\d+)", reasoning):
                assert eval(left) == int(result)
        reasoning, given = notes(story)
        assert given == answer
        for left, sign, operand, result in re.findall(r"(\d+)([+*-])(\d+)>(\d+);", reasoning):
            numbers = [int(text[::-1]) for text in (left, operand, result)]
            assert eval(f"{numbers[0]}{sign}{numbers[1]}") == numbers[2]


def test_columns():
    assert columns(17, ("+", 28)) == "7+8=15, 1+2+1=4"
    assert columns(45, ("-", 28)) == "15-8=7, 4-2-1=1"
    assert columns(45, ("-", 23)) == "5-3=2, 4-2=2"
    assert columns(27, ("*", 3)) == "7*3=21, 2*3+2=8"


def test_drills_have_right_results_and_columns():
    for seed in range(50):
        reasoning, answer = drill(random.Random(seed))
        assert reasoning.endswith((f"={answer[7:-1]}.", f", {answer[7:-1]}."))
        for step, result in re.findall(r"(\d+[+*-]\d+)=(\d+)\.", reasoning):
            assert eval(step) == int(result)
        for step, result in re.findall(r"(\d+[+*-]\d+)\. Check: [^.]*, (\d+)\.", reasoning):
            assert eval(step) == int(result)


def test_a_slip_is_corrected_where_it_is_checked_and_only_there():
    checked, unchecked = Style(0.0, 1.0, 1.0, 1.0), Style(0.0, 0.0, 0.0, 1.0)
    wrong = 0
    for seed, story in enumerate(stories(100)):
        reasoning, answer = solution(story, checked, random.Random(seed))
        assert answer == rf"\boxed{{{story.values[-1]}}}"
        wrong += "No" in reasoning
        assert solution(story, unchecked, random.Random(seed))[0].count("Check") == 0
    assert wrong > 80


def test_rows_of_problems():
    rows = problems("test", 20, seed=0)
    assert [set(row) for row in rows] == [
        {"question", "answer", "question_translated", "solution"}
    ] * 20
    assert len({row["question"] for row in rows}) == 20
    assert problems("test", 20, seed=0) == rows != problems("test", 20, seed=1)
    assert {len(story.operations) for story in draw_many("test", 20, 0)} == {3}
    with pytest.raises(ValueError, match="split 'dev': the embedded world has train, test"):
        draw_many("dev", 1, 0)


def test_a_source_may_ask_in_the_second_language():
    keys = {"source": "tiny", "world": "stories", "num_problems": 3}
    first, _ = load(Source(**keys), 0, "test")
    second, _ = load(Source(**keys, question="question_translated"), 0, "test")
    assert [row["gold"] for row in first] == [row["gold"] for row in second]
    assert [row["question"] for row in second] == [
        row["question_translated"] for row in problems("test", 3, 0)
    ]


def test_a_file_has_no_world():
    with pytest.raises(ValueError, match="world is for source: tiny, not for file; remove it"):
        Source(source="file", path="a.jsonl", world="stories")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(WORLD.lexicon)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_every_training_text_round_trips_and_fits(tokenizer, role):
    assert len(set(vocabulary(WORLD.lexicon))) == len(vocabulary(WORLD.lexicon))
    write, rng = getattr(WORLD, role).writer, random.Random(0)
    for _ in range(200):
        text = "".join(write(rng))
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        assert tokenizer.unk_token_id not in ids
        assert len(ids) <= WORLD.context_length


def test_the_words_of_the_other_world_are_no_words_of_this_one():
    assert unknown_piece("Tom has 3 coins") == "Tom"
    assert unknown_piece("Tom has 3 coins", WORLD.lexicon) is None
    assert sum(STUDENT_KINDS.values()) == pytest.approx(1.0)
    assert sum(TEACHER_KINDS.values()) == pytest.approx(1.0)


def test_settings_of_the_other_world_are_as_they_were():
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    settings = as_text(stage_settings(parse_config(raw), "models", role="teacher"))
    assert json.loads(settings) == {
        "source": "tiny",
        "num_steps": None,
        "role": "teacher",
        "seed": 0,
        "pretraining": 2,
    }
    raw["models"]["teacher"]["world"] = "stories"
    settings = as_text(stage_settings(parse_config(raw), "models", role="teacher"))
    assert json.loads(settings)["world"] == "stories"


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_both_models_are_pretrained(tmp_path, role):
    sizes = {"num_steps": 1, "tokens_per_step": 1024, "world": "stories"}
    if role == "student":
        pretrain.train_student(tmp_path, 0, **sizes)
    else:
        pretrain.train_teacher(tmp_path, **sizes)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["max_position_embeddings"] == 1024
    assert config["vocab_size"] == len(vocabulary(WORLD.lexicon)) + 5
