"""Both browsers in one page: keys, addresses and histograms go to the right one."""

import pytest

from tests.report.pages import settle
from tests.report.test_answer_browser import data_of
from tests.report.test_browser import WORDS
from tests.report.test_browser_page import small_section
from tests.report.test_page import page_of
from tests.text.test_token_texts import tokenizer_of


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    trajectories = small_section(folder / "trajectories", tokenizer_of(WORDS))
    return page_of(name="tiny", browser=trajectories, answers=data_of(folder))


def selected(page, browser):
    return page.locator(f"{browser} [aria-selected=true]").get_attribute("aria-posinset")


def address(page):
    settle(page)
    return page.evaluate("location.hash")


def test_keys_go_to_the_browser_in_view_or_with_the_focus(opened, text):
    page = opened.text(text)
    page.keyboard.press("j")  # no browser is in view
    settle(page)
    assert (selected(page, ".answers"), selected(page, "#browser")) == ("1", "1")
    page.locator("#browser").evaluate("node => node.scrollIntoView()")
    page.keyboard.press("j")
    settle(page)
    assert (selected(page, ".answers"), selected(page, "#browser")) == ("1", "2")
    page.locator(".answers .list").focus()
    page.keyboard.press("j")
    settle(page)
    assert (selected(page, ".answers"), selected(page, "#browser")) == ("2", "2")


def test_an_address_opens_a_trajectory_and_brings_it_into_view(opened, text):
    page = opened.text(text, "#trajectories/mpd/0/1/p0-1/0?reason=kept&divergence_from=1")
    assert page.inner_text("#count") == "1 / 4"
    assert page.inner_text("#detail .command code").endswith(" --sample p0-1")
    assert page.inner_text(".answers .count") == "6 / 6"
    top = page.locator("#browser").bounding_box()["y"]
    assert -1 <= top < 400


def test_back_goes_from_one_browser_to_the_other(opened, text):
    page = opened.text(text)
    page.click("nav a[href='#trajectories']")
    assert address(page) == "#trajectories"  # a heading
    page.click("#rows .row >> nth=1")
    assert address(page) == "#trajectories/mpd/0/1/p0-1/0"
    page.click(".answers .row >> nth=2")
    assert address(page) == "#answers/one/p2/mpd/0/1"
    page.select_option("#filters [name=method]", "opd")
    assert address(page) == "#trajectories/opd/3/1/p0-0/0?method=opd"
    page.go_back()
    page.go_back()
    assert address(page) == "#trajectories/mpd/0/1/p0-1/0"
    assert page.inner_text("#count") == "4 / 4"
    assert selected(page, "#browser") == "2"


def test_what_the_filters_of_an_address_hide_is_shown_all_the_same(opened, text):
    page = opened.text(text, "#trajectories/opd/3/1/p0-0/0?method=mpd")
    assert page.inner_text("#count") == "3 / 4"
    assert page.locator("#browser [aria-selected=true]").count() == 0
    assert "method opd" in page.inner_text("#detail .facts >> nth=0")


def test_histograms_of_trajectories_filter(opened, text):
    page = opened.text(text)
    titles = page.locator("#filters .histogram legend").all_inner_texts()
    assert titles == ["tokens", "ratio", "divergence"]
    page.fill("#filters [name=divergence_from]", "1")
    settle(page)
    assert page.inner_text("#count") == "1 / 4"
    # What has no divergence does not pass.
    page.fill("#filters [name=divergence_from]", "0")
    settle(page)
    assert page.inner_text("#count") == "2 / 4"
    bars = page.locator("#filters .histogram:has([name=ratio_from]) .bars")
    bars.scroll_into_view_if_needed()
    box = bars.bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20, steps=3)
    page.mouse.up()
    settle(page)
    assert page.inner_text("#count") == "1 / 4"
    assert page.inner_text("#detail .command code").endswith(" --sample p0-1")
