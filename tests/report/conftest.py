"""Pages of the report in headless Chromium, by Playwright.

Tests that open one are skipped where the package playwright or a system's Chromium is missing.
"""

import pytest

from mpd.report.page.markup import rendered
from tests.offline import chromium
from tests.report.pages import settle


@pytest.fixture(scope="package")
def running_browser():
    """A Chromium that runs."""
    with chromium() as running:
        yield running


@pytest.fixture
def opened(running_browser, tmp_path):
    """A function that opens sections as a page; after the test nothing must have gone wrong."""
    troubles = []
    context = running_browser.new_context(viewport={"width": 1280, "height": 800})

    def open_section(*sections, address=""):
        head = f'<!doctype html>\n<html lang="en"><meta charset="utf-8">{rendered("head.html")}'
        texts = (
            rendered("trajectories.html", browser=section)
            if hasattr(section.counts, "rewrites")
            else rendered("answers.html", answers=section)
            for section in sections
        )
        return open_text(f"{head}{''.join(texts)}{rendered('script.html')}</html>", address)

    def open_text(text, address=""):
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: troubles.append(request.url))
        page.goto(path.as_uri() + address)
        assert troubles.pop(0) == path.as_uri()
        for browser in page.locator(".browser").all():
            browser.locator(".detail > *").first.wait_for()
        settle(page)
        return page

    open_section.troubles, open_section.text = troubles, open_text
    open_section.context = context
    yield open_section
    context.close()
    assert troubles == []
