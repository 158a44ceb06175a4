"""The page of attention maps: its data are the maps, and people can point, click, step and switch."""

import base64
import json
import re

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.inspection import html, tables
from experiments.inspection.maps import look
from experiments.model.transformer import make_model
from tests.experiments.reporting import browser as tools
from tests.experiments.tiny import tiny_run


def looked(batch=3, **fields):
    run = tiny_run(**fields)
    rows = run.task.sample(jax.random.key(5), batch)
    return run, look(nnx.merge(*make_model(run)), rows), rows


def decoded(found, row):
    """Returns the weights of a head on a row as the page's script reads them, and which are hidden."""
    whole = np.frombuffer(base64.b64decode(found["weights"][row]), "<i2").reshape(found["queries"], found["keys"])
    return np.where(whole == -32768, 0.0, whole * found["scales"][row]), whole == -32768


CASES = {
    "full": {"model__attention": "conv+full"},
    "signed": {"model__attention": "gated_delta_product"},
    "window": {"model__attention": "sliding_window:window_size=5+linear"},
    "cross": {"task": "translation", "model__attention": "full", "model__encoder": "linear"},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_the_page_draws_times_the_values_is_the_output_of_each_head(case):
    run, seen, rows = looked(**CASES[case])
    drawn = html.data(seen.maps, rows, run.task)["maps"]
    assert len(drawn) == sum(each.weights.shape[1] for each in seen.maps)
    place = 0
    for each in seen.maps:
        for head in range(each.weights.shape[1]):
            for row in range(3):
                weights, hidden = decoded(drawn[place], row)
                np.testing.assert_array_equal(hidden, ~each.pattern)
                np.testing.assert_allclose(weights, each.by_token[row, head], atol=2e-5 * np.abs(weights).max())
                if each.writes_per_token == 1:
                    out = each.weights[row, head] @ each.values[row, :, head]
                    np.testing.assert_allclose(weights @ each.values[row, :, head], out, atol=2e-3)
            place += 1


@pytest.mark.slow
def test_long_rows_are_binned_and_named_by_their_first_token():
    run, seen, rows = looked(1, task="mqar:length=600,num_pairs=3,vocab_size=640", model__attention="sliding_window")
    found = html.data(seen.maps, rows, run.task)
    weights, _ = decoded(found["maps"][0], 0)
    assert weights.shape == (256, 256) and found["maps"][0]["evidence"] == [[]]
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-2)
    assert found["rows"][0]["row"][:3] == ["1", "4", "6"] and len(found["rows"][0]["row"]) == 256


def test_nothing_ends_the_data_before_its_end():
    hostile = {"a": "</script><script>harm()</script>", "b": "&amp;\u2028\u2029"}
    written = html._embedded(hostile)
    assert json.loads(written) == hostile and not re.search("[<>&\u2028\u2029]", written)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run, seen, rows = looked(model__attention="conv+full+gated_delta")
    path = tmp_path_factory.mktemp("page") / "maps.html"
    ablated = [tables.Ablated("nothing", 0.75, None), tables.Ablated("layer 1, head 2", 0.5, 0.25)]
    path.write_text(html.page(run, seen, rows, ablated))
    return path


@pytest.fixture
def visit(browser, page):
    """Returns a function that opens the page; at the end no visit may have said or requested anything."""
    said, contexts = [], []

    def go(**settings):
        context = browser.new_context(**settings)
        context.set_default_timeout(10_000)
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("request", lambda request: said.append(request.url))
        opened.goto(page.as_uri())
        return opened

    yield go
    for context in contexts:
        context.close()
    assert [line for line in said if line != page.as_uri() and not line.startswith("data:")] == []


def told(opened):
    return opened.get_by_role("status").inner_text()


@pytest.mark.slow
def test_a_token_says_where_it_looks_by_mouse_and_by_keyboard(visit, page):
    opened = visit()
    assert told(opened) == "Point at a token, or at the map."
    assert opened.locator("#heads button").count() == 6 and opened.locator("#queries button").count() == 14
    opened.locator("#queries button").nth(5).hover()
    first = told(opened)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text()).group(1))
    weights, _ = decoded(data["maps"][0], 0)
    best = int(np.abs(weights[5]).argmax())
    tokens = data["rows"][0]["row"]
    assert first.startswith(f"{tokens[5]} at 6 looks at {tokens[best]} at {best + 1}: {weights[5, best]:.3f}, ")
    share = opened.locator("#keys span").nth(best).evaluate("span => span.style.getPropertyValue('--share')")
    assert float(share.rstrip("%")) == pytest.approx(100 * abs(weights[5, best]) / np.abs(weights).max(), abs=0.1)
    assert opened.locator("#keys span").nth(6).get_attribute("class") == "outside"
    opened.locator("#queries button").nth(0).focus()
    for _ in range(3):
        opened.keyboard.press("ArrowRight")
    assert told(opened).startswith(f"{tokens[3]} at 4 looks at")
    opened.keyboard.press("End")
    assert told(opened).startswith(f"{tokens[13]} at 14 looks at")


def test_the_map_answers_a_pointer_and_arrow_keys(visit):
    opened = visit()
    box = opened.locator("#map").bounding_box()
    opened.locator("#map").hover(position={"x": box["width"] * 2.5 / 14, "y": box["height"] * 7.5 / 14})
    assert " at 8 looks at " in told(opened) and re.search(r" Here \S+ at 3: -?\d\.\d{3}\.$", told(opened))
    opened.locator("#map").focus()
    opened.keyboard.press("ArrowDown")
    assert " at 9 looks at " in told(opened) and "Here" not in told(opened)


def drawn(opened):
    return opened.locator("#map").evaluate("canvas => canvas.toDataURL()")


def test_heads_rows_and_themes_switch_what_is_drawn(visit):
    opened = visit(color_scheme="light")
    seen = [drawn(opened)]
    opened.locator("#heads button").nth(4).click()
    assert opened.locator("#heads button[aria-pressed=true] span").inner_text() == "layer 3, head 2"
    seen.append(drawn(opened))
    opened.get_by_label("row of the task").select_option("2")
    seen.append(drawn(opened))
    opened.get_by_role("button", name="Dark").click()
    seen.append(drawn(opened))
    assert all(seen[n] != seen[m] for n in range(4) for m in range(n))


def test_without_script_there_are_a_picture_and_the_tables(visit):
    opened = visit(java_script_enabled=False)
    assert opened.get_by_role("img", name="Attention maps of every head").is_visible()
    assert not opened.locator("#choices").is_visible() and opened.locator("#scores tbody tr").count() == 6
    assert opened.locator("#causes tbody tr").all_inner_texts()[1].split("\t") == ["layer 1, head 2", "0.500", "0.250"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_and_a_phone_scrolls_down_alone(visit, scheme, width):
    if not tools.AXE.exists():
        tools.missing("axe", "run npm install --no-save axe-core@4")
    opened = visit(color_scheme=scheme, viewport={"width": width, "height": 740}, bypass_csp=True)
    opened.locator("#queries button").nth(5).focus()
    opened.evaluate(tools.AXE.read_text())
    found = opened.evaluate("axe.run().then(result => result.violations.map(each => `${each.impact} ${each.id}`))")
    assert found == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
