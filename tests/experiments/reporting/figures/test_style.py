import os
import subprocess
import sys

import pytest

from experiments.reporting.figures.layout import labelled_axes
from experiments.reporting.figures.style import COLOURS, looks_of, save, style


def test_colours_repeat_with_other_markers_and_do_not_depend_on_the_order():
    names = [f"model {number:02}" for number in range(49)]
    looks = looks_of(names)
    assert len(set(looks.values())) == 49 and {look.colour for look in looks.values()} == set(COLOURS)
    assert looks_of(reversed(names)) == looks


def test_the_same_figure_is_the_same_bytes_without_a_date():
    with style():
        first, second = (save(labelled_axes(3)[0], "svg") for _ in range(2))
    assert first == second and b"<dc:date>" not in first


_DRAW = """
import sys, tempfile
def nowhere(*arguments, **options): raise OSError("read-only")
tempfile.mkdtemp = nowhere
from experiments.reporting.figures.layout import labelled_axes
from experiments.reporting.figures.style import save, style
with style():
    sys.stdout.buffer.write(save(labelled_axes(3)[0], "png"))
"""


@pytest.mark.slow
def test_pictures_need_no_settings_and_no_folder_of_the_user(tmp_path):
    """A matplotlibrc with TeX and other sizes, a backend that is none, and nowhere to write."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 31\nfigure.constrained_layout.use: True\n")
    hostile = {"MPLBACKEND": "nonsense", "MATPLOTLIBRC": str(tmp_path), "HOME": os.devnull, "PYTHONPATH": os.getcwd()}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MPL", "XDG"))} | hostile
    drawn = subprocess.run([sys.executable, "-c", _DRAW], env=environment, cwd=tmp_path, capture_output=True)
    assert drawn.returncode == 0 and not drawn.stderr, drawn.stderr.decode()
    with style():
        assert drawn.stdout == save(labelled_axes(3)[0], "png")


def test_a_dollar_in_a_label_is_a_dollar():
    with style():
        figure, axes = labelled_axes(1)
        axes.set_xlabel("$x^{2 ^$")
        assert save(figure, "png")
