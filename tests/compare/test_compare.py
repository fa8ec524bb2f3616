"""Experiments side by side: differences by hand, refusals with their reasons, and the page."""

import shutil

import pytest

from mpd.compare import __main__ as compare
from mpd.store import schema, table
from tests.compare.experiments import BASE, DECODING, GRADING, MPD, write_experiment
from tests.offline import accessibility_findings, opened
from tests.report.test_page import EVIL, Parsed
from tests.test_report import words_of

# In the other experiment mpd solves the third problem, too, and is 1, 2 and 6 tokens shorter.
SHORTER = ("mpd", 1, 0, [(True, 39), (True, 138), (True, 4)])
NEW = ("opd", 1, 0, [(True, 30), (True, 30), (True, 30)])


@pytest.fixture
def first(tmp_path):
    return write_experiment(tmp_path / "results/a", BASE, MPD)


@pytest.fixture
def compared(tmp_path, first):
    """A function that compares an experiment of these students, or settings, with the first one."""

    def compare_with(*students, wanted=(), against=None, **changes):
        other = write_experiment(tmp_path / "results/b", *(students or (BASE, MPD)), **changes)
        return compare.side_by_side([first, other], list(wanted), against)

    return compare_with


def test_differences_are_paired_by_problem(compared):
    found = compared(BASE, SHORTER)
    (difference,) = found.differences
    assert (difference.label, difference.alone, found.left_out) == ("b", [], [])
    assert table.arrow_schema(schema.COMPARISON) == difference.rows.to_arrow().schema
    base, mpd = difference.rows.filter(benchmark="one").to_dicts()
    assert (base["method"], mpd["method"], mpd["against"]) == ("base", "mpd", "a mpd 1")
    assert [base[f"tokens{end}"] for end in ("", "_low", "_high")] == [0.0] * 3
    # By problem: 0, 0 and 1 more right; 1, 2 and 6 tokens fewer; both solve the first two.
    accuracy = [mpd[f"accuracy{end}"] for end in ("", "_low", "_high")]
    assert accuracy == pytest.approx([1 / 3, 0.0, 1.0])
    # Means of three draws of -1, -2, -6: the extremes, -6 and -1, have a probability of 1 / 27.
    assert [mpd[f"tokens{end}"] for end in ("", "_low", "_high")] == [-3.0, -6.0, -1.0]
    assert (mpd["num_solved"], mpd["solved_tokens"], mpd["longer"]) == (2, -1.5, 0.0)
    # Tokens 4, 39, 138 and 10, 40, 140.
    quantiles = [mpd[f"tokens_{name}"] for name in ("p10", "median", "p90", "max")]
    assert quantiles == pytest.approx([11 - 16, -1, 118.2 - 120, -2])


def test_costs_are_those_of_each_experiment(compared):
    rows = compared(BASE, SHORTER).costs.filter(benchmark="one", method="mpd")
    # A token takes 0.02 s and training 2 s: a saves 170 tokens of three answers, b 179.
    assert rows.select("experiment", "answers_to_pay_back").rows() == [
        ("a", pytest.approx(2 / (0.02 * 170 / 3))),
        ("b", pytest.approx(2 / (0.02 * 179 / 3))),
    ]


def test_only_seeds_that_both_have_count(compared):
    worse = ("mpd", 1, 1, [(False, 900)] * 3)
    found = compared(BASE, SHORTER, ("base", 0, 1, BASE[3]), worse)
    rows = found.differences[0].rows.filter(benchmark="one", method="mpd")
    assert rows.select("num_seeds", "tokens").rows() == [(1, -3.0)]


def test_a_student_without_a_counterpart_is_named_or_compared_with_the_one_asked_for(compared):
    (difference,) = compared(BASE, NEW).differences
    assert {*difference.rows["method"]} == {"base"}
    assert difference.alone == ["opd, round 1"]
    (difference,) = compared(BASE, NEW, against=("mpd", 1)).differences
    assert difference.alone == []
    rows = difference.rows.filter(benchmark="one", method="opd")
    # 30 less 40, 140 and 10.
    assert rows.select("against", "tokens").rows() == [("a mpd 1", pytest.approx(-100 / 3))]


REFUSED = {
    "questions": ({"questions": ("1+1", "2+2", "4+4")}, "has other problems"),
    "golds": (
        {"golds": ("4", "4", "5")},
        "has other gold answers or scorers for the same questions",
    ),
    "temperature": (
        {"decoding": {**DECODING, "temperature": 0}},
        "was decoded otherwise than in results/a (temperature 0, there 0.5)",
    ),
    "thinking": (
        {"decoding": {**DECODING, "chat": {"prompt": "{problem}", "thinking": False}}},
        "was decoded otherwise than in results/a (thinking false, there true)",
    ),
    "tags": (
        {"grading": {**GRADING, "chat": {"close": "</t>", "think": "tags"}}},
        "was graded otherwise than in results/a (chat.close </t>, there </think>)",
    ),
    "grader": (
        {"version": 3},
        "was graded otherwise than in results/a (version 3, there 4)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compared_is_refused_with_the_reason(compared, tmp_path, name):
    changes, reason = REFUSED[name]
    with pytest.raises(ValueError) as refused:
        compared(**changes)
    message = str(refused.value).replace(f"{tmp_path}/", "")
    assert message.startswith(f"results/b: benchmark one {reason}")
    assert message.endswith("; name the benchmarks that can be compared with --benchmarks")
    assert "\n" not in message


def test_other_prompts_and_engines_are_shown_and_not_refused(compared):
    found = compared(decoding={**DECODING, "engine": "vllm"})
    rows = [row for row in found.settings if row["stage"] == "answers one"]
    assert rows == [{"stage": "answers one", "setting": "engine", "values": ["", '"vllm"']}]


def test_another_development_split_is_left_out_and_others_are_compared(tmp_path, first):
    other = write_experiment(tmp_path / "results/b", BASE, MPD)
    third = write_experiment(tmp_path / "other", BASE, MPD, questions=("5", "6", "7"))
    for path in (
        "problems/train/dev.parquet",
        *(
            f"{place}/{stage}/dev.{suffix}"
            for place in ("base/seed_0/round_0", "mpd/seed_0/round_1")
            for stage in ("answers", "evaluate")
            for suffix in ("parquet", "json")
        ),
    ):
        shutil.copy(third / path, other / path)
    found = compare.side_by_side([first, other], [])
    assert {*found.means["benchmark"]} == {"one"}
    (sentence,) = found.left_out
    assert "benchmark dev has other problems than in" in sentence


def test_benchmarks_of_one_experiment_are_left_out(compared):
    found = compared(benchmarks=("one", "dev", "two"))
    assert found.left_out == ["two: not in every experiment"]
    with pytest.raises(ValueError, match="--benchmarks two: not in every experiment, which share"):
        compared(benchmarks=("one", "dev", "two"), wanted=["two"])


def test_other_tokens_and_other_seeds_are_refused(compared):
    with pytest.raises(ValueError, match=r"another tokenizer than those of .*a, so that tokens"):
        compared(token_map="another")
    seeds = [(method, number, 5, answers) for method, number, _, answers in (BASE, MPD)]
    with pytest.raises(ValueError, match=r"no student has a counterpart .*: seeds 5 and 0; give"):
        compared(*seeds)


def test_files_that_are_not_of_the_report_are_refused(compared, tmp_path, first):
    with pytest.raises(ValueError, match=r"answers/dev.parquet: its note is missing"):
        compared(notes=False)
    path = first / "mpd/seed_0/round_1/evaluate/one.parquet"
    other = table.read(path, schema.EVALUATE).reverse()
    table.write(path, other, schema.EVALUATE, table.check(path, schema.EVALUATE)["identity"])
    with pytest.raises(
        ValueError, match=r"a/report.html: it is not about the grades of mpd 1 0 one"
    ):
        compared()
    (first / "summary.parquet").unlink()
    with pytest.raises(ValueError, match=r"summary.parquet: missing; run snakemake to the report"):
        compared()


def test_two_different_folders_are_needed(first):
    with pytest.raises(ValueError, match="give the folders of two experiments or more"):
        compare.side_by_side([first], [])
    with pytest.raises(ValueError, match="given twice"):
        compare.side_by_side([first, first / "../a"], [])


def test_main_writes_a_page_and_prints_a_table(tmp_path, first, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_experiment(tmp_path / "results/b", BASE, SHORTER, NEW)
    before = sorted(tmp_path.rglob("results/**/*"))
    compare.main(["results/a", "results/b"])
    lines = [words_of(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "differences to a, with 95% intervals; * excludes zero"
    line = "b one mpd 1 1 +0.333 [+0.000, +1.000] −3.0 [−6.0, −1.0] *"
    assert line in lines
    assert lines[-2:] == [
        "b: opd, round 1 has no counterpart in a",
        "page: comparison.html",
    ]
    assert sorted(tmp_path.rglob("results/**/*")) == before
    text = (tmp_path / "comparison.html").read_text()
    assert "−3.0 [−6.0, −1.0] *" in text
    assert "Without a counterpart in a: opd, round 1." in text
    assert "<script" not in text and "http-equiv" in text


def test_hostile_names_stay_texts(tmp_path, capsys):
    """Of folders, methods, benchmarks and settings."""
    evil = "<script>alert(1)</script>"
    # A path has no slash in a name.
    folders = [tmp_path / "results" / f"{name} [red]{EVIL.replace('/', '|')}" for name in "ab"]
    for folder, students in zip(folders, ((BASE, MPD), (BASE, SHORTER)), strict=True):
        renamed = [
            ("<b>x[red]" if student is not BASE else "base", *student[1:]) for student in students
        ]
        prompt = {**DECODING["chat"], "prompt": f"{folder.name[0]} {evil}"}
        write_experiment(
            folder, *renamed, benchmarks=("<i>one", "dev"), decoding={**DECODING, "chat": prompt}
        )
    output = tmp_path / "page.html"
    compare.main([*map(str, folders), "--output", str(output)])
    printed = capsys.readouterr().out
    assert "[red]" in printed
    with opened(output) as page:
        assert page.title() == f"MPD: {', '.join(folder.name for folder in folders)}"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert accessibility_findings(page) == []
    parsed = Parsed(output.read_text())
    tags = {tag[0] for tag in parsed.tags if isinstance(tag, tuple)}
    assert tags & {"script", "b", "i"} == {"b"}  # its own
    assert not any("onload" in tag for tag in parsed.tags)
    texts = " ".join(parsed.texts)
    assert evil in texts and "<b>x[red]" in texts and "<i>one" in texts
