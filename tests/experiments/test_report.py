"""The report is one file that needs nothing else, and its pictures show every row."""

import re
import sys
from html.parser import HTMLParser

import pytest

from experiments import distance, plots, report, study
from experiments.summary import read_study
from tests.experiments.fake_study import KINDS, write_run, write_study


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
    assert links.open == [] and len(links.loaded) == len(report.FIGURES)
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


def test_every_picture_lies_beside_the_page(toy):
    for name in report.FIGURES:
        assert (toy / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (toy / f"{name}.svg").read_bytes()


def test_the_same_numbers_give_the_same_bytes(toy, tmp_path):
    report.write_report(toy, tmp_path)
    for name in ("report.html", "accuracy_against_flops.svg", "accuracy_by_distance.svg"):
        assert (tmp_path / name).read_bytes() == (toy / name).read_bytes(), name


def test_labels_do_not_overlap_each_other(toy):
    summary = read_study(toy)
    with plots.style():
        for draw in (plots.accuracy_against_flops, plots.accuracy_against_state, plots.learning_curves):
            figure = draw(summary)
            figure.canvas.draw()
            (axes,) = figure.axes
            boxes = [text.get_window_extent() for text in axes.texts if text.get_text() not in ("", "floor")]
            assert len(boxes) == len(KINDS)
            assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])


def test_spread_keeps_order_room_and_bounds():
    places = plots._spread([0.9, 0.9, 0.91, 1.0], [0.1] * 4, 0.0, 1.06)
    assert all(b - a >= 0.1 - 1e-9 for a, b in zip(places, places[1:], strict=False))
    assert places[0] >= 0.05 and places[-1] <= 1.01 + 1e-9
    low = plots._spread([0.0, 0.0, 0.01], [0.1] * 3, 0.0, 1.06)
    assert low == pytest.approx([0.05, 0.15, 0.25])
    assert plots._spread([0.2, 0.8], [0.1, 0.1], 0.0, 1.0) == [0.2, 0.8]


def test_the_ceiling_of_a_window_falls_where_the_window_ends(toy):
    (row,) = [row for row in read_study(toy).rows if row.attention == "conv+sliding_window:window_size=16"]
    ceilings = distance._distance_ceilings(row, [(2, 4), (8, 16), (32, 64)])
    assert ceilings[:2] == [1.0, 1.0] and ceilings[2] < 0.1  # what is left is guessing


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
