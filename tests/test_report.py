import html
import json
import re
from pathlib import Path

import polars as pl
import pytest

from mpd import report, schema, table
from mpd.report import (
    examples_of,
    page,
    place_of,
    printable,
    shipped,
    shipping_lines,
    summarise,
)

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'text' ]]> </pre>"
PLACE = {"method": "mpd", "round": 1, "seed": 0, "benchmark": "one"}


def evaluated(*answers):
    """Answers given as problem, correct, tokens, and what differs."""
    counts, rows = {}, []
    for problem, correct, tokens, *changes in answers:
        index = counts[problem] = counts.get(problem, -1) + 1
        rows.append(
            {
                "problem_id": problem,
                "sample_index": index,
                "gold": "4",
                "completion_ids": [1],
                "text": "",
                "finish_reason": "stop",
                "num_tokens": tokens,
                "thinking_tokens": 0,
                "answer": "4" if correct else "5",
                "verdict": "correct" if correct else "wrong",
                "correct": correct,
                **(changes[0] if changes else {}),
            }
        )
    return table.frame_of(rows, schema.EVALUATE)


CUT = {"finish_reason": "length", "answer": None, "verdict": "none"}


def test_summarise_takes_problems_as_the_units():
    answered = evaluated(
        *[("a", True, 10), ("a", True, 20), ("a", True, 30), ("a", False, 40)],
        *[("b", True, 100), ("b", False, 100), ("b", False, 100), ("b", False, 300, CUT)],
        *[("c", False, 5), ("c", False, 5), ("c", False, 5), ("c", False, 5, CUT)],
    )
    # Accuracies of the problems: 3/4, 1/4, 0. Mean 1/3, variance (squares 25, 1, 16)/144/2.
    # Tokens of the problems: 25, 150, 5. Mean 60, variance (35² + 90² + 55²)/2 = 6175.
    assert summarise(PLACE, answered) == {
        **PLACE,
        "num_problems": 3,
        "num_samples": 4,
        "accuracy": pytest.approx(1 / 3, rel=1e-14),
        "accuracy_se": pytest.approx((42 / 144 / 2 / 3) ** 0.5, rel=1e-14),
        "mean_tokens": 60.0,
        "mean_tokens_se": pytest.approx((6175 / 3) ** 0.5, rel=1e-14),
        "truncation_rate": 2 / 12,
        "no_answer_rate": 2 / 12,
    }


def test_summarise_counts_truncated_and_answerless_apart():
    answered = evaluated(
        ("a", False, 9, {"finish_reason": "length"}),
        ("b", False, 9, {"answer": None, "verdict": "none"}),
        ("c", False, 9, {"answer": None, "verdict": "none"}),
        ("d", False, 9, {"finish_reason": "too_long", "answer": None, "verdict": "none"}),
    )
    summary = summarise(PLACE, answered)
    assert (summary["truncation_rate"], summary["no_answer_rate"]) == (0.25, 0.75)
    assert (summary["accuracy"], summary["accuracy_se"]) == (0.0, 0.0)


NO_ROOM = {"finish_reason": "too_long", "answer": None, "verdict": "none"}


def test_summarise_takes_no_tokens_from_what_was_never_sampled():
    answered = evaluated(
        *[("a", True, 10), ("a", False, 0, NO_ROOM)],
        *[("b", True, 20), ("b", True, 40)],
        *[("c", False, 0, NO_ROOM), ("c", False, 0, NO_ROOM)],
    )
    summary = summarise(PLACE, answered)
    assert (summary["num_problems"], summary["num_samples"]) == (3, 2)
    assert summary["accuracy"] == 0.5  # of 1/2, 1 and 0
    assert (summary["mean_tokens"], summary["mean_tokens_se"]) == (20.0, 10.0)  # of 10 and 30
    assert (summary["truncation_rate"], summary["no_answer_rate"]) == (0.0, 0.5)


def test_summarise_refuses_a_student_that_answered_nothing():
    with pytest.raises(ValueError) as caught:
        summarise(PLACE, evaluated(("a", False, 0, NO_ROOM), ("b", False, 0, NO_ROOM)))
    assert str(caught.value) == (
        "benchmark one: mpd, seed 0, round 1 answered nothing, since no prompt leaves room for "
        "max_new_tokens in the student's context; lower evaluate.max_new_tokens, or that of the "
        "benchmark"
    )


def test_summarise_one_problem_has_no_standard_error():
    summary = summarise(PLACE, evaluated(("a", True, 4), ("a", False, 8)))
    assert summary["accuracy"] == 0.5
    assert summary["accuracy_se"] == summary["mean_tokens_se"] == 0.0
    assert (summary["num_problems"], summary["num_samples"]) == (1, 2)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("results/tiny/base/seed_0/round_0/evaluate/dev.parquet", ("base", 0, 0, "dev")),
        (
            "/x/results/a_b/mpd/seed_12/round_3/evaluate/math-500.parquet",
            ("mpd", 3, 12, "math-500"),
        ),
    ],
)
def test_place_of(path, place):
    assert tuple(place_of(Path(path)).values()) == place
    assert list(place_of(Path(path))) == ["method", "round", "seed", "benchmark"]


@pytest.mark.parametrize(
    "path",
    [
        "dev.parquet",
        "x/mpd/seed_0/round_a/evaluate/dev.parquet",
        "x/mpd/seed_0/round_1/dev.parquet",
    ],
)
def test_place_of_another_path_is_refused(path):
    with pytest.raises(ValueError) as caught:
        place_of(Path(path))
    assert str(caught.value) == (
        f"{path}: not .../<method>/seed_<n>/round_<n>/evaluate/<benchmark>"
    )


def summary_of(*rows):
    """Summary rows given as method, round, seed, benchmark, accuracy, tokens."""
    return table.frame_of(
        [
            {
                "method": method,
                "round": number,
                "seed": seed,
                "benchmark": benchmark,
                "num_problems": 200,
                "num_samples": 2,
                "accuracy": accuracy,
                "accuracy_se": 0.02,
                "mean_tokens": tokens,
                "mean_tokens_se": 1.25,
                "truncation_rate": 0.005,
                "no_answer_rate": 0.1,
            }
            for method, number, seed, benchmark, accuracy, tokens in rows
        ],
        schema.SUMMARY,
    )


BASE = ("base", 0, 0, "dev", 0.8, 100.0)


@pytest.mark.parametrize(
    ("rounds", "drop", "chosen"),
    [
        ([(0.8, 90.0), (0.8, 80.0)], 0.0, 2),
        ([(0.8, 80.0), (0.8, 90.0)], 0.0, 1),
        ([(0.8, 90.0), (0.79, 50.0)], 0.0, 1),
        ([(0.8, 90.0), (0.79, 50.0)], 0.02, 2),
        ([(0.79, 90.0), (0.5, 50.0)], 0.0, 0),
        ([(0.9, 90.0), (0.95, 91.0)], 0.0, 2),  # as short, within the standard error of 1.25
        ([(0.9, 90.0), (0.95, 91.3)], 0.0, 1),
        ([(0.9, 110.0)], 0.0, 0),  # longer than the base student
        ([(0.8, 70.0), (0.8, 70.0)], 0.0, 1),
        ([(0.7, 70.0)], 0.1, 1),  # 0.8 - 0.7 is more than 0.1 in floating point
        ([(0.69, 70.0)], 0.1, 0),
    ],
)
def test_shipped_is_the_shortest_that_is_not_worse(rounds, drop, chosen):
    trained = [
        ("mpd", number, 0, "dev", accuracy, tokens)
        for number, (accuracy, tokens) in enumerate(rounds, 1)
    ]
    choice = shipped(summary_of(BASE, *trained), drop)
    assert choice.to_dicts() == [{"method": "mpd", "seed": 0, "round": chosen}]


def test_shipped_looks_at_the_development_split_alone():
    summary = summary_of(
        BASE,
        ("mpd", 1, 0, "dev", 0.8, 90.0),
        ("mpd", 2, 0, "dev", 0.8, 95.0),
        ("base", 0, 0, "one", 0.8, 100.0),
        ("mpd", 1, 0, "one", 0.1, 500.0),
        ("mpd", 2, 0, "one", 0.9, 10.0),
    )
    assert shipped(summary, 0.0)["round"].to_list() == [1]


def test_shipped_compares_each_seed_with_its_own_base_student():
    summary = summary_of(
        *[("base", 0, 0, "dev", 0.8, 100.0), ("base", 0, 1, "dev", 0.6, 100.0)],
        *[("mpd", 1, 0, "dev", 0.7, 50.0), ("mpd", 2, 0, "dev", 0.7, 40.0)],
        *[("mpd", 1, 1, "dev", 0.7, 50.0), ("mpd", 2, 1, "dev", 0.7, 60.0)],
        *[("other", 1, 0, "dev", 0.8, 50.0), ("other", 1, 1, "dev", 0.5, 50.0)],
    )
    choice = shipped(summary.sample(fraction=1, shuffle=True, seed=0), 0.0)
    assert choice.select("method", "seed", "round").rows() == [
        ("mpd", 0, 0),
        ("mpd", 1, 1),
        ("other", 0, 1),
        ("other", 1, 0),
    ]
    assert shipping_lines(choice) == [
        "mpd, seed 0: none; stay with the base student",
        "mpd, seed 1: round 1",
        "other, seed 0: round 1",
        "other, seed 1: none; stay with the base student",
    ]


def stage_frames(ratios):
    """One problem, sample, candidate and verdict for each ratio; None where it is not kept."""
    names = [f"p{number}" for number in range(len(ratios))]
    problems = [
        {"problem_id": name, "question": f"{name}? {HOSTILE}", "gold": "4", "source_row": number}
        for number, name in enumerate(names)
    ]
    samples = [
        {
            "sample_id": f"{name}-0",
            "problem_id": name,
            "sample_index": 0,
            "prompt_ids": [1],
            "completion_ids": [1],
            "logprobs": None,
            "text": f"long {name} {HOSTILE}",
            "finish_reason": "stop",
            "num_tokens": 100,
        }
        for name in names
    ]
    candidates = [
        {
            "sample_id": f"{name}-0",
            "candidate": candidate,
            "status": "ok",
            "rewrite": "",
            "rewrite_tokens": 1,
            "text": f"short {name}.{candidate} {HOSTILE}",
            "completion_ids": [1],
            "num_tokens": 1,
        }
        for name in names
        for candidate in (0, 1)
    ]
    verdicts = [
        {
            "sample_id": f"{name}-0",
            "candidate": candidate,
            "problem_id": name,
            "gold": "4",
            "sample_answer": None,
            "sample_verdict": "none",
            "answer": "4",
            "verdict": "correct",
            "correct": True,
            "truncated": False,
            "too_long": False,
            "format": True,
            "sample_tokens": 100,
            "num_tokens": None if ratio is None else round(100 * ratio),
            "ratio": ratio,
            "overlap": 0.0,
            "leak": False,
            "copy": False,
            "repetition": False,
            "keep": ratio is not None and candidate == 1,
            "reason": "kept",
        }
        for name, ratio in zip(names, ratios, strict=True)
        for candidate in (0, 1)
    ]
    return (
        table.frame_of(problems, schema.PROBLEMS),
        table.frame_of(samples, schema.SAMPLE),
        table.frame_of(candidates, schema.COMPRESS),
        table.frame_of(verdicts, schema.FILTER),
    )


def test_examples_are_kept_and_nearest_to_the_median_ratio():
    examples = examples_of(*stage_frames([1.0, 0.99, 0.5, None, 0.3, 0.45]))
    assert examples.rows() == [
        (
            f"{name}? {HOSTILE}",
            "4",
            f"long {name} {HOSTILE}",
            100,
            f"short {name}.1 {HOSTILE}",
            ratio,
        )
        for name, ratio in [("p2", 50), ("p5", 45), ("p4", 30)]
    ]


def test_examples_of_equal_ratio_come_in_the_order_of_their_names():
    problems, samples, candidates, verdicts = stage_frames([0.5] * 6)
    shuffled = (frame.reverse() for frame in (problems, samples, candidates, verdicts))
    found = examples_of(*shuffled)["text"].to_list()
    assert found == [f"short p{number}.1 {HOSTILE}" for number in range(3)]


def test_no_examples_where_nothing_was_kept():
    assert examples_of(*stage_frames([None, None])).is_empty()


SUMMARY = summary_of(
    BASE,
    ("mpd", 1, 0, "dev", 0.8, 90.0),
    ("base", 0, 0, "one", 0.8, 1234.56),
    ("mpd", 1, 0, "one", 0.85, 60.0),
)


def test_printable():
    assert printable(SUMMARY.tail(2)) == [
        ["base", "0", "0", "one", "200", "2", "0.800 ± 0.020", "1234.6 ± 1.2", "0.5%", "10.0%"],
        ["mpd", "1", "0", "one", "200", "2", "0.850 ± 0.020", "60.0 ± 1.2", "0.5%", "10.0%"],
    ]
    assert len(report.HEADER) == len(printable(SUMMARY)[0])


@pytest.fixture(scope="module")
def html_page():
    examples = examples_of(*stage_frames([0.5, 0.4]))
    return page("<b>name</b>", SUMMARY, shipped(SUMMARY, 0.0), examples)


def test_page_escapes_what_models_and_users_wrote(html_page):
    assert "<script" not in html_page
    assert "<b>name" not in html_page
    assert "<title>MPD: &lt;b&gt;name&lt;/b&gt;</title>" in html_page
    for text in ("p0? ", "long p0 ", "short p0.1 "):
        assert html_page.count(html.escape(text + HOSTILE)) == 1
    assert html_page.count("<pre>") == html_page.count("</pre>") == 4


def test_page_refers_to_nothing_outside(html_page):
    addresses = re.findall(r"""\w+:?\w*=["']?https?://[^"'\s>]*|https?://[^"'\s<>]*""", html_page)
    assert set(addresses) == {
        'xmlns="http://www.w3.org/2000/svg',
        'xmlns:xlink="http://www.w3.org/1999/xlink',
    }
    assert not re.search(r"<(link|img|iframe|object|script)\b|@import|url\(|\bsrc=", html_page)


def test_page_holds_chart_table_choice_and_examples(html_page):
    assert html_page.count("<svg") == 1
    chart = html_page[html_page.index("<svg") : html_page.index("</svg>")]
    for text in ("mpd, seed 0", "mean tokens per answer", "accuracy (± standard error)", "one"):
        assert f">{text}</text>" in chart
    assert ">dev</text>" not in chart
    cells = "<td>mpd</td><td>1</td><td>0</td><td>one</td><td>200</td><td>2</td>"
    assert f"<tr>{cells}<td>0.850 ± 0.020</td><td>60.0 ± 1.2</td>" in html_page
    assert html_page.count("<tr>") == 1 + len(SUMMARY)
    assert "<li>mpd, seed 0: round 1</li>" in html_page
    assert "<b>student, 100 tokens</b>" in html_page
    assert "<b>teacher's rewrite, 40 tokens</b>" in html_page


def test_page_without_examples_says_so():
    examples = examples_of(*stage_frames([None]))
    found = page("name", SUMMARY, shipped(SUMMARY, 0.0), examples)
    assert "<p>No rewrite was kept in this shard.</p>" in found
    assert "<pre>" not in found


def test_page_without_benchmarks():
    only_dev = SUMMARY.filter(pl.col("benchmark") == "dev")
    found = page("name", only_dev, shipped(only_dev, 0.0), examples_of(*stage_frames([0.5])))
    assert found.count("<tr>") == 3


def test_main(tmp_path, capsys, caplog):
    caplog.set_level("INFO", "mpd")
    root = tmp_path / "results" / "my run"
    arguments = ["--settings", '{"max_accuracy_drop": 0.0}', "--store", str(tmp_path / "store")]
    arguments += ["--output", str(root / "report.html"), "--evaluations"]
    for branch, tokens in (("mpd/seed_0/round_1", 6), ("base/seed_0/round_0", 8)):
        for benchmark in ("one", "dev"):
            path = root / branch / "evaluate" / f"{benchmark}.parquet"
            answered = evaluated(("a", True, tokens), ("b", False, tokens + 2))
            table.write(path, answered, schema.EVALUATE, {})
            arguments.append(str(path))
    stages = {
        "problems": schema.PROBLEMS,
        "sample": schema.SAMPLE,
        "compress": schema.COMPRESS,
        "filter": schema.FILTER,
    }
    for (name, artifact), frame in zip(stages.items(), stage_frames([0.5]), strict=True):
        table.write(tmp_path / name, frame, artifact, {})
        arguments += [f"--{name}", str(tmp_path / name)]
    report.main(arguments)

    summary = table.read(root / "summary.parquet", schema.SUMMARY)
    columns = ("method", "round", "seed", "benchmark", "accuracy", "mean_tokens", "mean_tokens_se")
    assert summary.select(columns).rows() == [
        ("base", 0, 0, "dev", 0.5, 9.0, 1.0),
        ("base", 0, 0, "one", 0.5, 9.0, 1.0),
        ("mpd", 1, 0, "dev", 0.5, 7.0, 1.0),
        ("mpd", 1, 0, "one", 0.5, 7.0, 1.0),
    ]
    text = (root / "report.html").read_text(encoding="utf-8")
    assert text.startswith('<!doctype html>\n<html lang="en"><meta charset="utf-8">')
    assert "<h1>my run</h1>" in text
    assert json.loads((root / "report.json").read_text())["settings"] == {
        "experiment": "my run",
        "max_accuracy_drop": 0.0,
    }
    printed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in printed if " one " in line] == [
        [*("│", "base", "│", "0", "│", "0", "│", "one", "│", "2", "│", "1", "│"),
         *("0.500", "±", "0.500", "│", "9.0", "±", "1.0", "│", "0.0%", "│", "0.0%", "│")],
        [*("│", "mpd", "│", "1", "│", "0", "│", "one", "│", "2", "│", "1", "│"),
         *("0.500", "±", "0.500", "│", "7.0", "±", "1.0", "│", "0.0%", "│", "0.0%", "│")],
    ]  # fmt: skip
    assert "ship mpd, seed 0: round 1" in printed

    caplog.clear()
    report.main(arguments)
    assert [message.split()[:2] for message in caplog.messages] == [
        ["reused", "summary"],
        ["reused", "report"],
    ]
