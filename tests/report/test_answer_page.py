"""The browser of held-out answers in headless Chromium, links to its rows, and its histograms."""

import time

import pytest

from tests.report.pages import settle
from tests.report.test_answer_browser import ANSWERS, COURSES, answer, asked, data_of
from tests.report.test_browser import HOSTILE
from tests.report.test_browser_page import MAX_ROWS

NUM_LINES = 10_000


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three problems, the base student and two rounds of mpd."""
    return data_of(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Two answers to each problem; opd has no base student on seed 1."""
    places = {("base", 0, 0, "one"): 12, ("mpd", 0, 1, "one"): 4, ("opd", 1, 1, "one"): 6}
    rows = {
        place: [
            answer("p0", "wrong" if number == 4 else "correct", number, 0),
            answer("p0", "correct", number + 2, 1, text=f"one and two and {number}"),
        ]
        for place, number in places.items()
    }
    return data_of(tmp_path_factory.mktemp("several"), rows, asked("p0"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Ten thousand lines: five rounds of two thousand problems, with texts."""
    answers = {
        ("base" if number == 0 else "mpd", 0, number, "one"): [
            answer(
                f"p{problem}",
                "wrong" if (problem + number) % 7 == 0 else "correct",
                100 + (problem * 37 + number * 11) % 900,
                text=f"so {problem} and {number} " * 20,
            )
            for problem in range(NUM_LINES // 5)
        ]
        for number in range(6)
    }
    names = [f"p{problem}" for problem in range(NUM_LINES // 5)]
    return data_of(tmp_path_factory.mktemp("large"), answers, asked(*names))


def words(page):
    return page.locator(".answers .rows .reason").all_inner_texts()


def counted(page):
    return page.inner_text(".answers .count")


def chips(page):
    return page.locator(".answers .chips span").all_inner_texts()


def opened_line(page):
    """What the selected line shows of its place, and its verdicts."""
    row = page.locator(".answers [aria-selected=true]")
    return row.locator(".place").inner_text(), row.locator(".reason").inner_text()


def sides(page):
    """The title of each column, and its text."""
    return [
        (side.locator("h4").inner_text(), side.locator(".text, p").inner_text())
        for side in page.locator(".answers .side").all()
    ]


def choose_outcome(page, name):
    page.check(f".answers [name=outcome][value={name}]", force=True)
    settle(page)


def test_what_was_lost_comes_first_beside_the_base_student(opened, small):
    page = opened(small)
    assert counted(page) == "6 / 6"
    assert opened_line(page) == ("one · mpd · seed 0 · round 1", "correct → wrong")
    assert words(page)[1:] == [
        *("wrong → correct", "correct → correct"),
        *("correct → correct", "wrong → no answer", "correct → correct"),
    ]
    assert sides(page) == [
        ("base student 10 tokens · answer 7, correct · 100% cut", "correct in 10"),
        ("round 1 5 tokens · answer 8, wrong", "wrong in 5"),
        ("round 2 6 tokens · answer 7, correct", "correct in 6"),
    ]
    assert page.locator(".answers .side del").all_inner_texts() == ["correct in 10"]
    facts = page.inner_text(".answers header .facts")
    assert "gold 7" in facts
    assert "solved by base always" in facts


def test_outcomes_have_counts_that_follow_the_other_filters(opened, small):
    page = opened(small)
    assert chips(page) == [
        *("all", "right before, wrong now (1)", "wrong before, right now (1)"),
        *("both right, now longer (1)", "no answer (1)", "cut at the limit (1)"),
    ]
    page.select_option(".answers [name=round]", "2")
    settle(page)
    assert [chip.rsplit(" ", 1)[1] for chip in chips(page)[1:]] == [
        "(0)",
        "(0)",
        "(0)",
        "(1)",
        "(1)",
    ]
    choose_outcome(page, "none")
    assert (counted(page), words(page)) == ("1 / 6", ["wrong → no answer"])
    assert "cut at the limit" in page.inner_text(".answers .side >> nth=2")
    names = page.locator(".answers [name=round] option").all_inner_texts()
    assert names == ["all", "1 (0)", "2 (1)"]
    page.click(".answers [type=reset]")
    settle(page)
    assert counted(page) == "6 / 6"
    page.select_option(".answers [name=difficulty]", "never")
    settle(page)
    assert words(page) == ["wrong → correct", "wrong → no answer"]


def test_another_round_is_opened_from_its_column(opened, small):
    page = opened(small)
    page.click(".answers .side button")
    settle(page)
    assert opened_line(page) == ("one · mpd · seed 0 · round 2", "correct → correct")
    choose_outcome(page, "lost")
    page.click(".answers .side button")
    settle(page)
    # It does not pass the filter, and is shown all the same.
    assert page.locator(".answers [aria-selected=true]").count() == 0
    assert "round 2" in page.inner_text(".answers .side.open h4")


def test_several_answers_are_chosen_from_and_a_missing_base_student_is_left_out(opened, several):
    page = opened(several)
    assert words(page) == ["2/2 correct → 1/2 correct", "2/2 correct"]
    assert sides(page)[1] == ("round 1 4 tokens · answer 8, wrong", "wrong in 4")
    page.select_option(".answers .side.open select", label="answer 2: correct, 6 tokens")
    assert sides(page)[1][1] == "one and two and 4"
    page.keyboard.press("Escape")
    page.keyboard.press("End")
    settle(page)
    assert [title.split(" ")[0] for title, _ in sides(page)] == ["round"]
    assert "solved by base always" in page.inner_text(".answers header")


def test_search_in_texts_and_ids(opened, small):
    page = opened(small)
    for search, count in (("p1", 2), ("none in 9", 1), ("CORRECT IN 10", 2), ("nowhere", 0)):
        page.fill(".answers [name=search]", search)
        settle(page)
        assert counted(page) == f"{count} / 6"
    assert page.inner_text(".answers .detail") == "No answer matches the filters."


def test_hostile_texts_stay_texts(opened, tmp_path):
    rows = {
        (f"{place[0]}{HOSTILE}" if place[2] else "base", *place[1:]): [
            {**row, "text": HOSTILE, "answer": HOSTILE, "gold": HOSTILE} for row in rows
        ]
        for place, rows in ANSWERS.items()
        if place[2] < 2
    }
    places = {place: place[0].replace("/", " ") for place in rows}
    rows = {(places[place], *place[1:]): found for place, found in rows.items()}
    page = opened(data_of(tmp_path, rows, asked(*COURSES, question=HOSTILE)))
    assert page.inner_text(".answers h3") == HOSTILE
    assert page.text_content(".answers .side .text >> nth=0") == HOSTILE
    page.fill(".answers [name=search]", HOSTILE)
    settle(page)
    assert counted(page) == "3 / 3"
    assert page.locator("img, iframe, object").count() == 0
    assert page.locator("script:not([type])").count() == 1
    command = page.inner_text(".answers .command code")
    assert command.startswith("python -m mpd.show 'results/tiny/mpd< script><img src=x onerror")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    settle(page)
    address = page.evaluate("location.hash")
    assert "%3Cimg" in address
    page.reload()
    opened.troubles.pop()  # the request for the page
    page.locator(".answers .detail header").wait_for()
    settle(page)
    assert page.evaluate("location.hash") == address
    assert opened_line(page)[0].startswith("one · mpd< script>")


def test_an_address_opens_a_row_with_its_filters(opened, small):
    page = opened(small, address="#answers/one/p2/mpd/0/2?method=mpd&round=2&sort=-tokens")
    assert opened_line(page) == ("one · mpd · seed 0 · round 2", "correct → correct")
    assert counted(page) == "3 / 6"
    assert page.input_value(".answers [name=round]") == "2"
    assert page.get_attribute(".answers [data-sort=tokens]", "data-direction") == "↓"


@pytest.mark.parametrize(
    "address",
    [
        "#answers/one/p9/mpd/0/1",
        "#answers/one/p0?outcome=%3Cimg%3E&round=9&tokens_from=x&sort=constructor&nothing=1",
        "#answers/%E0%A4%A",
        "#answers",
        "#__proto__/x",
    ],
)
def test_an_address_of_what_is_not_there_changes_nothing(opened, small, address):
    page = opened(small, address=address)
    assert counted(page) == "6 / 6"
    missing = "The row of this address is not in this file."
    assert (missing in page.inner_text(".answers .detail")) == ("/p" in address)


def test_back_and_forward_go_through_what_was_open_and_filtered(opened, small):
    page = opened(small)
    assert page.evaluate("location.hash") == ""
    page.click(".answers .row >> nth=1")
    settle(page)
    assert page.evaluate("location.hash") == "#answers/one/p1/mpd/0/1"
    choose_outcome(page, "longer")
    assert page.evaluate("location.hash") == "#answers/one/p2/mpd/0/1?outcome=longer"
    page.click(".answers [type=reset]")
    settle(page)
    assert page.evaluate("location.hash") == "#answers/one/p2/mpd/0/1"

    def state():
        settle(page)
        return (
            page.evaluate("location.hash"),
            counted(page),
            page.inner_text(".answers h4 >> nth=1"),
        )

    page.go_back()
    assert state()[:2] == ("#answers/one/p2/mpd/0/1?outcome=longer", "1 / 6")
    page.go_back()
    assert state() == ("#answers/one/p1/mpd/0/1", "6 / 6", "round 1 8 tokens · answer 7, correct")
    page.go_back()
    assert state() == ("", "6 / 6", "round 1 5 tokens · answer 8, wrong")
    page.go_forward()
    page.go_forward()
    assert state()[:2] == ("#answers/one/p2/mpd/0/1?outcome=longer", "1 / 6")


def test_letters_and_steps_are_one_entry_of_the_history(opened, small):
    page = opened(small)
    page.focus(".answers .list")
    for _ in range(4):
        page.keyboard.press("j")
    settle(page)
    page.wait_for_timeout(300)
    assert page.evaluate("[history.length, location.hash]") == [3, "#answers/one/p1/mpd/0/2"]
    page.go_back()
    settle(page)
    assert page.evaluate("location.hash") == ""


def test_a_button_copies_the_command(opened, small):
    page = opened(small)
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click(".answers .command button")
    page.wait_for_selector("text=copied")
    command = "python -m mpd.show results/tiny/mpd/seed_0/round_1 --benchmark one --problem p0"
    assert page.evaluate("navigator.clipboard.readText()") == command


def bars(page, name):
    return page.locator(f"fieldset:has([name={name}_from]) .bars")


def drag(page, name, start, end):
    """Drag over a share of the bars of a histogram."""
    bars(page, name).scroll_into_view_if_needed()
    box = bars(page, name).bounding_box()
    page.mouse.move(box["x"] + start * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], box["y"] + 20, steps=4)
    page.mouse.up()
    settle(page)


def shown_tokens(page):
    texts = page.locator(".answers .row .number:nth-child(3)").all_inner_texts()
    return [int(text.split(" → ")[1]) for text in texts]


def test_dragging_over_a_histogram_filters(opened, small):
    page = opened(small)
    # Tokens are 2, 5, 6, 8, 8 and 9: bars of one token, the last of which is 8 and more.
    drag(page, "tokens", 0.01, 0.6)
    low, high = (page.input_value(f".answers [name=tokens_{end}]") for end in ("from", "to"))
    assert low == ""
    assert sorted(shown_tokens(page)) == [one for one in (2, 5, 6, 8, 8, 9) if one <= int(high)]
    assert counted(page) != "6 / 6"
    inside = bars(page, "tokens").locator(".inside").count()
    assert 0 < inside < bars(page, "tokens").locator("i").count()
    # What does not pass has no part in the others, and stays in its own.
    heights = "bars => bars.map(bar => bar.style.height).filter(height => height !== '0%').length"
    assert bars(page, "tokens").locator("i").evaluate_all(heights) == 4
    page.wait_for_timeout(300)
    assert f"tokens_to={high}" in page.evaluate("location.hash")


def test_a_click_on_a_bar_chooses_it_and_a_second_one_opens_the_filter(opened, small):
    page = opened(small)
    drag(page, "tokens", 0.02, 0.02)
    assert shown_tokens(page) == [2]
    drag(page, "tokens", 0.02, 0.02)
    assert counted(page) == "6 / 6"


def test_a_histogram_filters_by_its_fields_and_the_arrow_keys(opened, small):
    page = opened(small)
    page.fill(".answers [name=tokens_from]", "8")
    settle(page)
    assert shown_tokens(page) == [8, 8, 9]
    page.fill(".answers [name=tokens_from]", "")
    page.focus(".answers [name=tokens_from]")
    page.keyboard.press("ArrowUp")
    settle(page)
    assert page.input_value(".answers [name=tokens_from]") == "3"
    assert counted(page) == "5 / 6"
    page.keyboard.press("ArrowDown")
    settle(page)
    assert counted(page) == "6 / 6"
    page.focus(".answers [name=tokens_to]")
    page.keyboard.press("ArrowDown")
    settle(page)
    assert max(shown_tokens(page)) < 9


LAPSE = """async (name) => {
  const select = document.querySelector(`.answers [name=${name}]`);
  select.value = [...select.options].at(-1).value;
  const start = performance.now();
  select.dispatchEvent(new Event("input", { bubbles: true }));
  await window.answers.ready;
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""


def test_a_filter_of_ten_thousand_answers_is_quick(opened, large):
    page = opened(large)
    assert counted(page) == "10,000 / 10,000"
    lapses = {name: page.evaluate(LAPSE, name) for name in ("round", "difficulty", "verdict")}
    assert counted(page) != "10,000 / 10,000"
    # Within 200 ms on a machine of its own; tests share theirs.
    assert min(lapses.values()) < 200, lapses
    assert page.locator(".answers .rows > *").count() <= MAX_ROWS
    start = time.perf_counter()
    page.fill(".answers [name=search]", "and 5")
    settle(page)
    assert time.perf_counter() - start < 10
