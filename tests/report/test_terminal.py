from pathlib import Path

import polars as pl

from mpd.report import terminal
from mpd.report.shipping import shipped
from tests.test_report import BASE, summary_of


def test_printable():
    summary = summary_of(("base", 0, 0, "one", 0.8, 1234.56), ("mpd", 1, 0, "one", 0.85, 60.0))
    assert terminal.printable(summary) == [
        ["base", "0", "0", "one", "200", "2", "0.800 ± 0.020", "1234.6 ± 1.2", "0.5%", "10.0%"],
        ["mpd", "1", "0", "one", "200", "2", "0.850 ± 0.020", "60.0 ± 1.2", "0.5%", "10.0%"],
    ]
    assert len(terminal.HEADER) == len(terminal.printable(summary)[0])


def test_one_seed_prints_a_line_for_each_benchmark(capsys):
    summary = summary_of(BASE, ("mpd", 1, 0, "dev", 0.8, 90.0))
    terminal.print_table(summary, shipped(summary, 0.0), Path("report.html"))
    printed = capsys.readouterr().out
    assert "± standard error over problems" in printed
    assert "0.800 ± 0.020" in printed


def test_several_seeds_print_means_and_ranges(capsys):
    summary = summary_of(
        *[BASE, ("mpd", 1, 0, "dev", 0.75, 90.0), ("mpd", 1, 1, "dev", 0.85, 70.0)],
        *(("opd", 1, seed, "dev", 0.5, 120.0) for seed in range(12)),
        *(("base", 0, seed, "dev", 0.8, 100.0) for seed in range(1, 12)),
    )
    terminal.print_table(summary, shipped(summary, 0.0), Path("report.html"))
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if "mpd" in line and "dev" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [
        *("mpd", "1", "2", "dev"),
        *("0.800 (0.750 to 0.850)", "80.0 (70.0 to 90.0)"),
    ]
    assert len([line for line in lines if line.startswith("ship ")]) == 12
    assert lines[-2:] == ["and 2 more, in the report", "report: report.html"]


def test_the_overlap_before_training_is_printed_where_the_base_student_samples(capsys):
    costs = pl.DataFrame(
        {
            "method": ["mpd", "semi_opd", "semi_opd", "scored_by_vllm"],
            "round": [1, 1, 2, 1],
            "overlap": [0.5, 0.8125, 0.9, None],
        }
    )
    samplers = {"mpd": "student", "semi_opd": "base", "scored_by_vllm": "base"}
    lines = terminal.overlap_lines(costs, samplers)
    summary = summary_of(BASE)
    terminal.print_table(summary, shipped(summary, 0.0), Path("report.html"), lines)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "semi_opd: before training, 81.2% of the student's most probable tokens are among the "
        "teacher's",
        "report: report.html",
    ]
