"""Differences printed to a terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpd.report.page.cells import difference
from mpd.report.page.side_by_side import SideBySide
from mpd.report.students import held_out
from mpd.store.signs import harmless

WIDTH = 130  # where the output is no terminal


def print_differences(found: SideBySide, path: Path) -> None:
    """Print the differences to the first experiment, what was left out, and the path of the page.

    Texts go through Text: in a plain string a name such as [red] would be read as a style.
    """
    console = Console(width=None if Console().is_terminal else WIDTH)
    console.print(Text(f"differences to {found.labels[0]}, with 95% intervals; * excludes zero"))
    grid = Table(box=None)
    for column, name in enumerate(
        ("experiment", "benchmark", "method", "round", "seeds", "accuracy", "tokens")
    ):
        grid.add_column(name, justify="left" if column < 3 else "right")
    for compared in found.differences:
        for row in held_out(compared.rows).iter_rows(named=True):
            texts = [compared.label, row["benchmark"], row["method"], row["round"]]
            texts += [row["num_seeds"], difference(row, "accuracy").text]
            texts.append(difference(row, "tokens").text)
            grid.add_row(*(Text(harmless(str(text))) for text in texts))
    console.print(grid)
    for compared in found.differences:
        for student in compared.alone:
            line = f"{compared.label}: {student} has no counterpart in {found.labels[0]}"
            console.print(Text(harmless(line)))
    for sentence in found.left_out:
        console.print(Text(f"left out: {sentence}"))
    console.print(Text(f"page: {path}"), soft_wrap=True)
