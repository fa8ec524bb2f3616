"""The trajectory browser in headless Chromium."""

import random

import pytest

from mpd.report import browser_section
from mpd.report.answer_section import AnswerCounts, AnswersData
from tests.report.pages import settle
from tests.report.test_browser import (
    CACHED,
    HOSTILE,
    ROUND,
    WORDS,
    cached,
    problems_of,
    rewritten,
    round_of,
    sampled,
    verdict,
    write_round,
)
from tests.report.test_page import EVIL, page_of, page_with
from tests.text.test_token_texts import tokenizer_of

NO_ANSWERS = AnswersData(AnswerCounts(0, "all", "all", 0, "all"), {}, {})
NUM_LINES = 10_000
MAX_ROWS = 60  # in the document: those that can be seen at 1280 × 800, and six above and below


@pytest.fixture(scope="module")
def words():
    """A tokenizer of a few words, one of them hostile."""
    return tokenizer_of(WORDS)


def small_section(folder, words):
    """Three methods: a kept rewrite with tokens, a copy, one trained on as it is, one cut."""
    mpd = write_round(
        folder / "mpd",
        sample=[
            sampled(0, "go and go 7"),
            sampled(1, f"say {HOSTILE} 7"),
            sampled(0, "endless", problem="p1"),
        ],
        compress=[
            rewritten("p0-0", "7"),
            rewritten("p0-1", HOSTILE, completion_ids=[3, 5]),
            rewritten("p1-0", None, status="sample_truncated", num_tokens=None),
        ],
        filter=[
            verdict(0, sample_verdict="correct"),
            verdict(1, num_tokens=2, ratio=0.25),
            verdict(
                0,
                problem_id="p1",
                num_tokens=None,
                ratio=None,
                reason="sample_truncated",
                answer=None,
                verdict="none",
            ),
        ],
        logits=[cached("p0-0"), cached("p0-1", completion_ids=[3, 5], divergence=[2.5, 0.0])],
    )
    opd = write_round(
        folder / "opd",
        sample=[sampled(0, "7")],
        compress=[rewritten("p0-0", "7")],
        filter=[verdict(0, num_tokens=8, ratio=1.0)],
        logits=[
            cached(
                "p0-0",
                support_size=None,
                support_ids=None,
                support_logprobs=None,
                tail_logprobs=None,
                divergence=None,
                student_logprob=None,
            )
        ],
    )
    trained = {ROUND: mpd, round_of("opd", 3): opd}
    return browser_section.browser_data("small", trained, problems_of(p0=HOSTILE, p1="1+6?"), words)


@pytest.fixture(scope="module")
def small(tmp_path_factory, words):
    return small_section(tmp_path_factory.mktemp("small"), words)


@pytest.fixture(scope="module")
def large(tmp_path_factory, words):
    """Ten thousand lines of a thousand problems; the texts of few fit."""
    folder = tmp_path_factory.mktemp("large")
    names = [(f"p{number // 10}", number % 10) for number in range(NUM_LINES)]
    files = write_round(
        folder,
        sample=[sampled(index, f"text of {name}", problem=name) for name, index in names],
        compress=[rewritten(f"{name}-{index}", "7") for name, index in names],
        filter=[
            verdict(index, problem_id=name, num_tokens=1 + row % 97, sample_tokens=100)
            for row, (name, index) in enumerate(names)
        ],
        logits=[cached(f"{name}-{index}") for name, index in names[:200]],
    )
    questions = {f"p{number}": f"question {number}" for number in range(NUM_LINES // 10)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser_section, "TEXT_BYTES", 30_000)
        return browser_section.browser_data(
            "large", {ROUND: files}, problems_of(**questions), words
        )


def selected(page):
    """The id of the selected trajectory, as the command in the detail tells it."""
    return page.inner_text("#detail .command code").rsplit(" ", 1)[-1]


def reasons(page):
    return page.locator("#rows .reason").all_inner_texts()


def choose(page, **values):
    for name, value in values.items():
        page.select_option(f"[name={name}]", value)
    settle(page)


def test_it_opens_with_every_line_and_the_first_selected(opened, small):
    page = opened(small)
    assert page.inner_text("#count") == "4 / 4"
    assert page.locator("[role=option]").count() == 4
    assert page.locator("[role=option][aria-selected=true]").count() == 1
    assert selected(page) == "p0-0"
    command = "python -m mpd.show results/small/mpd/seed_0/round_1 --sample p0-0"
    assert page.inner_text("#detail .command code") == command


def test_a_mark_of_direction_turns_nothing_outside_of_its_element(opened, small):
    everywhere = """[...document.querySelectorAll("body, body *")].slice(1)
        .filter((node) => getComputedStyle(node).unicodeBidi !== "isolate").length"""
    assert opened(small).evaluate(everywhere) == 0


def test_filters(opened, small):
    page = opened(small)
    choose(page, reason="sample_truncated")
    assert (page.inner_text("#count"), reasons(page)) == ("1 / 4", ["sample truncated"])
    assert selected(page) == "p1-0"
    page.click("[type=reset]")
    settle(page)
    assert page.inner_text("#count") == "4 / 4"
    choose(page, method="opd", seed="3", round="1")
    assert page.inner_text("#count") == "1 / 4"
    choose(page, verdict="none")
    assert page.inner_text("#count") == "0 / 4"
    assert page.inner_text("#detail") == "No trajectory matches the filters."
    page.click("[type=reset]")
    settle(page)
    names = page.locator("[name=solved] option").all_inner_texts()
    assert names == [
        *("all", "none correct (2)", "some correct (2)", "most correct (0)", "all correct (0)")
    ]
    choose(page, solved="some correct")  # one of the two trajectories of p0 is correct
    assert page.inner_text("#count") == "2 / 4"
    page.fill("[name=ratio_to]", "0.3")
    settle(page)
    assert page.inner_text("#count") == "1 / 4"
    assert selected(page) == "p0-1"


@pytest.mark.parametrize(
    ("search", "count"),
    [("onerror", 3), ("1+6", 1), ("p1-0", 1), ("ENDLESS", 1), ("say <", 1), ("nowhere", 0)],
)
def test_search_in_questions_ids_and_texts(opened, small, search, count):
    page = opened(small)
    page.fill("[name=search]", search)
    settle(page)
    assert page.inner_text("#count") == f"{count} / 4"


def test_sort_puts_what_has_no_value_last(opened, small):
    page = opened(small)

    def ratios():
        return page.locator("#rows .row .number:nth-child(2)").all_inner_texts()

    page.click("[data-sort=ratio]")
    settle(page)
    assert ratios() == ["0.25", "0.50", "1.00", "–"]
    page.click("[data-sort=ratio]")
    settle(page)
    assert ratios() == ["1.00", "0.50", "0.25", "–"]
    page.click("[data-sort=divergence]")
    settle(page)
    divergences = page.locator("#rows .row .number:nth-child(4)").all_inner_texts()
    assert divergences == ["1.25", "0.88", "–", "–"]
    assert page.get_attribute("[data-sort=divergence]", "aria-pressed") == "true"


def test_keyboard(opened, small):
    page = opened(small)
    page.keyboard.press("j")
    settle(page)
    assert selected(page) == "p0-1"
    page.keyboard.press("k")
    settle(page)
    assert selected(page) == "p0-0"
    page.keyboard.press("/")
    page.keyboard.type("say")
    settle(page)
    assert page.inner_text("#count") == "1 / 4"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "list"
    page.keyboard.press("Enter")
    assert "tokens" in page.evaluate("document.activeElement.className")
    page.keyboard.press("ArrowRight")
    assert "token 2 of 2" in page.inner_text(".inspector .facts")
    page.keyboard.press("ArrowLeft")
    assert "token 1 of 2" in page.inner_text(".inspector .facts")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "list"
    page.keyboard.press("Escape")
    settle(page)
    assert page.inner_text("#count") == "4 / 4"
    assert selected(page) == "p0-1"  # what was selected stays
    page.keyboard.press("Enter")
    page.keyboard.press("k")
    settle(page)
    assert selected(page) == "p0-0"
    assert "tokens" in page.evaluate("document.activeElement.className")  # focus stays inside
    page.focus("#list")
    page.keyboard.press("End")
    settle(page)
    assert "opd" in page.inner_text("[role=option][aria-selected=true]")
    name = page.get_attribute("#list", "aria-activedescendant")
    assert page.get_attribute(f"#{name}", "aria-selected") == "true"


def candidates_shown(page):
    rows = page.locator(".inspector tr").all()
    return [[cell.inner_text() for cell in row.locator("td").all()] for row in rows]


def test_candidates_of_the_token_that_is_pointed_at(opened, small):
    page = opened(small)
    page.hover("#detail .tokens span >> nth=0")
    assert candidates_shown(page) == [
        ["go␣", "50.0%", "", ""],
        ["7", "25.0%", "", "realised"],
        ["<|end|>", "12.5%", "", ""],
        [HOSTILE.replace(" ", "␣").replace("\u2028", r"\u2028"), "6.2%", "", ""],
        ["outside the support", "6.2%", "", ""],
    ]
    facts = page.inner_text(".inspector .facts")
    assert facts == (
        "7 token 1 of 2 · id 2 · divergence 1.500 · log p teacher −1.386 · student −2.000 · in nats"
    )
    page.hover("#detail .tokens span >> nth=1")
    assert candidates_shown(page)[0] == ["<|end|>", "100.0%", "", "realised"]


def test_a_realised_token_that_is_no_candidate_is_shown_all_the_same(opened, tmp_path, words):
    unlikely = {**CACHED, "realised_logprob": [-12.0, 0.0]}
    files = write_round(
        tmp_path,
        sample=[sampled(0, "go")],
        compress=[rewritten("p0-0", "7")],
        filter=[verdict(0)],
        logits=[cached("p0-0", **unlikely)],
    )
    problems = problems_of(p0="?")
    page = opened(browser_section.browser_data("x", {ROUND: files}, problems, words))
    page.hover("#detail .tokens span >> nth=0")
    assert ["7", "< 0.1%", "", "realised"] in candidates_shown(page)


def test_colours_by_what_the_cache_has(opened, small):
    page = opened(small)

    def heats():
        spans = page.locator("#detail .tokens span").all()
        return [span.get_attribute("data-heat") for span in spans]

    assert heats() == ["6", "2"]  # 8 √(1.5/3) and 8 √(0.25/3)
    page.select_option("#detail .colour select", "teacher")
    assert heats() == ["4", "0"]
    page.focus("#list")
    page.keyboard.press("End")
    settle(page)  # an opd row of hidden states that vLLM scored
    offered = page.locator("#detail .colour option").all_inner_texts()
    assert offered == ["−log p, teacher", "no colour"]
    page.hover("#detail .tokens span >> nth=0")
    assert "there are no candidates" in page.inner_text(".inspector")
    assert "The trajectory is trained on as it is." in page.inner_text("#detail")


def test_what_was_cut_is_marked(opened, small):
    page = opened(small)
    assert page.locator("#detail .side del").all_inner_texts() == ["go and go"]
    assert page.locator("#detail .tokens .new").count() == 0  # the stop token is in neither text


def test_line_ends_are_shown_beside_the_text(opened, tmp_path, words):
    files = write_round(
        tmp_path,
        sample=[sampled(0, "go")],
        compress=[rewritten("p0-0", "\n")],
        filter=[verdict(0)],
        logits=[cached("p0-0", completion_ids=[4, 5])],
    )
    problems = problems_of(p0="?")
    page = opened(browser_section.browser_data("x", {ROUND: files}, problems, words))
    assert page.text_content("#detail .tokens span >> nth=0") == "\n"
    page.hover("#detail .tokens i")
    assert candidates_shown(page)[1] == ["↵", "25.0%", "", "realised"]


def test_hostile_texts_stay_texts(opened, small):
    page = opened(small)
    page.keyboard.press("j")
    settle(page)
    assert page.inner_text("#detail h3") == HOSTILE
    assert f"say {HOSTILE} 7" in page.text_content("#detail .side .text")
    assert page.text_content("#detail .tokens span >> nth=0") == HOSTILE
    page.hover("#detail .tokens span >> nth=0")
    page.fill("[name=search]", HOSTILE)
    settle(page)
    assert page.locator("img, iframe, object").count() == 0
    assert page.locator("script:not([type])").count() == 1


def test_a_page_of_hostile_texts_stays_a_page(opened, small):
    page = opened.text(page_with(EVIL, browser=small, answers=NO_ANSWERS))
    assert page.inner_text("h1") == f"name{EVIL}"
    assert page.inner_text("h2 >> nth=-1") == "Where it came from"
    assert EVIL in page.text_content("#costs ~ .wide >> nth=0")
    assert page.locator("img, iframe, object").count() == 0
    assert page.locator("script:not([type])").count() == 1
    settle(page)
    assert page.inner_text("#count") == "4 / 4"


def test_the_policy_lets_no_other_script_run(opened, small):
    page = opened(small)
    ran = page.evaluate(
        """() => {
          const violated = new Promise((done) =>
            document.addEventListener("securitypolicyviolation", (event) =>
              done(event.effectiveDirective)));
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
          return violated.then((directive) => [directive, window.ran ?? false]);
        }"""
    )
    assert ran == ["script-src-elem", False]
    (trouble,) = opened.troubles
    assert "violates the following Content Security Policy directive" in trouble
    opened.troubles.clear()


def test_ten_thousand_lines_keep_few_rows_in_the_document(opened, large):
    page = opened(large)
    assert page.inner_text("#count") == "10,000 / 10,000"
    assert page.locator("#rows > *").count() <= MAX_ROWS
    page.focus("#list")
    page.keyboard.press("End")
    settle(page)
    assert page.locator("#rows > *").count() <= MAX_ROWS
    last = page.locator("[role=option]").last
    assert last.get_attribute("aria-posinset") == last.get_attribute("aria-setsize") == "10000"
    page.evaluate("document.getElementById('list').scrollTop = 200000")
    settle(page)
    assert 0 < page.locator("#rows > *").count() <= MAX_ROWS
    page.fill("[name=search]", "question 77")
    settle(page)
    assert page.inner_text("#count") == "110 / 10,000"
    page.click("[data-sort=ratio]")
    settle(page)
    assert page.locator("#rows .row .number:nth-child(2)").first.inner_text() == "0.01"


def test_what_is_not_in_the_file_says_where_it_is(opened, large):
    page = opened(large)
    choose(page, shown="with texts")
    held = int(page.inner_text("#count").split()[0].replace(",", ""))
    assert 0 < held < NUM_LINES
    assert f"With texts: {held:,} of 10,000. With tokens" in page.inner_text("body")
    page.click("[type=reset]")
    settle(page)
    page.click("#rows .faint >> nth=0")
    settle(page)
    assert "Its texts are not in this file." in page.inner_text("#detail")


def aligned(page, first, second):
    """The matched words of both texts as flags, and whether all was compared."""
    return page.evaluate(
        """([first, second]) => {
          const { matched, complete } = align(first, second);
          return [...matched.map((flags) => flags.join("")), complete];
        }""",
        [first, second],
    )


@pytest.mark.parametrize(
    ("first", "second", "flags"),
    [
        ("a b c d", "a b c d", ["1111", "1111", True]),
        ("a b x y c d", "a b c d", ["110011", "1111", True]),
        ("a b c d", "a b n c d", ["1111", "11011", True]),
        ("", "a", ["", "0", True]),
        ("x y", "", ["00", "", True]),
        ("x q q p y", "x p q q y", ["11101", "10111", True]),
        # One run of the later text, rather than its words where they first come.
        ("a x b x c x a b c t", "a b c t", ["0000001111", "1111", True]),
        # A single word in the middle of another text is no match.
        ("s k k k w l l l t", "s m m m w n n n t", ["100000001", "100000001", True]),
    ],
)
def test_align(opened, small, first, second, flags):
    assert aligned(opened(small), first.split(), second.split()) == flags


def test_align_of_long_texts_is_split_where_runs_are_unique(opened, small):
    page = opened(small)
    draw = random.Random(0)
    words = [f"w{draw.randrange(500)}" for _ in range(60_000)]
    kept = [word for number, word in enumerate(words) if number // 50 % 3 == 0]
    first, second, complete = aligned(page, words, kept)
    assert complete
    assert second.count("0") < len(kept) / 100
    assert abs(first.count("1") - len(kept)) < len(kept) / 100


def test_align_gives_up_on_long_texts_without_a_unique_run(opened, small):
    page = opened(small)
    first, second, complete = aligned(page, ["s", *["a", "b"] * 9000], ["t", *["b"] * 9000, "c"])
    assert not complete
    assert "1" not in first + second


def test_a_phone_shows_texts_in_full_and_nothing_wider_than_itself(opened, tmp_path, words):
    files = write_round(
        tmp_path,
        sample=[sampled(0, "go and go on " * 40)],
        compress=[rewritten("p0-0", "7")],
        filter=[verdict(0)],
        logits=[cached("p0-0")],
    )
    section = browser_section.browser_data("x", {ROUND: files}, problems_of(p0="?"), words)
    page = opened.text(page_of(browser=section, answers=NO_ANSWERS, name="tiny"))
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    texts = page.locator("#detail .side .text")
    page.locator("#detail .sides").scroll_into_view_if_needed()
    assert texts.count() == 2
    cut = "panes => panes.filter(pane => pane.scrollHeight > pane.clientHeight).length"
    assert texts.evaluate_all(cut) == 0


def test_paper_shows_the_selected_trajectory_without_the_list(opened, small):
    page = opened(small)
    page.emulate_media(media="print")
    shown = {name: page.is_visible(name) for name in ("#detail .sides", "#list", "#filters")}
    assert shown == {"#detail .sides": True, "#list": False, "#filters": False}
    assert (
        page.evaluate("getComputedStyle(document.querySelector('#detail')).overflow") == "visible"
    )
