"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

import contextlib
import shutil

import pytest

_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@contextlib.contextmanager
def chromium():
    """Yields the browser, or skips the test where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Debian's chromium is not installed (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=_FLAGS)
        yield browser
        browser.close()


def until(page, script, argument=None, seconds=20):
    """Waits until a script is true, also where the page forbids `eval`."""
    for _ in range(20 * seconds):
        if page.evaluate(script, argument):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {script}; the page says: {page.inner_text('body')}")
