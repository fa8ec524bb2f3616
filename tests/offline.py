"""Opening a page in headless Chromium, by Playwright, where both are installed."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def opened(path):
    """The page of a file; after the block nothing must have gone wrong, or been asked for."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the package playwright is missing"
    )
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this system")
    troubles, requests = [], []
    with playwright.sync_playwright() as driver:
        # Chromium refuses its sandbox to root, as whom tests run in containers.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        yield page
        browser.close()
    assert troubles == []
    assert [url.partition("#")[0] for url in requests] == [path.as_uri()]
