"""The report is one page that needs nothing else, and its pictures show every row."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.reporting import html
from experiments.reporting.figures.registry import FIGURES
from experiments.studies.results import read_study
from tests.experiments.fake_study import KINDS, config_of, task_facts, write_run, write_study

ALWAYS = {"accuracy_against_flops", "accuracy_against_state", "learning_curves", "accuracy_by_distance"}
OF_SOME = {"accuracy_across_tasks", "accuracy_by_length", "accuracy_shifted"}  # several tasks, or tests on other rows


class Links(HTMLParser):
    """Collects what a page would load, and checks that its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded, self.inside, self.open, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        found = [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.loaded += [value for value in found if not value.startswith("#")]
        self.inside += [value for value in found if value.startswith("#")]
        if tag not in ("meta", "link", "img", "wbr", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def words(page):
    links = Links()
    links.feed(page)
    assert links.open == []
    return " ".join(" ".join(links.text).split())


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("results") / "toy <b>&", seeds=2)
    html.write_report(folder)
    return folder


def test_the_page_is_self_contained_and_well_formed(toy):
    page = (toy / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert links.open == [] and len(links.loaded) == len(list(toy.glob("*.svg"))) + 1 >= len(ALWAYS)
    icon, *pictures = links.loaded
    assert icon == "data:," and all(link.startswith("data:image/svg+xml;base64,") for link in pictures)
    assert not re.search(r"""(@import|url\(|src=["']?https?:|href=["']?https?:|fetch\(|XMLHttp|sendBeacon)""", page)
    assert 'name="viewport"' in page


def test_links_lead_to_parts_of_the_page(toy):
    page = (toy / "report.html").read_text()
    links, names = Links(), re.findall(' id="([^"]+)"', page)
    links.feed(page)
    assert len(names) == len(set(names)) and {link.removeprefix("#") for link in links.inside} <= set(names)
    rows = re.findall('<tr class="c[0-6]" data-row="(row-[0-9a-f]+)">', page)
    # From its name in the table, and from its marks in two pictures or more.
    assert len(rows) == 6 and all(links.inside.count(f"#{row}") >= 3 for row in rows)


def test_the_page_allows_its_own_style_and_script_alone(toy):
    page, files = (toy / "report.html").read_text(), Path(html.__file__).parent / "page"
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    script, style = (re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style"))
    scripts = "\n".join((files / name).read_text() for name in ("theme.js", "report.js"))
    assert script == [scripts] and len(style) == 1  # nothing of a study is in either
    for kind, (content,) in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; ") and not re.search(r"<[^>]+ (style|on\w+)=", page)


def test_runs_of_each_row_are_listed_with_what_differs(toy):
    page = (toy / "report.html").read_text()
    assert page.count("<details ") == 6 and page.count('<table class="seeds">') == 6
    seeds = re.findall(r'<tr data-run="(\d)"><th scope="row">(\d)</th><td>done</td>', page)
    assert seeds == [("0", "0"), ("1", "1")] * 6 and page.count('class="curve" data-run=') == 12
    study = read_study(toy)
    accuracies = [f"<td>{score:.3f}</td>" for row in study.rows for score in row.accuracies]
    places = [page.index(f'id="{anchor}"') for anchor in re.findall('data-row="([^"]+)"', page)]
    for number, start in enumerate(places):
        inside = page[start:].partition("</details>")[0]
        assert all(cell in inside for cell in accuracies[2 * number : 2 * number + 2])


def test_the_page_says_what_was_run_and_where(toy):
    text = words((toy / "report.html").read_text())
    for expected in ("Imaginary CPU", "0.10.2", "--config=configs/toy.py", "train.learning_rate", "2026-01-02"):
        assert expected in text
    assert "<b>" not in (toy / "report.html").read_text()


def test_the_lede_names_models_of_another_size(toy, tmp_path):
    text = words((toy / "report.html").read_text())
    size = "(† 3 layers instead of 2)"
    assert f"6 models that differ in attention and, where marked, in size {size}, 2 runs each, on mqar" in text
    assert (
        "differ only" not in text
        and "linear\u00a0†" in (toy / "report.html").read_text().replace("&nbsp;", "\u00a0")
        and "not the same model" in text
    )
    study = read_study(write_study(tmp_path / "same", ["conv+full", "conv+linear"], 1))
    assert "2 models that differ only in attention, 1 run each, on mqar" in words(html.page(study, {}))


def test_the_best_accuracy_is_bold_and_nothing_else(tmp_path):
    study = read_study(write_study(tmp_path / "study", seeds=5, tasks=["mqar:length=128", "mqar:length=64"]))
    bold = [row for row in study.rows if study.best(row)]
    page = html.page(study, {})
    shown = re.findall(r'<td class="best" data-v="[0-9.]+">([0-9.]+)', page)
    assert shown == [f"{row.accuracy.mean:.3f}" for row in bold]
    assert len(bold) == 2 and page.count('class="best"') == 2 and "every other row of its task" in page


def test_every_row_is_there_and_specs_are_escaped(tmp_path):
    tasks = [f"mqar:length={length},num_pairs=8" for length in (64, 256)]
    study = read_study(write_study(tmp_path / "study", ["conv+full:note=<i>&", "conv+linear"], 1, tasks))
    page = re.sub("</?(wbr|span)[^>]*>", "", html.page(study, {}))
    assert re.findall(r'<td data-v="mqar:[^"]*">(mqar:[^<]*)', page) == [row.config["task"] for row in study.rows]
    assert page.count("conv+full:note=&lt;i&gt;&amp;") >= 2 and "<i>" not in page


def test_what_results_say_is_escaped(tmp_path):
    slices = {"part": {"values": [1, 2], "accuracy": [0.5, 0.6], "count": [5, 5]}}
    facts = task_facts("mqar") | {"slice_labels": {"part": '<b>"'}}
    environment = {"device": "<b>", "jax": "<b>", "flags": {"<b>": "<b>"}}
    write_run(tmp_path / "one", config_of("conv+full"), slices=slices, task=facts, environment=environment)
    page = html.page(read_study(tmp_path / "one"), {"accuracy_by_part": b'<svg viewBox="0 0 9 9"></svg>'})
    assert "<b>" not in page and page.count("Accuracy by &lt;b&gt;&quot;") == 4
    assert "All with version 1.1 with jax &lt;b&gt; on &lt;b&gt;." in page


@pytest.mark.slow
def test_pictures_come_where_they_apply(tmp_path):
    tasks = ["mqar:length=128,num_pairs=8,vocab_size=128", "mqar:length=64,num_pairs=8,vocab_size=128"]
    folder = write_study(tmp_path / "two", ["conv+full"], 1, tasks, other_rows=True)
    page = html.write_report(folder).read_text()
    names = [*FIGURES, "accuracy_by_depth", "accuracy_by_string_length"]
    drawn = re.findall('<figure id="([a-z_]+)"', page)
    assert drawn == [name for name in names if name in drawn] and set(drawn) >= ALWAYS | OF_SOME | set(names[-2:])
    assert {path.stem for path in folder.glob("*.png")} == set(drawn)
    assert ">Accuracy by length of the string</h2>" in page


def test_every_picture_lies_next_to_the_page(toy):
    names = {path.stem for path in toy.glob("*.png")}
    assert names >= ALWAYS and not names & OF_SOME
    for name in names:
        assert (toy / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (toy / f"{name}.svg").read_bytes()


@pytest.mark.slow
def test_the_same_numbers_give_the_same_bytes(toy, tmp_path):
    html.write_report(toy, tmp_path)
    for name in ("report.html", "accuracy_against_flops.svg", "accuracy_by_distance.svg"):
        assert (tmp_path / name).read_bytes() == (toy / name).read_bytes(), name


def test_one_seed_one_row_and_nothing_by_distance(tmp_path):
    changes = {"slices": {}, "test_accuracy": None, "status": "diverged", "steps_to_solve": None}
    (write_run(tmp_path / "one", config_of("conv+full"), **changes) / "metrics.jsonl").unlink()
    page = html.write_report(tmp_path / "one").read_text()
    assert "accuracy_by_distance" not in page and "One model, 1 run, on" in page


@pytest.mark.slow
def test_results_of_a_version_that_knew_other_variants_and_tasks_still_report(tmp_path):
    kinds, tasks = ["conv+from_the_future", *list(KINDS)[:1]], ["mqar", "also_from_the_future:x=1"]
    folder = write_study(tmp_path / "old", kinds, 1, tasks)
    assert "from_the_future" in html.write_report(folder).read_text()


def test_the_lede_counts_models_and_not_rows(tmp_path):
    tasks = ("mqar:length=64", "mqar:length=128")
    write_study(tmp_path / "study", seeds=1, tasks=tasks, kinds=("full", "linear"))
    text = words(html.page(read_study(tmp_path / "study"), {}))
    said = "2 models that differ only in attention, 1 run each, on each of 2 tasks: "
    assert f"{said}mqar: length=64 and mqar: length=128 " in text


def test_a_result_that_does_not_say_where_it_ran_has_a_page(tmp_path):
    path = write_run(tmp_path / "one", config_of("conv+full")) / "result.json"
    result = json.loads(path.read_text())
    del result["environment"]
    path.write_text(json.dumps(result))
    assert "conv+full" in html.page(read_study(tmp_path / "one"), {})
