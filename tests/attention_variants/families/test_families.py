"""Base classes and variants are told apart by their names, and every variant is of a known family."""

import importlib
import inspect
import pkgutil

import pytest

from attention_variants import families, variants
from attention_variants.interface import FAMILIES, AttentionVariant
from attention_variants.registry import VARIANTS


def classes_of(package: object) -> dict[type, str]:
    """Returns the variants and bases that a package defines, with the name of their file."""
    found = {}
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for kind in vars(importlib.import_module(info.name)).values():
            if inspect.isclass(kind) and issubclass(kind, AttentionVariant) and kind.__module__ == info.name:
                found[kind] = info.name.rpartition(".")[2]
    return found


BASES = classes_of(families)


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_a_base_is_named_after_its_file_and_not_registered(base: type) -> None:
    assert base not in VARIANTS.values()
    assert base.__name__ == "".join(word.capitalize() for word in BASES[base].split("_")) + "Variant"


def test_a_variant_is_registered_and_named_as_one() -> None:
    assert set(classes_of(variants)) == set(VARIANTS.values())
    assert all(kind.__name__.endswith("Attention") for kind in VARIANTS.values())


def test_every_variant_belongs_to_a_family_and_every_family_has_one() -> None:
    assert {kind.family for kind in VARIANTS.values()} == set(FAMILIES)
