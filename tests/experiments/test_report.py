"""The report is one file that needs nothing else, and its pictures show every row."""

import re
import sys
from html.parser import HTMLParser

import pytest

from experiments import report
from experiments.reporting.figures.registry import FIGURES
from experiments.studies import grid as study
from experiments.studies.results import read_study
from tests.experiments.fake_study import KINDS, write_run, write_study

# Those of a study of one task that was tested on its own rows alone.
PICTURES = [n for n in FIGURES if n not in ("accuracy_across_tasks", "accuracy_by_length", "accuracy_shifted")]


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


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("results") / "toy <b>&", seeds=2)
    report.write_report(folder)
    return folder


def test_the_page_is_self_contained_and_well_formed(toy):
    page = (toy / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert links.open == [] and len(links.loaded) == len(PICTURES)
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links.loaded)
    assert not re.search(r"""(@import|url\(|src=["']?https?:|href=)""", page)
    assert 'name="viewport"' in page


def test_the_page_tells_what_was_run_and_where(toy):
    links = Links()
    links.feed((toy / "report.html").read_text())
    text = " ".join(" ".join(links.text).split())
    for expected in ("Imaginary CPU", "0.10.2", "--config=configs/toy.py", "train.learning_rate", "2026-01-02"):
        assert expected in text
    assert "6 models that differ only in attention, 2 runs each" in text


def test_the_best_accuracy_is_bold_and_nothing_else(tmp_path):
    summary = read_study(write_study(tmp_path / "study", tasks=["mqar:length=128", "mqar:length=64"]))
    bold = [row for row in summary.rows if summary.best(row)]
    page = report.as_html(summary, {})
    assert re.findall(r'<td class="best">([0-9.]+)', page) == [f"{row.accuracy[0]:.3f}" for row in bold]
    assert len(bold) == 2 and page.count('class="best"') == 2 and "every other row of its task" in page


def test_pictures_come_where_they_apply(tmp_path):
    tasks = ["mqar:length=128,num_pairs=8,vocab_size=128", "mqar:length=64,num_pairs=8,vocab_size=128"]
    folder = write_study(tmp_path / "two", ["conv+full"], 1, tasks, beyond=True)
    page = report.write_report(folder).read_text()
    names = [*FIGURES, "accuracy_by_depth", "accuracy_by_string_length"]
    assert re.findall('<figure id="([a-z_]+)"', page) == names
    assert {path.stem for path in folder.glob("*.png")} == set(names)
    assert "<h2>Accuracy by length of the string</h2>" in page


def test_every_picture_lies_beside_the_page(toy):
    for name in PICTURES:
        assert (toy / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (toy / f"{name}.svg").read_bytes()


def test_the_same_numbers_give_the_same_bytes(toy, tmp_path):
    report.write_report(toy, tmp_path)
    for name in ("report.html", "accuracy_against_flops.svg", "accuracy_by_distance.svg"):
        assert (tmp_path / name).read_bytes() == (toy / name).read_bytes(), name


def test_one_seed_one_row_and_nothing_by_distance(tmp_path):
    config = study.complete({"model": {"attention": "conv+full"}, "task": "mqar"}, "test")
    run = write_run(tmp_path / "one", config, slices={}, test_accuracy=None, status="diverged", steps_to_solve=None)
    (run / "metrics.jsonl").unlink()
    page = report.write_report(tmp_path / "one").read_text()
    assert "accuracy_by_distance" not in page and "One model, 1 run, on" in page


def test_unknown_variants_of_another_version_still_report(tmp_path):
    KINDS["conv+from_the_future"] = KINDS["conv+full"]
    try:
        write_study(tmp_path / "old", ["conv+from_the_future"])
    finally:
        del KINDS["conv+from_the_future"]
    assert "from_the_future" in report.write_report(tmp_path / "old").read_text()


def test_the_command_line(toy, monkeypatch, capsys):
    for name in report.FLAGS:
        report.FLAGS[name].unparse()
    monkeypatch.setattr(sys, "argv", ["report", str(toy / "nothing")])
    assert report.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
