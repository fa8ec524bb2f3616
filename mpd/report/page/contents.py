"""What the page shows, in its order: sections, and an entry for each figure and each table.

A new figure is an entry here and a function of charts.py; a new table is one and one of tables.py.
Entries read fields of `Findings` (page.py); where one of these is empty, the entry is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mpd.report.page import charts, tables
from mpd.report.page.cells import Grid

# Titles, and the template of what a section has beside figures and tables, which come first.
SECTIONS = {
    "Result": "result.html",
    "Accuracy against tokens": None,
    "Differences": "differences.html",
    "Answer lengths": None,
    "Difficulty": None,
    "Which round to ship": None,
    "What became of the trajectories": None,
    "Trajectories": "trajectories.html",
    "Training": None,
    "Costs": None,
    "Where it came from": "settings.html",
}


@dataclass(frozen=True)
class Figure:
    """`draw` makes SVG of what is read. Without a title, that of the section is enough."""

    section: str
    reads: tuple[str, ...]
    draw: Callable[..., str]
    caption: str
    title: str = ""


@dataclass(frozen=True)
class Table:
    """`cells` makes a grid of what is read. Without a title, that of the section is enough.

    A folded table is opened by its title. Where `by_split`, the one frame that is read is shown in
    two tables: that of the benchmarks, and that of the development split, folded.
    """

    section: str
    reads: tuple[str, ...]
    cells: Callable[..., Grid]
    caption: str = ""
    title: str = ""
    folded: bool = False
    by_split: bool = False


FIGURES = (
    Figure(
        section="Accuracy against tokens",
        caption="A large point is a student, its training round beside it, mean over all seeds; "
        "the bars are 95\u00a0% intervals. A small faint point is one seed. The square is the "
        "base student. Further left is shorter, further up is more often right.",
        reads=("summary", "means"),
        draw=charts.students_chart,
    ),
    Figure(
        section="Answer lengths",
        caption="Tokens of every answer, all seeds: the base student in grey, behind the last "
        "round of each method.",
        reads=("lengths",),
        draw=charts.histograms,
    ),
    Figure(
        section="Answer lengths",
        title="Under a token budget",
        caption="Accuracy, had every answer been cut at so many tokens: prefixes of the same "
        "answers, graded anew. The last round of each method.",
        reads=("budgets",),
        draw=charts.budget_curves,
    ),
    Figure(
        section="Training",
        caption="A line is a seed. The mass off the support is what the cache merges into its "
        "tail buckets.",
        reads=("metrics",),
        draw=charts.curves,
    ),
)

TABLES = (
    Table(
        section="Accuracy against tokens",
        reads=("means",),
        cells=tables.means_table,
        by_split=True,
    ),
    Table(
        section="Accuracy against tokens",
        title="Every seed, ± standard error over problems",
        reads=("summary",),
        cells=tables.summary_table,
        folded=True,
    ),
    Table(
        section="Accuracy against tokens",
        title="Every seed, further measures",
        caption="pass@k: the share of problems with a correct one among k samples. “Tokens, "
        "solved” are those of correct samples, of other problems for each student; tokens per "
        "correct answer, of all samples over the number of correct ones.",
        reads=("summary",),
        cells=tables.measures_table,
        folded=True,
    ),
    Table(
        section="Difficulty",
        caption="Problems by how often the base student solves them, over all its seeds and "
        "samples. Saved tokens are the base student's less the student's own on the same "
        "problem. Bins are made from the base student's own answers, and its wrong ones may be "
        "longer than others: where it seldom solves, any student looks more accurate and shorter "
        "beside it. Compare other students with each other.",
        reads=("difficulty",),
        cells=tables.difficulty_table,
        by_split=True,
    ),
    Table(
        section="Which round to ship",
        caption="Chosen on the development split: the shortest of the students that are shorter "
        "than the base student and no less accurate, but for the configured drop; among equally "
        "short ones, within the standard error, the most accurate. Where no round is good, stay "
        "with the base student.",
        reads=("choice",),
        cells=tables.shipping_table,
    ),
    Table(
        section="What became of the trajectories",
        caption="Complete ones were not cut, correct ones have the right answer after rewriting, "
        "kept ones are trained on. Tokens are means over the kept: of the trajectory, and of "
        "what is trained on.",
        reads=("funnels",),
        cells=tables.funnel_table,
    ),
    Table(
        section="Training",
        title="What the teacher thinks of the trained completions",
        caption="Under the prompt that the scorer sees (“problem” is the plain one, under which "
        "the student will answer), means over trained completions: log-probabilities in nats of "
        "all ids, of the last id, and of the end of thinking where thinking ends, with its "
        "probability; and per token the exact divergence of the student from the scorer before "
        "the round's training. Where the scorer finds the rewrites unlikely, or would rather go "
        "on thinking, reverse KL works against them.",
        reads=("costs", "contexts"),
        cells=tables.diagnostics_table,
    ),
    Table(
        section="Costs",
        caption="Sums over the seeds of a method. Every method is charged in full, also for "
        "what it shares with another. Evaluation is not among the tokens. Seconds are the wall "
        "time of computing the artifacts, also where the store already had them; those of before "
        "version 0.2 have none.",
        reads=("costs",),
        cells=tables.costs_table,
    ),
    Table(
        section="Costs",
        title="Seconds by stage",
        reads=("seconds",),
        cells=tables.seconds_table,
    ),
    Table(
        section="Costs",
        title="Computed and linked",
        caption="Of the files behind this report, those that had to be computed, and those that "
        "are further links to one of them: what branches share is computed once.",
        reads=("artifacts",),
        cells=tables.artifacts_table,
    ),
    Table(
        section="Where it came from",
        caption="Every artifact has the settings and the digests of its inputs beside it, in a "
        "JSON file of its name. These are the packages that wrote this page, the models that the "
        "run started from, and the settings of each stage.",
        reads=("versions",),
        cells=tables.versions_table,
    ),
    Table(
        section="Where it came from",
        reads=("models",),
        cells=tables.models_table,
    ),
)
