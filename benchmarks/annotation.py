"""How fast the page of `launch/annotate.py` takes answers by keyboard, in a real browser.

    python launch/annotate.py --videos=before/,after/ --out=judged/ &
    python benchmarks/annotation.py --address=http://127.0.0.1:8765 --answers=60

For every pair it presses a key a dimension and Enter, and waits until the next pair is asked for:
the page and the server alone, which no person is as fast as. Needs Debian's chromium.
"""

import shutil
import time
from collections.abc import Sequence

from absl import app, flags

_ADDRESS = flags.DEFINE_string("address", None, "Address of the page.", required=True)
_ANSWERS = flags.DEFINE_integer("answers", 60, "Answers at most.", lower_bound=1)
_DIMENSIONS = flags.DEFINE_integer("dimensions", 3, "Dimensions of an answer.", lower_bound=1)
_NAME = flags.DEFINE_string("name", "benchmark", "Who answers; answers are kept by name.")

_FLAGS = ["--no-sandbox", "--disable-gpu"]
_COUNT = "document.getElementById('count').textContent"
_ASKED = "!document.getElementById('ask').hidden"
_DONE = "!document.getElementById('done').hidden"
_SECONDS = 20.0  # that a page may take


def main(argv: Sequence[str]) -> None:
    from playwright.sync_api import sync_playwright

    if argv[1:]:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}")
    browser = shutil.which("chromium")
    if browser is None:
        raise app.UsageError("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser, args=_FLAGS).new_page()
        page.goto(_ADDRESS.value)
        _until(page, "document.activeElement.id === 'name'")
        page.keyboard.type(_NAME.value)
        page.keyboard.press("Enter")
        _until(page, f"{_ASKED} || {_DONE}")
        start, answers, keys = time.perf_counter(), 0, 0
        while answers < _ANSWERS.value and not page.evaluate(_DONE):
            before = page.evaluate(_COUNT)
            for key in (*"1" * _DIMENSIONS.value, "Enter"):
                page.keyboard.press(key)
                keys += 1
            _until(page, f"{_COUNT} !== {before!r} || {_DONE}")
            answers += 1
        minutes = (time.perf_counter() - start) / 60
    print(f"{answers} answers, {keys} keys: {answers / minutes:.0f} answers and ", end="")
    print(f"{keys / minutes:.0f} actions a minute")


def _until(page, script: str) -> None:
    end = time.monotonic() + _SECONDS
    while not page.evaluate(script):
        if time.monotonic() > end:
            raise TimeoutError(f"never true: {script}; the page says: {page.inner_text('body')}")
        page.wait_for_timeout(2)


if __name__ == "__main__":
    app.run(main)
