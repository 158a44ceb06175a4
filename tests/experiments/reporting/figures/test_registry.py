"""What holds for every picture of every study."""

import itertools

import pytest

from experiments.reporting.figures import registry
from tests.experiments.reporting.figures.gallery import STUDIES, TESTED, box, shown

pytestmark = pytest.mark.slow  # drawing a picture takes a second, and there are many
SLICES = {"accuracy_by_depth", "accuracy_by_string_length"}


@pytest.mark.parametrize("name", [*STUDIES, *TESTED])
@pytest.mark.parametrize("file", [*registry.FIGURES, *sorted(SLICES)])
def test_no_text_covers_another(gallery, name, file):
    figure = gallery.figure(name, file)
    if figure is not None:
        check_texts(figure)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("windows", "accuracy_over_window_size"),
        ("windows", "accuracy_over_state_bytes"),
        ("grid", "accuracy_over_num_pairs"),
        ("rates", "validation_by_learning_rate"),
        ("rates of many", "validation_by_learning_rate"),
    ],
)
def test_no_text_covers_another_where_sizes_or_rates_vary(gallery, name, file):
    check_texts(gallery.figure(name, file))


def check_texts(figure):
    boxes = [(box(text), text.get_text()) for text in shown(figure)]
    covered = [(a, b) for (one, a), (two, b) in itertools.combinations(boxes, 2) if one.overlaps(two)]
    assert len(boxes) > 8 and covered == []


def test_pictures_are_drawn_where_there_is_something_to_draw(gallery):
    plain = {"accuracy_against_flops", "accuracy_against_state", "learning_curves", "accuracy_by_distance"}
    plain.add("paired_differences")
    tested = plain | SLICES | {"accuracy_by_length", "accuracy_shifted"}
    several = {"accuracy_across_tasks"}
    known = tested | several
    for name, expected in {
        "one task": plain,
        "mixed": plain | several,
        "two": tested,
        "three lengths": tested | several,
    }.items():
        study = gallery.study(name)
        drawn = {file for file in registry.pictures(study) if gallery.figure(name, file) is not None}
        assert drawn & known == expected, name
