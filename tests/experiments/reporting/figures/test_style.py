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
