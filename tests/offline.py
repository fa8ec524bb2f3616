"""Pages in headless Chromium, by Playwright, and what axe-core finds in them.

Tests are skipped where Playwright, Chromium or axe-playwright-python, which ships axe-core, is
missing.
"""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium():
    """A Chromium that runs."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the package playwright is missing"
    )
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this system")
    with playwright.sync_playwright() as driver:
        # Chromium refuses its sandbox to root, as whom tests run in containers.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(path):
    """The page of a file; after the block nothing must have gone wrong, or been asked for."""
    troubles, requests = [], []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        yield page
    assert troubles == []
    assert [url.partition("#")[0] for url in requests] == [path.as_uri()]


def accessibility_findings(page, part=None):
    """What axe-core finds of any weight: its rule, how grave it is, and the elements."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="the package axe-playwright-python is missing",
    )
    violations = axe.Axe().run(page, context=part).response["violations"]
    return [
        (found["id"], found["impact"], [node["html"][:100] for node in found["nodes"]])
        for found in violations
    ]
