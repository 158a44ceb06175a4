"""Pictures of cost against length."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from experiments.benchmarks import plots
from experiments.benchmarks.attention import Timing as AttentionTiming
from experiments.benchmarks.decoding import Timing as DecodingTiming
from experiments.reporting.figures import style

LENGTHS = (1024, 2048, 8192)
STARTS = {"a": 1.0, "b": 3.0, "c": 1.0, "peer": 1.0}  # milliseconds at the shortest


def attention(**powers):
    return [
        AttentionTiming(
            name, length, 1.0, STARTS[name] * (length / 1024) ** power, 3, None if name == "peer" else length
        )
        for length in LENGTHS
        for name, power in powers.items()
    ]


def decoding(lengths=LENGTHS):
    grown = {"window": lambda length: min(length, 2048), "full": lambda length: length}
    return [
        DecodingTiming(name, length, 1.0, 5.0, bytes_of(length), (bytes_of(2 * length) - bytes_of(length)) / length)
        for length in lengths
        for name, bytes_of in grown.items()
    ]


def curves(figure):
    """Returns what is drawn in data coordinates: contenders by name of their colour's order, and guides by dashes."""
    (axes,) = figure.axes
    drawn = [line for line in axes.lines if line.get_transform() == axes.transData]
    return [line for line in drawn if len(line.get_xdata()) > 1]


def test_guides_are_linear_and_quadratic_and_cross_no_line():
    figure = plots.of_attention(attention(a=1, b=2))["attention_time"]
    *lines, below, above = curves(figure)
    for guide, power in ((below, 1), (above, 2)):
        x, y = np.log(guide.get_xdata()), np.log(guide.get_ydata())
        assert np.diff(y) / np.diff(x) == pytest.approx(power)
        at = np.interp(np.log(LENGTHS), x, y)
        assert all((np.sign(np.log(line.get_ydata()) - at) == 3 - 2 * power).all() for line in lines)
    assert all(list(line.get_xdata()) == list(LENGTHS) for line in lines)


def test_time_is_in_seconds_and_memory_in_bytes():
    figures = plots.of_attention(attention(a=1, peer=1))
    time, memory = (curves(figures[f"attention_{name}"]) for name in ("time", "memory"))
    assert list(time[0].get_ydata()) == [0.001, 0.002, 0.008]
    assert len(time) == 4 and len(memory) == 3, "of another library no memory is known"
    assert list(memory[0].get_ydata()) == list(LENGTHS)


def test_every_line_is_named_once():
    figure = plots.of_attention(attention(a=1, b=1.2, c=2))["attention_time"]
    with style.style():
        text = style.save(figure, "svg").decode()
    named = re.findall(r"<!-- (.*?) -->", text)
    assert {name: named.count(name) for name in "abc"} == dict.fromkeys("abc", 1)
    assert sum(name.startswith(("linear: twice", "quadratic: twice")) for name in named) == 2


def test_decoding_is_drawn_apart_by_what_bounds_the_state():
    """A window is bounded although it grows up to the second length."""
    figures = plots.of_decoding(decoding())
    assert len(figures) == 4
    for kind, name, state in (("bounded", "window", [1024, 2048, 2048]), ("growing", "full", list(LENGTHS))):
        line, *_ = curves(figures[f"decoding_state_{kind}"])
        assert list(line.get_ydata()) == state
        assert name in {text.get_text() for text in figures[f"decoding_time_{kind}"].axes[0].texts}


def test_a_single_length_is_no_picture():
    assert plots.of_attention(attention(a=1)[:1]) == {} == plots.of_decoding(decoding((1024,)))


def test_pictures_are_files_that_can_be_opened(tmp_path):
    names = plots.write(plots.of_attention(attention(a=1, b=2)), tmp_path / "new")
    assert sorted(names) == sorted(path.name for path in (tmp_path / "new").iterdir()) and len(names) == 4
    shades = np.asarray(Image.open(io.BytesIO((tmp_path / "new" / "attention_time.png").read_bytes())).convert("L"))
    assert len(np.unique(shades)) > 3


def test_names_stand_beside_the_ends_of_their_lines():
    figure = plots.of_attention(attention(a=0, b=2, c=4))["attention_time"]
    (axes,) = figure.axes
    height = axes.transAxes.inverted().transform
    starts = {"a": 1e-3, "b": 3e-3 * 8**2, "c": 1e-3 * 8**4}
    ends = {name: height(axes.transData.transform((8192, end)))[1] for name, end in starts.items()}
    placed = {text.get_text(): text.get_position()[1] for text in axes.texts if text.get_text() in ends}
    assert placed == {name: pytest.approx(level, abs=0.02) for name, level in ends.items()}


def test_a_guide_that_leaves_soon_has_a_short_name():
    for power, names in (
        (1.5, ["linear", "quadratic"]),
        (0, ["linear: twice the length, twice the cost", "quadratic"]),
    ):
        (axes,) = plots.of_attention(attention(a=power))["attention_time"].axes
        guides = [text for text in axes.texts if text.get_text().startswith(("linear", "quadratic"))]
        assert [text.get_text().startswith(name) for text, name in zip(guides, names, strict=True)] == [True, True]
        room = axes.get_window_extent()
        for text in guides:
            shown = text.get_window_extent()
            assert room.x0 < shown.x0 and shown.x1 < room.x1 and room.y0 < shown.y0 and shown.y1 < room.y1
    assert guides[1].get_text() == "quadratic"


def test_only_what_ends_early_is_named_by_a_dotted_line():
    timings = [each for each in attention(a=1, b=2) if (each.variant, each.length) != ("b", 8192)]
    (axes,) = plots.of_attention(timings)["attention_time"].axes
    leaders = {
        text.xy[0]: text.arrow_patch.get_linestyle() for text in axes.texts if getattr(text, "arrow_patch", None)
    }
    assert leaders[8192] in ("-", "solid") and leaders[2048] not in ("-", "solid")
