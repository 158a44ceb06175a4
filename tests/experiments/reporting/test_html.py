"""The report is one page that needs nothing else, and its pictures show every row."""

import re
from html.parser import HTMLParser

import pytest

from experiments.reporting import html
from experiments.reporting.figures.registry import FIGURES
from experiments.studies.results import read_study
from tests.experiments.fake_study import KINDS, config_of, write_run, write_study

ALWAYS = {"accuracy_against_flops", "accuracy_against_state", "learning_curves", "accuracy_by_distance"}
OF_SOME = {"accuracy_across_tasks", "accuracy_by_length", "accuracy_shifted"}  # several tasks, or tests on other rows


class Links(HTMLParser):
    """Collects what a page would load, and checks that its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img", "wbr", "rect", "circle", "br"):
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
    assert links.open == [] and len(links.loaded) == len(list(toy.glob("*.svg"))) >= len(ALWAYS)
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links.loaded)
    assert not re.search(r"""(@import|url\(|src=["']?https?:|href=)""", page)
    assert 'name="viewport"' in page


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
    assert re.findall(r'<td class="best">([0-9.]+)', page) == [f"{row.accuracy.mean:.3f}" for row in bold]
    assert len(bold) == 2 and page.count('class="best"') == 2 and "every other row of its task" in page


def test_every_row_is_there_and_specs_are_escaped(tmp_path):
    tasks = [f"mqar:length={length},num_pairs=8" for length in (64, 256)]
    study = read_study(write_study(tmp_path / "study", ["conv+full:note=<i>&", "conv+linear"], 1, tasks))
    page = re.sub("</?(wbr|span)[^>]*>", "", html.page(study, {}))
    assert re.findall(r"<td>(mqar:[^<]*)", page) == [row.config["task"] for row in study.rows]
    assert page.count("conv+full:note=&lt;i&gt;&amp;") >= 2 and "<i>" not in page


def test_pictures_come_where_they_apply(tmp_path):
    tasks = ["mqar:length=128,num_pairs=8,vocab_size=128", "mqar:length=64,num_pairs=8,vocab_size=128"]
    folder = write_study(tmp_path / "two", ["conv+full"], 1, tasks, other_rows=True)
    page = html.write_report(folder).read_text()
    names = [*FIGURES, "accuracy_by_depth", "accuracy_by_string_length"]
    drawn = re.findall('<figure id="([a-z_]+)"', page)
    assert drawn == [name for name in names if name in drawn] and set(drawn) >= ALWAYS | OF_SOME | set(names[-2:])
    assert {path.stem for path in folder.glob("*.png")} == set(drawn)
    assert "<h2>Accuracy by length of the string</h2>" in page


def test_every_picture_lies_next_to_the_page(toy):
    names = {path.stem for path in toy.glob("*.png")}
    assert names >= ALWAYS and not names & OF_SOME
    for name in names:
        assert (toy / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (toy / f"{name}.svg").read_bytes()


def test_the_same_numbers_give_the_same_bytes(toy, tmp_path):
    html.write_report(toy, tmp_path)
    for name in ("report.html", "accuracy_against_flops.svg", "accuracy_by_distance.svg"):
        assert (tmp_path / name).read_bytes() == (toy / name).read_bytes(), name


def test_one_seed_one_row_and_nothing_by_distance(tmp_path):
    changes = {"slices": {}, "test_accuracy": None, "status": "diverged", "steps_to_solve": None}
    (write_run(tmp_path / "one", config_of("conv+full"), **changes) / "metrics.jsonl").unlink()
    page = html.write_report(tmp_path / "one").read_text()
    assert "accuracy_by_distance" not in page and "One model, 1 run, on" in page


def test_results_of_a_version_that_knew_other_variants_and_tasks_still_report(tmp_path):
    kinds, tasks = ["conv+from_the_future", *list(KINDS)[:1]], ["mqar", "also_from_the_future:x=1"]
    folder = write_study(tmp_path / "old", kinds, 1, tasks)
    assert "from_the_future" in html.write_report(folder).read_text()
