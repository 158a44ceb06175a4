"""The page as people use it, in a headless Chromium: it sorts, filters, opens, changes its theme, and asks for nothing.

Every visit fails at its end if the page wrote to the console or requested anything but itself.
"""

import base64
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from _pytest import outcomes
from PIL import Image

from experiments.reporting import html
from experiments.reporting.figures import cost
from experiments.reporting.figures.style import save, style
from experiments.studies.results import read_study
from tests.experiments.fake_study import KINDS, config_of, write_run
from tests.experiments.reporting import browser as tools

TASKS = ("mqar:length=64", "mqar:length=128")
RATES = (0.001, 0.003)
HOSTILE = (
    "conv+full:note=</script><script>window.harm=1</script>",
    "conv+full:note=\"'><img src=x onerror=window.harm=1>",
    "conv+full:note=</title><svg onload=window.harm=1>\u2028;window.harm=1\u2029//",
)
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def write_page(folder: Path, kinds, **changes) -> Path:
    """Writes a study of two tasks that chose its learning rate, one of its runs diverged, and its page."""
    for task in TASKS:
        for kind in kinds:
            for rate in RATES:
                config = config_of(kind, 0, task, learning_rate=rate)
                config["study"]["select"] = ("train.learning_rate",)
                for seed in range(2):
                    write_run(folder, config | {"seed": seed}, validation_accuracy=1 - abs(rate - 0.003) * 50)
    write_run(folder, config_of("conv+diverges", 0, TASKS[0]), status="diverged", test_accuracy=None)
    study = dataclasses.replace(read_study(folder), **changes)
    with style():
        picture = save(cost.accuracy_against_flops(study), "svg")
    (folder / "report.html").write_text(html.page(study, {"accuracy_against_flops": picture}))
    return folder / "report.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return write_page(tmp_path_factory.mktemp("results") / "study", KINDS)


@pytest.fixture
def visit(browser, report):
    """Returns a function that opens the report, or another; at the end no visit may have said or requested anything."""
    said, contexts, opened = [], [], []

    def go(path=report, *, hash="", script=None, **settings):
        context = browser.new_context(**settings)
        context.set_default_timeout(60_000)  # a machine may be busy
        contexts.append(context)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url))
        opened.append(path.as_uri())
        page.goto(path.as_uri() + hash)
        return page

    yield go
    for context in contexts:
        context.close()
    assert [line for line in said if line.partition("#")[0] not in opened and not line.startswith("data:")] == []


def column(page, title):
    """Returns the texts of a column of the rows that are shown, without intervals."""
    script = """([title]) => {
        const heads = [...document.querySelectorAll("#results > thead th")].map((head) => head.textContent.trim());
        const rows = [...document.querySelectorAll("#results > tbody > tr[data-row]")].filter((row) => !row.hidden);
        return rows.map((row) => row.cells[heads.indexOf(title)].innerText.split("\\n")[0].trim());
    }"""
    return [text.replace("\u00a0", " ") for text in page.evaluate(script, [title])]


def head(page, title):
    return page.locator("#results > thead th").filter(has=page.get_by_role("button", name=title, exact=True))


def numbers(texts):
    return [float(text.split()[0]) for text in texts if text != "-"]


def test_a_column_sorts_down_up_and_back(visit):
    page = visit()
    before, accuracy = column(page, "attention"), head(page, "accuracy")
    assert len(before) == 13 and accuracy.get_attribute("aria-sort") == "none"
    for direction, descending in (("descending", True), ("ascending", False)):
        accuracy.get_by_role("button").click()
        shown = column(page, "accuracy")
        assert accuracy.get_attribute("aria-sort") == direction
        assert numbers(shown) == sorted(numbers(shown), reverse=descending) and len(set(shown)) > 5
        assert shown[-1] == "-"  # what is not known is last in either direction
        assert page.get_by_role("status").inner_text() == f"13 rows, sorted by accuracy, {direction}."
    accuracy.get_by_role("button").click()
    assert column(page, "attention") == before and accuracy.get_attribute("aria-sort") == "none"


def test_texts_sort_by_their_numbers_and_one_column_at_a_time(visit):
    page = visit()
    head(page, "accuracy").get_by_role("button").click()
    head(page, "task").get_by_role("button").click()
    assert column(page, "task") == sorted(column(page, "task"), key=lambda task: int(task.split("=")[1]))
    assert page.locator("#results th[aria-sort=ascending], #results th[aria-sort=descending]").count() == 1
    head(page, "train FLOPs executed").get_by_role("button").click()
    values = page.locator("#results > tbody > tr[data-row]").evaluate_all(
        """rows => rows.map((row) => Number(row.cells[[...document.querySelectorAll("#results > thead th")]
           .findIndex((head) => head.textContent === "train FLOPs executed")].dataset.v))"""
    )
    assert values == sorted(values, reverse=True) and len(set(values)) > 5


def test_rows_are_filtered_by_text_and_by_field(visit):
    page = visit()
    page.get_by_label("name contains").fill("WINDOW linear")  # every word, whatever the case
    assert len(column(page, "attention")) == 2 and set(column(page, "attention")) == {
        "conv+sliding_window:window_size=16+linear †"
    }
    assert page.get_by_role("status").inner_text() == "2 of 13 rows."
    page.get_by_role("combobox", name="task", exact=True).select_option(label=TASKS[1])
    assert column(page, "task") == [TASKS[1]]
    page.get_by_role("button", name="Show all").click()
    assert page.get_by_role("status").inner_text() == "13 rows." and len(column(page, "task")) == 13
    page.get_by_role("combobox", name="attention", exact=True).select_option(label="conv+full")
    assert set(column(page, "attention")) == {"conv+full"} and len(column(page, "task")) == 2


def test_a_row_opens_to_its_runs_and_stays_with_them(visit):
    page = visit()
    row = page.get_by_role("button", name="conv+linear").first
    row.click()
    detail = page.locator("tr.detail")
    assert row.get_attribute("aria-expanded") == "true" and detail.is_visible()
    assert detail.get_attribute("id") == row.get_attribute("aria-controls")
    assert detail.locator(".seeds tbody th").all_inner_texts() == ["0", "1"]
    for words in ("Validation accuracy by step: seed 0 ends at", "Validation accuracy by learning rate"):
        assert detail.locator(f'svg[aria-label^="{words}"] path.curve').first.is_visible()
    assert "0.003\u00a0gives\u00a01.000 (chosen)" in detail.inner_text() and "mqar:length=64" in detail.inner_text()
    head(page, "ideal").get_by_role("button").click()
    assert detail.evaluate("row => row.previousElementSibling.cells[0].innerText.startsWith('conv+linear')")
    detail.locator(".seeds tbody tr").nth(1).hover()
    assert detail.locator("path.on").evaluate_all("curves => curves.map((curve) => curve.dataset.run)") == ["1"]
    page.get_by_label("name contains").fill("bigbird")
    assert not detail.is_visible()
    page.get_by_role("button", name="Show all").click()
    assert detail.is_visible()
    row.click()
    assert not detail.is_visible() and row.get_attribute("aria-expanded") == "false"


def test_a_mark_tells_its_numbers_and_leads_to_its_runs(visit):
    page = visit()
    marks, tip = page.locator(".points a"), page.get_by_role("tooltip")
    assert marks.count() == 12 and page.locator(".points [tabindex='0']").count() == 1
    marks.nth(0).hover()
    words = marks.nth(0).get_attribute("aria-label").split("\n")
    assert tip.inner_text().split("\n") == words and words[0] in KINDS and words[2].startswith("accuracy 0.")
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    page.get_by_label("name contains").fill("nothing")  # a filter does not hide what is asked for
    marks.nth(0).click()
    focused = page.evaluate("document.activeElement.textContent + document.activeElement.ariaExpanded")
    assert focused.startswith(words[0]) and focused.endswith("true") and page.locator("tr.detail").is_visible()
    assert page.get_by_role("status").inner_text() == "13 rows."
    anchor = page.evaluate("location.hash")
    assert visit(hash=anchor).locator("tr.detail").is_visible()  # the address of the runs leads there


def test_marks_are_where_the_picture_shows_them(visit, report):
    drawing = html_picture(report)
    page = visit()
    for place in range(12):
        x, y = page.locator(".points circle").nth(place).evaluate("c => [c.cx.baseVal.value, c.cy.baseVal.value]")
        assert f'x="{x:.1f}' in drawing and f'y="{y:.1f}' in drawing


def html_picture(report):
    """Returns what the page shows as a picture, with places in tenths of a point."""
    data = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', report.read_text())[0]
    return re.sub(r"\d+\.\d+", lambda found: f"{float(found.group()):.1f}", base64.b64decode(data).decode())


def test_all_of_it_works_by_keyboard(visit):
    page = visit()

    def active():
        return page.evaluate("document.activeElement.textContent.trim() || document.activeElement.ariaLabel")

    page.keyboard.press("Tab")
    assert active() == "Skip to the table"
    page.keyboard.press("Tab")
    assert active() == "Dark"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "table"
    stops = []
    while page.evaluate("document.activeElement.className") != "open":
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.textContent"))
        assert len(stops) < 40
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", stops[-1]
    assert any(stop == "BUTTON accuracy" for stop in stops) and any(stop.startswith("SELECT") for stop in stops)
    page.keyboard.press("Space")
    assert page.locator("tr.detail").is_visible()
    marks = page.locator(".points a")
    marks.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.ariaLabel") == marks.nth(1).get_attribute("aria-label")
    assert page.get_by_role("tooltip").is_visible()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.ariaLabel") == marks.last.get_attribute("aria-label")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.ariaExpanded") == "true"


def brightness(page, selector):
    """Returns how bright the upper left corner of an element is drawn, from 0 to 255."""
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    with Image.open(io.BytesIO(element.screenshot())) as image:
        return image.convert("L").getpixel((3, 3))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_that_of_the_reader_until_another_is_chosen(visit, scheme):
    page, dark = visit(color_scheme=scheme), scheme == "dark"
    button = page.get_by_role("button", name="Dark")
    for expected in (dark, not dark):
        assert button.get_attribute("aria-pressed") == str(expected).lower()
        for selector in ("h1", ".plot img"):  # pictures go with the page
            assert (brightness(page, selector) < 60) == expected, selector
        button.click()
    button.click()
    page.reload()
    assert button.get_attribute("aria-pressed") == str(not dark).lower()  # it is remembered


def test_a_page_that_may_store_nothing_still_works(visit):
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no'); }});"
    page = visit(script=refuse)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_without_scripts_everything_is_said(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("#results > tbody > tr").count() == 13 and page.locator("#filters").is_hidden()
    assert page.get_by_role("button").count() == 0
    page.locator("a.open").first.click()
    runs = page.locator("details[open] .seeds")
    assert runs.count() == 1 and runs.is_visible()
    page.locator("details summary").nth(3).click()
    assert runs.count() == 2


def test_what_a_config_says_stays_text(visit, tmp_path):
    page = visit(write_page(tmp_path / "study", HOSTILE, name="study </script><b>"))
    for hostile in HOSTILE:
        assert hostile in page.locator("#results > tbody").text_content()
    for place in range(page.locator(".points a").count()):
        page.locator(".points a").nth(place).focus()
    for button in page.locator("button.open").all():
        button.click()
    assert page.evaluate("window.harm") is None and page.locator("h1").inner_text() == "study </script><b>"
    assert page.locator("script").count() == 1 and page.locator("img").count() == 1


def test_what_is_missing_is_said_and_fails_in_ci(monkeypatch):
    for needed, outcome in (("", outcomes.Skipped), ("1", outcomes.Failed)):
        monkeypatch.setenv(tools.REQUIRED, needed)
        with pytest.raises(outcome, match="not tested in a browser: there is no axe-core; npm install"):
            tools.missing("axe-core", "npm install")


def test_a_phone_shows_it_without_sideways_scrolling(visit):
    page = visit(**PHONE, reduced_motion="reduce")
    page.locator("button.open").first.click()
    wide, width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= width == 360
    assert page.locator(".detail .inside").evaluate("inside => inside.getBoundingClientRect().width") <= 360
    sizes = page.locator("button:visible, select:visible, input:visible").evaluate_all(
        "all => all.map((each) => [each.textContent, each.offsetHeight, each.offsetWidth])"
    )
    assert len(sizes) > 20 and [size for size in sizes if min(size[1:]) < 44] == []
    page.locator(".points").scroll_into_view_if_needed()
    mark = page.locator(".points a").first
    box = mark.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2 - 20, box["y"] + box["height"] / 2)  # a finger is wide
    assert page.evaluate("location.hash") == mark.get_attribute("href")
    assert page.evaluate("document.activeElement.ariaExpanded") == "true"
    boxes = page.locator(".scroll").evaluate_all("all => all.map((each) => each.scrollWidth > each.clientWidth)")
    assert boxes == [True, True] and page.locator(".scroll[tabindex='0'][role=region]").count() == 2


def test_motion_is_left_out_where_it_is_not_wanted(visit):
    for motion, behaviour in (("reduce", "auto"), ("no-preference", "smooth")):
        page = visit(reduced_motion=motion)
        assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == behaviour


@pytest.mark.parametrize("settings", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
def test_axe_finds_no_serious_fault(browser, report, settings):
    if not tools.AXE.exists():
        tools.missing("axe-core", "npm install --no-save --no-package-lock --prefix . axe-core@4")
    context = browser.new_context(bypass_csp=True, **settings)
    page = context.new_page()
    page.goto(report.as_uri())
    page.locator("button.open").nth(1).click()
    head(page, "accuracy").get_by_role("button").click()
    page.locator(".points a").first.focus()
    page.add_script_tag(path=tools.AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations', 'incomplete']})")
    assert len(found["passes"]) > 20
    faults = [
        (fault["id"], fault["impact"], node["html"][:200])
        for fault in found["violations"]
        for node in fault["nodes"]
        if fault["impact"] in ("serious", "critical", "moderate")
    ]
    context.close()
    assert faults == [], json.dumps(faults, indent=1)
