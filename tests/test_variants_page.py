"""docs/variants.md and its pictures say what the code does."""

from types import ModuleType

import numpy as np
import pytest

from attention_variants.registry import VARIANTS
from tests import page_makers


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return page_makers.load("variants_page")


def test_the_page_is_current(maker: ModuleType) -> None:
    assert maker.PAGE.read_text() == maker.page(), "run: make pages"
    assert {path.stem for path in maker.PICTURES.glob("*.svg")} == set(VARIANTS), "run: make pages"


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_the_picture_is_current(maker: ModuleType, name: str) -> None:
    committed = (maker.PICTURES / f"{name}.svg").read_text()
    assert maker.same_picture(committed, maker.picture(maker.shades(name))), "run: make pages"


def test_every_picture_shows_what_is_special(maker: ModuleType) -> None:
    drawn = {name: maker.shades(name) for name, kind in VARIANTS.items() if "static pattern" in kind.family}
    assert all((levels == maker.LEVELS + 1)[np.tril_indices(maker.LENGTH)].any() for levels in drawn.values()), (
        "a pattern that hides nothing at 16 tokens needs smaller settings in its `examples`"
    )


def test_one_shade_is_rounding_and_two_are_a_change(maker: ModuleType) -> None:
    levels = maker.shades("full")
    for by, same in ((1, True), (2, False)):
        moved = levels.copy()
        moved[5, 0] += by if levels[5, 0] < 5 else -by
        assert maker.same_picture(maker.picture(levels), maker.picture(moved)) == same
    unseen = levels.copy()
    unseen[5, 0] = maker.LEVELS + 1
    assert not maker.same_picture(maker.picture(levels), maker.picture(unseen))
    assert not maker.same_picture(maker.picture(levels), "<svg></svg>")
