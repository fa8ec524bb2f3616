import dataclasses
import html
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import polars as pl
import pytest
from jinja2 import UndefinedError

from mpd.report import terminal
from mpd.report.answer_section import AnswerCounts, AnswersData
from mpd.report.browser_section import BrowserData, Counts
from mpd.report.compare import MEASURES
from mpd.report.efficiency import FORMULA
from mpd.report.findings import Findings
from mpd.report.funnel import STEPS
from mpd.report.lengths import QUANTILES
from mpd.report.page import cells, contents, markup, page, tables
from mpd.report.payback import payback
from mpd.report.shipping import shipped
from mpd.store import schema, table
from tests.report.test_series import LENGTHS, METRICS
from tests.test_report import BASE, HOSTILE, summary_of, words_of

SUMMARY = summary_of(
    BASE,
    ("mpd", 1, 0, "dev", 0.8, 90.0),
    ("opd", 1, 0, "dev", 0.8, 95.0),
    ("base", 0, 0, "one", 0.8, 1234.56),
    ("mpd", 1, 0, "one", 0.85, 60.0),
    ("opd", 1, 0, "one", 0.75, 70.0),
)


TO_BASE = "Against the base student"
TO_MPD = "Against mpd of the same round (its last round for untrained methods)"
SCORED = (*MEASURES, "aes")


def compared(*rows):
    """Rows given as method, round, benchmark, against and (mean, low, high) of each measure."""
    return table.frame_of(
        [
            {
                "method": method,
                "round": number,
                "benchmark": benchmark,
                "against": against,
                "num_seeds": 3,
                "num_solved": 1500,
                **{
                    f"{measure}{end}": value
                    for measure, triple in zip(SCORED, triples, strict=True)
                    for end, value in zip(("", "_low", "_high"), triple, strict=True)
                },
                **{name: 100.0 * (number + 1) for number, name in enumerate(QUANTILES)},
                **dict(zip(("longer", "longer_low", "longer_high"), (0.25, 0.2, 0.3), strict=True)),
            }
            for method, number, benchmark, against, *triples in rows
        ],
        schema.COMPARISON,
    )


NOTHING = (None, None, None)
FOUR_LENGTHS = "100 · 200 · 300 · 400"
MEANS = compared(
    *(
        (
            row["method"],
            row["round"],
            row["benchmark"],
            "",
            (row["accuracy"], row["accuracy"] - 0.01, row["accuracy"] + 0.02),
            (row["mean_tokens"], row["mean_tokens"] - 1, row["mean_tokens"] + 2),
            NOTHING,
            NOTHING,
        )
        for row in SUMMARY.to_dicts()
    )
).drop("against", pl.selectors.starts_with("aes", "longer"))
COMPARISON = compared(
    (
        "mpd",
        1,
        "one",
        "base",
        (0.05, -0.01, 0.1),
        (-1174.56, -1180.0, -1170.0),
        NOTHING,
        (1.234, 1.0, 1.5),
    ),
    ("opd", 1, "one", "mpd", (-0.1, -0.2, 0.0), (10.0, 0.04, 20.0), (9.0, -1.0, 19.0), NOTHING),
)
BUDGETS = table.frame_of(
    [
        {
            "method": method,
            "round": number,
            "benchmark": "one",
            "budget": budget,
            "num_seeds": 3,
            "accuracy": 0.5,
            "accuracy_low": 0.25,
            "accuracy_high": 0.75,
        }
        for method, number in (("base", 0), ("mpd", 1), ("opd", 1))
        for budget in (16, 24)
    ],
    schema.BUDGETS,
)
DIFFICULTY = table.frame_of(
    [
        {
            "method": method,
            "round": number,
            "benchmark": "one",
            "bin": bin,
            "num_seeds": 3,
            "num_problems": 7,
            "accuracy": 0.5,
            "accuracy_low": 0.25,
            "accuracy_high": 0.75,
            "tokens": 1000.0,
            "tokens_low": 900.0,
            "tokens_high": 1100.0,
            **dict.fromkeys(("saved_tokens", "saved_tokens_low", "saved_tokens_high"), saved),
        }
        for method, number, saved in (("base", 0, None), ("mpd", 1, 10.0))
        for bin in ("always", "never")
    ],
    schema.DIFFICULTY,
)
COSTS = table.frame_of(
    [
        {
            "method": method,
            "round": 1,
            "num_seeds": 3,
            "num_samples": 1152,
            "student_tokens": student,
            "teacher_tokens": 20000,
            "kept_rows": 864,
            "scored_tokens": 5000,
            "num_steps": 12,
            "trained_tokens": 6000,
            "share_kept": 0.75,
            "wall_seconds": seconds,
            "evaluation_seconds": None,
            "mean_teacher_logprob": -0.01234,
            "think_close_logprob": None,
            "stop_logprob": -3.25,
            "think_close_mass": 0.4567,
            "divergence": 0.123,
            "overlap": overlap,
        }
        for method, student, seconds, overlap in (
            ("mpd", 1000000, 61.7, 0.9251),
            ("opd", 0, None, None),
        )
    ],
    schema.COSTS,
)
H200 = "NVIDIA H200"
SPEED = table.frame_of(
    [
        dict(zip(schema.SPEED.names, row, strict=True))
        for row in (
            ("base", 0, "answers", 3.0, 6.0, 300, 100.0, None, None, 7200.0, 1.0, 2.0, H200),
            ("mpd", 1, "sample", 10.0, 20.0, 1234, 123.4, None, None, 36.0, 2345.6, 70123.4, H200),
            ("mpd", 1, "filter", 2000.4, 2000.4, *[None] * 5, 234.5, None, "cpu"),
            ("mpd", 1, "logits", 4.0, 4.0, 10**6, 2.5e5, 3.956e14, 0.4, 18.0, 2e4, 9e4, H200),
            ("mpd", 1, "answers", 5.0, 5.0, 500, 100.0, None, None, None, 1.0, 2.0, H200),
            ("opd", 1, "sample", None, None, 1234, *[None] * 7),
        )
    ],
    schema.SPEED,
)
PAYBACK = payback(SPEED, SUMMARY, {}).filter(benchmark="one")
ARTIFACTS = [
    {"kind": "sample", "files": 6, "computed": 4, "linked": 2},
    {"kind": "evaluate", "files": 9, "computed": 8, "linked": 1},
]


FUNNEL = {
    "sampled": 1152,
    "complete": 1100,
    "rewritten": 1000,
    "correct": 900,
    "kept": 864,
    "reasons": {"wrong_answer": 200, f"odd{HOSTILE}": 88},
    "timeouts": 3,
    "sample_tokens": 118.25,
    "num_tokens": 28.5,
}
NOTHING_KEPT = {**dict.fromkeys(STEPS, 0), "reasons": {}, "timeouts": 0, "sample_tokens": None}


ANSWERS = AnswersData(
    AnswerCounts(3, "all", "2 of 3", 1, "all"),
    {"lost": "right before, wrong now"},
    {"answers": "abc+/=="},
)
BROWSER = BrowserData(Counts(3, "all", "all", "2 of 3"), {"index": "abc+/=="})


def page_of(summary=SUMMARY, means=MEANS, name="<b>name</b>", **changes):
    found = Findings(
        experiment=name,
        summary=summary,
        means=means,
        comparison=COMPARISON,
        budgets=BUDGETS,
        difficulty=DIFFICULTY,
        costs=COSTS,
        artifacts=ARTIFACTS,
        choice=shipped(summary, 0.0),
        contexts={"mpd": "problem", "opd": "concise"},
        browser=BROWSER,
        answers=ANSWERS,
        lengths=LENGTHS,
        metrics=METRICS,
        funnels={("mpd", 1): FUNNEL, ("opd", 1): {**NOTHING_KEPT, "num_tokens": None}},
        speed=SPEED,
        payback=PAYBACK,
        stages={
            "filter": {f'{{"leaks": "{HOSTILE}"}}': [f"m{number}" for number in range(6)]},
            "sample": {"{}": ["base"]},
        },
        models={"teacher": {"digest": "d" * 20, "weights": "e" * 20, "token_map": "f" * 20}},
        versions={"torch": "2.0"},
    )
    return page.page(dataclasses.replace(found, **changes))


@pytest.fixture(scope="module")
def html_page():
    return page_of()


def cells_of(text, title):
    """The rows of the first table after a title, as lists of cell texts."""
    (found,) = re.finditer(f">{re.escape(html.escape(title))}</(h2|h3|summary)>", text)
    after = text[found.end() :]
    first = after[after.index("<table>") : after.index("</table>")]
    rows = re.findall(r"<tr>(.*?)</tr>", first)
    cells = (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows)
    return [[html.unescape(cell) for cell in row] for row in cells]


def test_measures_of_a_seed_that_solves_some():
    known = {"solved_tokens": 50.25, "tokens_per_correct": 2000.5, "aes": -0.125}
    row = SUMMARY[4:5].with_columns(pl.lit(value).alias(name) for name, value in known.items())
    (line,) = tables.measures_table(row).rows
    assert [cell.text for cell in line] == [
        *(
            "mpd",
            "1",
            "0",
            "one",
            "2",
            "0.850",
            "30.0",
            "58.0",
            "90.0",
            "120",
            "56.0",
            "4.0",
            "50.2",
            "2,000.5",
            "0.000",
            "−0.12",
        ),
    ]


class Parsed(HTMLParser):
    """The tags of a page with the names of their attributes, and its texts outside of scripts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, *(name for name, _ in attributes)))

    def handle_endtag(self, tag):
        self.tags.append(f"/{tag}")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.texts.append(data)

    def handle_comment(self, data):
        self.tags.append("comment")

    def handle_decl(self, declaration):
        self.tags.append(declaration)


EVIL = f"{HOSTILE} <!-- </svg></title></style> {{{{ experiment }}}} {{% endif %}} \" onload=x '"


def page_with(suffix, **changes):
    """A page with a suffix to every text that a user, a model or a file gives."""

    def changed(frame):
        texts = [name for name in ("method", "benchmark") if name in frame.columns]
        # What the page looks for by name keeps it.
        own = [pl.col(name).is_in(["base", "mpd", "dev"]) for name in texts]
        return frame.with_columns(
            pl.when(keep).then(name).otherwise(pl.col(name) + pl.lit(suffix)).alias(name)
            for name, keep in zip(texts, own, strict=True)
        )

    return page_of(
        changed(SUMMARY),
        changed(MEANS),
        f"name{suffix}",
        comparison=changed(COMPARISON),
        budgets=changed(BUDGETS),
        difficulty=changed(DIFFICULTY),
        costs=changed(COSTS),
        artifacts=[{**row, "kind": row["kind"] + suffix} for row in ARTIFACTS],
        contexts={"mpd": f"problem{suffix}", f"opd{suffix}": f"concise{suffix}"},
        lengths=changed(LENGTHS),
        metrics=changed(METRICS).with_columns(method=pl.lit(f"mpd{suffix}")),
        funnels={(f"opd{suffix}", 1): {**FUNNEL, "reasons": {f"odd{suffix}": 88}}},
        payback=changed(PAYBACK),
        speed=changed(SPEED).with_columns(device=pl.lit(f"cpu{suffix}")),
        stages={f"filter{suffix}": {f"{{{suffix}}}": [f"m{suffix}"]}},
        models={f"teacher{suffix}": dict.fromkeys(("digest", "weights", "token_map"), suffix)},
        versions={f"torch{suffix}": f"2.0{suffix}"},
        **changes,
    )


@pytest.fixture(scope="module")
def evil_page():
    return page_with(EVIL)


def without_figures(text):
    return re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)


def test_what_models_and_users_wrote_changes_no_tag_of_the_page(evil_page):
    evil, plain = (Parsed(without_figures(text)) for text in (evil_page, page_with("!")))
    assert evil.tags == plain.tags
    expected = [text.replace("!", EVIL) for text in plain.texts]
    # Of digests, names and lists of names the page shows the beginning.
    shown = [text.replace("!", EVIL[:16]) for text in plain.texts]
    assert len(evil.texts) == len(plain.texts)
    assert all(text in pair for text, *pair in zip(evil.texts, expected, shown, strict=True))
    assert sum(EVIL in text for text in evil.texts) > 40


def test_what_models_and_users_wrote_changes_no_tag_of_a_figure(evil_page):
    figures = re.findall(r"<svg.*?</svg>", evil_page, flags=re.DOTALL)
    assert len(figures) == len(contents.FIGURES)
    for figure in figures:
        elements = list(ElementTree.fromstring(figure).iter())
        tags = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in elements}
        assert tags <= {"svg", "g", "path", "text", "line", "rect", "defs", "clipPath", "tspan"}
        names = {name for element in elements for name in element.attrib}
        assert not [name for name in names if name.startswith("on") or "href" in name]
        assert any("<script>alert" in (element.text or "") for element in elements)


def test_a_variable_that_is_not_given_is_an_error():
    with pytest.raises(UndefinedError, match="'browser' is undefined"):
        markup.rendered("trajectories.html")


def test_entries_of_the_contents_stand_in_a_section_and_read_findings():
    fields = {field.name for field in dataclasses.fields(Findings)}
    for entry in (*contents.FIGURES, *contents.TABLES):
        assert entry.section in contents.PAGE_SECTIONS
        assert set(entry.reads) <= fields


def test_an_entry_is_all_that_a_figure_or_a_table_needs(monkeypatch):
    figure = contents.Figure(
        section="Costs",
        title="A new <figure>",
        caption="Of a & b.",
        reads=("costs", "versions"),
        draw=lambda costs, versions: f"<svg>{len(costs)} {versions['torch']}</svg>",
    )
    table = contents.Table(
        section="Costs",
        title="A new table",
        reads=("versions",),
        cells=lambda versions: cells.grid(["one"], [[name] for name in versions]),
        folded=True,
    )
    monkeypatch.setattr(page, "FIGURES", (*contents.FIGURES, figure))
    monkeypatch.setattr(page, "TABLES", (*contents.TABLES, table))
    text = page_of()
    chart = '<div class="chart" role="img" aria-label="A new &lt;figure&gt;"><svg>2 2.0</svg></div>'
    figure_text = f"<p>Of a &amp; b.</p>\n{chart}"
    start = '<h2 id="costs">Costs</h2>\n<h3>A new &lt;figure&gt;</h3>\n'
    assert text.count(start + figure_text) == 1
    assert cells_of(text, "A new table") == [["one"], ["torch"]]
    without = page_of(versions={})
    assert "A new" not in without


def test_page_has_a_heading_and_a_link_for_each_section(html_page):
    anchors = [title.lower().replace(" ", "-") for title in contents.PAGE_SECTIONS]
    assert re.findall('<h2 id="(.*?)">', html_page) == anchors
    assert re.findall('<a href="#(.*?)">', html_page) == anchors


def test_page_holds_the_browser_and_its_policy_before_all_content(html_page):
    data = '<script type="application/octet-stream" id="data-index">abc+/==</script>'
    assert html_page.count(data) == 1
    assert html_page.index("Content-Security-Policy") < html_page.index("<style>")
    assert html_page.index("<style>") < html_page.index("<h1>") < html_page.index(data)


def test_page_refers_to_nothing_outside(html_page):
    addresses = re.findall(r"""\w+:?\w*=["']?https?://[^"'\s>]*|https?://[^"'\s<>]*""", html_page)
    assert set(addresses) == {
        'xmlns="http://www.w3.org/2000/svg',
        'xmlns:xlink="http://www.w3.org/1999/xlink',
    }
    assert not re.search(r"<(link|img|iframe|object)\b|@import|url\(|\bsrc=", html_page)


def test_page_holds_charts_and_tables(html_page):
    assert html_page.count("<svg") == len(contents.FIGURES)
    chart = html_page[html_page.index("<svg") : html_page.index("</svg>")]
    for text in ("base", "mpd", "opd", "mean tokens per answer (log scale)", "accuracy", "one"):
        assert f">{text}</text>" in chart
    assert ">dev</text>" not in chart
    assert cells_of(html_page, "Accuracy against tokens")[1:3] == [
        [
            "one",
            "base",
            "0",
            "3",
            "0.800 [0.790, 0.820]",
            "1,234.6 [1,233.6, 1,236.6]",
            FOUR_LENGTHS,
        ],
        ["one", "mpd", "1", "3", "0.850 [0.840, 0.870]", "60.0 [59.0, 62.0]", FOUR_LENGTHS],
    ]
    assert [row[:3] for row in cells_of(html_page, "The development split")[1:]] == [
        ["dev", "base", "0"],
        ["dev", "mpd", "1"],
        ["dev", "opd", "1"],
    ]
    assert cells_of(html_page, "Every seed, ± standard error over problems") == [
        terminal.HEADER,
        *terminal.printable(SUMMARY),
    ]
    further = cells_of(html_page, "Every seed, further measures")
    assert further[0][4:7] == ["samples, k", "pass@k", "tokens, p10"]
    assert further[4][3:] == [
        *("one", "2", "0.800", "617.3", "1,232.6", "1,264.6", "2,469"),
        *("1,230.6", "4.0", "–", "–", "0.000", "–"),
    ]
    assert cells_of(html_page, "Which round to ship") == [
        ["method", "seed 0"],
        ["mpd", "round 1"],
        ["opd", "round 1"],
    ]


def test_significance_is_marked_where_the_interval_excludes_zero(html_page):
    assert cells_of(html_page, TO_BASE)[1:] == [
        [
            *("one", "mpd", "1", "+0.050 [−0.010, +0.100]"),
            *("−1,174.6 [−1,180.0, −1,170.0] *", "–", "+1.23 [+1.00, +1.50] *"),
            *("+100 · +200 · +300 · +400", "25% [20%, 30%]", "1,500"),
        ]
    ]
    assert cells_of(html_page, TO_MPD)[1:] == [
        [
            *("one", "opd", "1", "−0.100 [−0.200, +0.000]"),
            *("+10.0 [+0.0, +20.0] *", "+9.0 [−1.0, +19.0]"),
            *("+100 · +200 · +300 · +400", "25% [20%, 30%]", "1,500"),
        ]
    ]
    clear = re.findall('<td class="clear">(.*?)</td>', html_page)
    assert clear == [
        "−1,174.6 [−1,180.0, −1,170.0] *",
        "+1.23 [+1.00, +1.50] *",
        "+10.0 [+0.0, +20.0] *",
    ]
    assert FORMULA in html.unescape(html_page)
    assert html_page.count('class="unclear"') == 4


def test_page_holds_costs_diagnostics_and_counts(html_page):
    assert cells_of(html_page, "Costs")[1:] == [
        [
            *("mpd", "1", "3", "1,152", "1,000,000", "20,000"),
            *("5,000", "864", "12", "6,000", "62", "–"),
        ],
        ["opd", "1", "3", "1,152", "0", "20,000", "5,000", "864", "12", "6,000", "–", "–"],
    ]
    assert cells_of(html_page, "What the teacher thinks of the trained completions")[1:] == [
        ["mpd", "1", "problem", "75.0%", "−0.012", "−3.2", "–", "45.7%", "0.12", "92.5%"],
        ["opd", "1", "concise", "75.0%", "−0.012", "−3.2", "–", "45.7%", "0.12", "–"],
    ]
    assert cells_of(html_page, "Computed and linked") == [
        ["kind", "files", "computed", "linked"],
        ["sample", "6", "4", "2"],
        ["evaluate", "9", "8", "1"],
        ["all", "15", "12", "3"],
    ]


@pytest.mark.parametrize(
    ("num_seeds", "sentence"),
    [
        (1, "they do not show how much another seed would differ."),
        (2, "they would contain the true value at most 50% of the time."),
        (3, "they would contain the true value at most 75% of the time."),
        (5, "they would contain the true value at most 94% of the time."),
    ],
)
def test_the_page_says_what_few_seeds_are_worth(num_seeds, sentence):
    assert tables.intervals_note(num_seeds).endswith(sentence)


def test_the_result_leads_from_the_base_student_to_each_round(html_page):
    assert '<div class="card"><h3>one, round 1</h3>\n<p class="big">−95% tokens</p>' in html_page
    assert "<p>accuracy +0.050 [−0.010, +0.100] against the base student</p>" in html_page
    assert "on the\ndevelopment split: round 1 (seed 0).</p>" in html_page
    assert cells_of(html_page, "one, round 1") == [
        ["student", "accuracy", "tokens"],
        ["base", "0.800 [0.790, 0.820]", "1,234.6 [1,233.6, 1,236.6]"],
        ["round 1", "0.850 [0.840, 0.870]", "60.0 [59.0, 62.0]"],
    ]


def test_the_result_of_a_grid_without_mpd_is_of_the_first_method():
    others = pl.col("method") != "mpd"
    comparison = COMPARISON.with_columns(method=pl.lit("opd")).filter(against="base")
    found = page_of(
        SUMMARY.filter(others),
        MEANS.filter(others),
        comparison=comparison,
    )
    assert "each round of <b>opd</b>: means with 95% intervals, from 1 seed." in words_of(found)


@pytest.mark.parametrize(
    ("rounds", "number"), [([1], 1), ([0, 0], None), ([0, 2, 0], 2), ([2, 1, 2], 2), ([3, 1], 1)]
)
def test_the_headline_is_of_the_round_that_most_seeds_ship(rounds, number):
    assert page.shipped_most(pl.DataFrame({"round": rounds})) == number


def test_page_holds_the_funnel(html_page):
    assert cells_of(html_page, "What became of the trajectories") == [
        [
            *("method", "round", "sampled", "complete", "rewritten", "correct", "kept"),
            *("tokens before", "tokens after", "checker timeouts", "why the others were not kept"),
        ],
        [
            *("mpd", "1", "1,152", "1,100", "1,000", "900", "864", "118.2", "28.5", "3"),
            f"200 wrong_answer, 88 odd{HOSTILE}",
        ],
        ["opd", "1", "0", "0", "0", "0", "0", "–", "–", "0", "–"],
    ]


def test_page_holds_the_speed_of_stages(html_page):
    assert cells_of(html_page, "Speed by stage") == [
        [
            *("method", "round", "stage", "seconds", "tokens", "tokens/s", "TFLOP/s", "MFU"),
            *("energy, Wh", "memory, GB", "GPU memory, GB", "device"),
        ],
        ["base", "0", "answers", "3", "300", "100", "–", "–", "2.00", "0.0", "0.0", H200],
        ["mpd", "1", "sample", "10", "1,234", "123", "–", "–", "0.01", "2.3", "70.1", H200],
        ["mpd", "1", "filter", "2,000", "–", "–", "–", "–", "–", "0.2", "–", "cpu"],
        [
            *("mpd", "1", "logits", "4", "1,000,000", "250,000", "395.6", "0.40"),
            *("0.01", "20.0", "90.0", H200),
        ],
        ["mpd", "1", "answers", "5", "500", "100", "–", "–", "–", "0.0", "0.0", H200],
        ["opd", "1", "sample", "–", "1,234", *["–"] * 7],
    ]


def test_columns_of_which_no_note_has_a_value_are_left_out():
    on_cpu = SPEED.filter(stage="filter")
    assert cells_of(page_of(speed=on_cpu), "Speed by stage") == [
        ["method", "round", "stage", "seconds", "memory, GB", "device"],
        ["mpd", "1", "filter", "2,000", "0.2", "cpu"],
    ]
    old = SPEED.filter(method="opd")
    assert cells_of(page_of(speed=old), "Speed by stage") == [
        ["method", "round", "stage", "tokens"],
        ["opd", "1", "sample", "1,234"],
    ]


def test_page_holds_seconds_and_energy_of_each_device(html_page):
    assert cells_of(html_page, "Seconds and energy of each device") == [
        [
            *("method", "round", "device", "device-seconds, training"),
            *("device-seconds, evaluation", "energy, training, Wh", "energy, evaluation, Wh"),
        ],
        ["base", "0", H200, "–", "6.0", "–", "2.00"],
        ["mpd", "1", H200, "24.0", "5.0", "0.01", "–"],  # 36 J and 18 J
        ["mpd", "1", "cpu", "2,000.4", "–", "–", "–"],
        ["opd", "1", "–", "–", "–", "–", "–"],
    ]


def test_page_says_when_training_has_paid_for_itself(html_page):
    header, *rows = cells_of(html_page, "When training has paid for itself")
    assert header == [
        *("benchmark", "method", "round", "training, device-seconds", "training, Wh"),
        *("tokens saved", "seconds per percent saved", "Wh per percent saved"),
        *("seconds per answer", "seconds per correct answer", "J per correct answer"),
        "answers until paid",
    ]
    # A token takes 6 / 300 = 0.02 device-seconds and 24 J. The base student needs 1,234.56 of them
    # with an accuracy of .8, mpd 60 with .85; its training took 2,024.4 device-seconds and 54 J.
    assert rows == [
        ["one", "base", "0", "–", "–", "–", "–", "–", "24.6912", "30.8640", "37,036.8", "–"],
        [
            *("one", "mpd", "1", "2,024.4", "0.01", "95.1%", "21.28", "0.000"),
            *("1.2000", "1.4118", "1,694.1", "86"),
        ],
        [
            *("one", "opd", "1", "–", "–", "94.3%", "–", "–"),
            *("1.4000", "1.8667", "2,240.0", "–"),
        ],
    ]


def test_page_holds_the_bins_of_difficulty_the_hardest_first(html_page):
    rows = [
        ["one", bin, "7", *student, "0.500 [0.250, 0.750]", "1,000.0 [900.0, 1,100.0]", saved]
        for bin in ("never", "always")
        for student, saved in (
            (("base", "0"), "–"),
            (("mpd", "1"), "+10.0 [+10.0, +10.0]"),
        )
    ]
    header = ["benchmark", "solved by base", "problems", "method", "round"]
    header += ["accuracy", "tokens", "saved tokens"]
    assert cells_of(html_page, "Difficulty") == [header, *rows]


def test_page_says_where_it_came_from(html_page):
    assert cells_of(html_page, "Where it came from") == [["package", "version"], ["torch", "2.0"]]
    assert f'<td class="text">{"d" * 16}</td>' in html_page
    assert "<summary>m0; m1; m2; m3; and 2 more</summary>" in html_page


def test_page_of_nothing_trained_says_so():
    untrained = pl.col("method") == "base"
    found = page_of(
        SUMMARY.filter(untrained),
        MEANS.filter(untrained),
        metrics=pl.DataFrame(),
        lengths=LENGTHS.filter(untrained),
    )
    assert "<p>Only untrained students were evaluated.</p>" in found
    assert "<p>Nothing was trained.</p>" in found
    training = found[found.index('<h2 id="training">') : found.index('<h2 id="costs">')]
    assert "<svg" not in training


def test_page_without_benchmarks_draws_the_development_split():
    only_dev = pl.col("benchmark") == "dev"
    comparison = COMPARISON.with_columns(benchmark=pl.lit("dev"))
    summary, means = SUMMARY.filter(only_dev), MEANS.filter(only_dev)
    found = page_of(summary, means, comparison=comparison)
    chart = found[found.index("<svg") : found.index("</svg>")]
    assert ">dev</text>" in chart
