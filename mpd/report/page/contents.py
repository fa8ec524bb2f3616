"""What the page shows: its sections, and one entry for each figure and each table, in order.

To add a figure, edit two files of this package:

1. charts.py: write a function that takes some fields of `Findings` and returns SVG.
2. this one: add a `Figure` to FIGURES, with its section, the fields that it reads, and its caption.

For a table, write a function of tables.py that returns a `Grid`, and add a `Table` to TABLES. The
templates and the links follow. An entry is left out where a field that it reads is empty. The
fields are those of mpd/report/findings.py; data that none of them has are a new field there. As
with any change of the page, raise REPORT_VERSION in mpd/store/schema/__init__.py and record the
golden digest, so that pages are written again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mpd.report.page import charts, cost_tables, tables
from mpd.report.page.cells import Grid
from mpd.report.payback import FORMULA

# Titles; and the template of what else a section shows, below its figures and tables.
PAGE_SECTIONS = {
    "Result": "result.html",
    "Accuracy against tokens": None,
    "Differences": "differences.html",
    "Answer lengths": None,
    "Difficulty": None,
    "Which round to ship": None,
    "What became of the trajectories": None,
    "Held-out answers": "answers.html",
    "Trajectories": "trajectories.html",
    "Training": None,
    "Costs": None,
    "Where it came from": "settings.html",
}


@dataclass(frozen=True)
class Figure:
    """`draw` makes SVG of the fields in `reads`. Without a title it has that of its section."""

    section: str
    reads: tuple[str, ...]
    draw: Callable[..., str]
    caption: str
    title: str = ""


@dataclass(frozen=True)
class Table:
    """`cells` makes a grid of the fields in `reads`. Without a title it has that of its section.

    A folded table is opened by its title. With `by_split`, the one frame that is read is shown as
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
        caption="Each large point is a student, the mean over its seeds, labelled with its "
        "training round; the bars are 95% intervals. Each small faint point is one seed. The "
        "square is the base student. Further left is shorter, further up is more accurate.",
        reads=("summary", "means"),
        draw=charts.students_chart,
    ),
    Figure(
        section="Answer lengths",
        caption="Tokens of every answer, over all seeds: the last round of each method, in front "
        "of the base student in grey.",
        reads=("lengths",),
        draw=charts.histograms,
    ),
    Figure(
        section="Answer lengths",
        title="Under a token budget",
        caption="Accuracy if every answer had been cut at this many tokens: prefixes of the same "
        "answers, graded again. Methods are shown after their last round.",
        reads=("budgets",),
        draw=charts.budget_curves,
    ),
    Figure(
        section="Training",
        caption="Each line is one seed. Mass off the support is the probability that the cache "
        "merges into its tail buckets.",
        reads=("metrics",),
        draw=charts.training_curves,
    ),
)

TABLES = (
    Table(
        section="Accuracy against tokens",
        caption="p10, median, p90 and longest are quantiles of the tokens of all answers; a median "
        "can fall while the mean rises.",
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
        caption="pass@k is the share of problems with at least one correct answer among k "
        "samples. “Tokens, solved” is the mean over correct answers, which are answers to other "
        "problems for each student. Tokens per correct answer are the tokens of all samples, "
        "divided by the number of correct ones.",
        reads=("summary",),
        cells=tables.measures_table,
        folded=True,
    ),
    Table(
        section="Difficulty",
        caption="Problems are binned by how often the base student solves them, over all its "
        "seeds and samples. Saved tokens are the base student's less the student's own, on the "
        "same problem. The bins depend on the base student's own answers, and its wrong answers "
        "may be longer than others: in the bins that it seldom solves, any student looks more "
        "accurate and shorter than the base student. Compare the other students with each other.",
        reads=("difficulty",),
        cells=tables.difficulty_table,
        by_split=True,
    ),
    Table(
        section="Which round to ship",
        caption="Chosen on the development split: the shortest student of those that are shorter "
        "than the base student and less accurate by no more than report.max_accuracy_drop. Where "
        "others are as short, within the standard error, the most accurate of these. Where no "
        "round qualifies, stay with the base student.",
        reads=("choice",),
        cells=tables.shipping_table,
    ),
    Table(
        section="What became of the trajectories",
        caption="Complete trajectories were not cut, correct ones have the right answer after "
        "rewriting, kept ones are trained on. Tokens before and after are means over the kept "
        "trajectories: of the trajectory, and of what is trained on.",
        reads=("funnels",),
        cells=tables.funnel_table,
    ),
    Table(
        section="Training",
        title="What the teacher thinks of the trained completions",
        caption="Means over trained completions, under the prompt that the scorer sees (“problem” "
        "is the plain prompt, which the student will answer): log-probabilities (log p, in nats) "
        "of all tokens, of the last token, and of the end of thinking where thinking ends, with "
        "its probability (p); the exact divergence of the student from the scorer per token, "
        "before the round's training; and how many of the student's most probable ids are among "
        "the scorer's, of 64 or of logits.student_top_k, where the cache tells. Where the scorer "
        "finds the rewrites unlikely, or would rather go on thinking, reverse KL works against "
        "them.",
        reads=("costs", "contexts"),
        cells=tables.diagnostics_table,
    ),
    Table(
        section="Costs",
        caption="Sums over the seeds of a method. Every method is charged in full, even for what "
        "it shares with another one. Tokens of evaluation are not counted. Seconds are the wall "
        "time that computing the artifacts took, even where the store already had them; artifacts "
        "made before version 0.2 have none.",
        reads=("costs",),
        cells=cost_tables.costs_table,
    ),
    Table(
        section="Costs",
        title="When training has paid for itself",
        caption="For one seed, the mean over them. Training is that of the student's round and of "
        "those before it, even where the store already had the artifacts, without evaluation and "
        "without the models that the run starts from; a second of any device counts the same. "
        "Answers until paid are "
        f"{FORMULA}: serving is assumed to cost for each token what evaluation cost, with its "
        "batches and its loading of models. Seconds and energy of a correct answer are those of "
        "as many answers as it takes on average to get one. Energy is that of GPUs which tell it; "
        "a dash is what no note says, or where nothing is saved.",
        reads=("payback",),
        cells=cost_tables.payback_table,
        by_split=True,
    ),
    Table(
        section="Costs",
        title="Seconds and energy of each device",
        caption="Sums over seeds, stages, shards and benchmarks: the seconds of each job times its "
        "GPUs; those of a job without GPUs count once. Energy is that of whole cards, also for "
        "what else ran on them, and is known where the package nvidia-ml-py is installed and the "
        "card counts it.",
        reads=("speed",),
        cells=cost_tables.devices_table,
    ),
    Table(
        section="Costs",
        title="Speed by stage",
        caption="Sums over seeds, shards and benchmarks. Where jobs ran at once, their seconds "
        "are added up: speed is that of one job. Seconds include loading models and writing files; "
        "the log leaves these out, so its speeds are higher. MFU (model FLOPs utilisation) is the "
        "share of the GPU's dense bf16 peak that the models' passes used; it is known for scoring "
        "by transformers and for training in one process. Memory is the most that a process took, "
        "and the most that its tensors took on a GPU.",
        reads=("speed",),
        cells=cost_tables.speed_table,
    ),
    Table(
        section="Costs",
        title="Computed and linked",
        caption="The files behind this report: how many were computed, and how many are links to "
        "one of these. What branches share is computed once.",
        reads=("artifacts",),
        cells=cost_tables.artifacts_table,
    ),
    Table(
        section="Where it came from",
        caption="Beside every artifact, a JSON file of the same name has its settings and the "
        "digests of its inputs. Below are the packages that wrote this page, the models that the "
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
