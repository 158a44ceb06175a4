"""A headless Chromium for tests of the page, and what it costs there to open a report.

    python -m tests.experiments.reporting.browser results/mine/report.html

Playwright drives the Chromium that is installed, over a pipe: nothing listens, nothing is downloaded.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

REQUIRED = "NEEDS_BROWSER"  # set by .ci/run: what is missing then fails the tests
AXE = Path(__file__).parents[3] / "node_modules/axe-core/axe.min.js"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def find_chromium() -> str | None:
    """Returns the path of an installed Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def missing(what: str, remedy: str) -> None:
    """Ends a test that cannot run on this machine: skipped where a person may lack the tool, failed in CI."""
    message = f"the report is not tested in a browser: there is no {what}; {remedy}"
    if os.environ.get(REQUIRED):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Starts Chromium without window, and without what it would load by itself."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=find_chromium(), args=["--disable-background-networking", "--disable-component-update"]
        )
        yield browser
        browser.close()


def open_page(browser: Browser, report: Path, *, hash: str = "", **context: object) -> Page:
    """Opens a report in a profile of its own; `context` are settings such as color_scheme."""
    page = browser.new_context(**context).new_page()  # type: ignore[arg-type]
    page.goto(report.as_uri() + hash)
    return page


class Times(NamedTuple):
    """What it took, in seconds."""

    drawn: float  # from the address to a page that is drawn and can be used
    computed: float  # processor time of the page's thread until then; says more where other programs run
    sorted: float  # from a click to a table in another order


def measure(browser: Browser, report: Path) -> Times:
    """Opens a report and sorts it."""
    page = browser.new_context().new_page()
    counters = page.context.new_cdp_session(page)
    counters.send("Performance.enable", {"timeDomain": "threadTicks"})
    start = time.perf_counter()
    page.goto(report.as_uri())
    page.evaluate(_PAINTED)
    drawn = time.perf_counter()
    metrics = {metric["name"]: metric["value"] for metric in counters.send("Performance.getMetrics")["metrics"]}
    clicked = time.perf_counter()
    page.locator("#results thead button").nth(1).click()
    page.evaluate(_PAINTED)
    times = Times(drawn - start, metrics["TaskDuration"], time.perf_counter() - clicked)
    page.context.close()
    return times


def main() -> None:
    """Prints how long reports take to open and to be sorted once, each the median of five."""
    parser = argparse.ArgumentParser(prog="python -m tests.experiments.reporting.browser", description=main.__doc__)
    parser.add_argument("reports", type=Path, nargs="+")
    with chromium() as browser:
        for report in parser.parse_args().reports:
            tries = [measure(browser, report.resolve()) for _ in range(5)]
            opened, computed, ordered = (statistics.median(times) for times in zip(*tries, strict=True))
            content = report.read_text()
            size = f"{content.count('<tr data-run=')} runs, {len(content) / 1e6:.1f} MB"
            print(f"{report}: {size}, opens in {opened:.2f} s ({computed:.2f} s computed), sorts in {ordered:.2f} s")


if __name__ == "__main__":
    main()
