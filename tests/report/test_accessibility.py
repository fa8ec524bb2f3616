"""The page for screen readers and keyboards, checked by axe-core in headless Chromium."""

from itertools import pairwise

import pytest

from tests.offline import accessibility_findings
from tests.report.pages import settle
from tests.report.test_answer_browser import data_of
from tests.report.test_browser import WORDS
from tests.report.test_browser_page import small_section
from tests.report.test_page import page_of
from tests.text.test_token_texts import tokenizer_of


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory):
    return small_section(tmp_path_factory.mktemp("trajectories"), tokenizer_of(WORDS))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return data_of(tmp_path_factory.mktemp("answers"))


def unfold(page):
    """Open what is folded."""
    page.locator("details").evaluate_all("all => all.forEach(one => (one.open = true))")
    settle(page)


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 800), ("dark", 390)]
)
def test_axe_finds_nothing(opened, trajectories, answers, scheme, width):
    page = opened.text(page_of(name="tiny", browser=trajectories, answers=answers))
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    unfold(page)
    assert accessibility_findings(page) == []
    # The tokens of a trajectory, a chosen outcome, and lists without any row.
    page.focus("#list")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.check("[name=outcome][value=cut]", force=True)
    settle(page)
    assert accessibility_findings(page, ".browser") == []
    for search in page.locator("[name=search]").all():
        search.fill("nowhere")
        settle(page)
    assert accessibility_findings(page, ".browser") == []


def test_what_scrolls_sideways_can_have_the_focus(opened, trajectories, answers):
    page = opened.text(page_of(name="tiny", browser=trajectories, answers=answers))
    page.set_viewport_size({"width": 390, "height": 800})
    unfold(page)
    unreachable = """[...document.querySelectorAll(".wide, .chart")].filter(
        (node) => (node.scrollWidth > node.clientWidth) !== (node.tabIndex === 0)).length"""
    assert page.evaluate(unreachable) == 0


def test_headings_leave_out_no_level(opened, trajectories, answers):
    page = opened.text(page_of(name="tiny", browser=trajectories, answers=answers))
    headings = page.locator("h1, h2, h3, h4")
    levels = headings.evaluate_all("nodes => nodes.map(node => Number(node.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(after - before for before, after in pairwise(levels)) == 1
