"""The grammar of spec strings, and the one line that each mistake gets."""

import dataclasses

import pytest

from attention_variants import specs
from attention_variants.registry import VARIANTS, make_variant
from attention_variants.specs import SpecError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thing:
    size: int = 3
    rate: float = 0.5
    name: str = "plain"
    open: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"`size` must be an integer >= 1; got {self.size}.")


REGISTRY = {"thing": Thing, "other_thing": Thing}


@pytest.mark.parametrize(
    ("spec", "thing"),
    [
        ("thing", Thing()),
        (" thing ", Thing()),
        ("thing:size=5", Thing(size=5)),
        ("thing: size = 5 , rate = 1e-3", Thing(size=5, rate=1e-3)),
        ("thing:rate=1e+3", Thing(rate=1e3)),
        ("thing:rate=2", Thing(rate=2.0)),
        ("thing:open=True,name=a=b", Thing(open=True, name="a=b")),
        ("thing:open=no,limit=4", Thing(limit=4)),
        ("thing:limit=None", Thing()),
    ],
)
def test_spec_builds(spec: str, thing: Thing) -> None:
    assert specs.build(spec, REGISTRY, "thing") == thing


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "is not a spec"),
        (":size=3", "is not a spec"),
        ("thing:", "is not a spec"),
        ("thing:size", "got 'size' for a field"),
        ("thing:size=", "got 'size=' for a field"),
        ("thing:=3", "got '=3' for a field"),
        ("thing:size=3,", "got '' for a field"),
        ("module:Thing", "got 'Thing' for a field. A class of your own is registered first."),
        ("thing:size=3,size=4", "gives the field 'size' twice"),
        ("thin", "unknown thing 'thin'; valid choices, nearest first: thing, other_thing."),
        ("thing:sise=3", "unknown field of thing 'thing': 'sise'; valid choices, nearest first: size,"),
        ("thing:size=big", "thing: `size` must be an integer; got 'big'."),
        ("thing:size=3.0", "thing: `size` must be an integer; got '3.0'."),
        ("thing:limit=x", "thing: `limit` must be an integer; got 'x'."),
        ("thing:rate=nan", "thing: `rate` must be a finite number; got 'nan'."),
        ("thing:rate=inf", "thing: `rate` must be a finite number; got 'inf'."),
        ("thing:open=maybe", "thing: `open` must be true or false; got 'maybe'."),
        ("thing:size=0", "thing: `size` must be an integer >= 1; got 0."),
    ],
)
def test_wrong_spec_gets_one_line(spec: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        specs.build(spec, REGISTRY, "thing")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("swap", ["swaps_of_five", "swaq", "one_swap_each"]),  # begins so, is like it, has it inside
        ("flops", ["flops", "search_flops"]),
        ("Flop", ["flops", "search_flops"]),
        ("lops", ["flops", "search_flops"]),
    ],
)
def test_the_nearest_begin_alike_or_are_alike_or_have_the_word_inside(word: str, nearest: list[str]) -> None:
    assert specs.nearest_first(word, {"accuracy", "zeta", *nearest}) == [*nearest, "accuracy", "zeta"]


def test_names_with_a_comma_stand_apart() -> None:
    assert specs.listed(["a", "b"]) == "a, b" and specs.listed(["a:x=1,y=2", "b"]) == "a:x=1,y=2; b"
    assert specs.listed(["a", "b", "c:x=1,y=2"], 2) == "a, b and 1 more" and specs.listed(["a", "b"], 2) == "a, b"


def test_typed_fields_override_the_spec_and_are_checked() -> None:
    assert specs.build("thing:size=5,rate=1", REGISTRY, "thing", size=7) == Thing(size=7, rate=1.0)
    with pytest.raises(SpecError, match="nearest first: size"):
        specs.build("thing", REGISTRY, "thing", sze=7)


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("full", ("full",)),
        ("full+linear", ("full", "linear")),
        ("a:x=1e+3 + b:y=2,z=-1+c", ("a:x=1e+3", "b:y=2,z=-1", "c")),
    ],
)
def test_layers_are_split_at_plus_but_not_in_exponents(spec: str, layers: tuple[str, ...]) -> None:
    assert specs.split_layers(spec) == layers


@pytest.mark.parametrize("spec", ["", "+full", "full+", "full++linear", " + "])
def test_an_empty_layer_is_refused(spec: str) -> None:
    with pytest.raises(SpecError, match="has an empty layer"):
        specs.split_layers(spec)


@pytest.mark.parametrize("thing", [Thing(), Thing(size=5), Thing(rate=1e-9, open=True, limit=2, name="x")])
def test_format_is_the_inverse_of_build(thing: Thing) -> None:
    spec = specs.format_spec("thing", thing)
    assert specs.build(spec, REGISTRY, "thing") == thing
    assert "size" not in spec or thing.size != 3


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_built_from_its_name_and_refuses_its_fields_at_zero(name: str) -> None:
    variant = make_variant(name)
    assert variant == VARIANTS[name]() and specs.format_spec(name, variant) == name
    for field in dataclasses.fields(VARIANTS[name]):
        if field.name.endswith(("_size", "stride")):
            with pytest.raises(SpecError, match=f"{name}: `{field.name}` must be an integer >= 1; got 0."):
                make_variant(f"{name}:{field.name}=0")
            with pytest.raises(SpecError, match=f"{name}: `{field.name}` must be an integer >= 1; got True."):
                make_variant(name, **{field.name: True})
