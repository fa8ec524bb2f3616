"""What tests do with a page of the report in Chromium."""

READY = "Promise.all([window.answers?.ready, window.browser?.ready])"


def settle(page):
    """Wait until the lists follow their filters and the details their selection."""
    page.evaluate(READY)
    # What scrolls is drawn with the next frame.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
