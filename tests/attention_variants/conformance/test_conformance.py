"""Every law over every row of the table of sharp cases."""

from typing import Any

import pytest

from attention_variants.conformance import LAWS, Case, LawBroken, check
from attention_variants.conformance.cases import CASES
from attention_variants.registry import VARIANTS, make_variant
from tests.attention_variants.learned_decay import LearnedDecayAttention

ALL_CASES = CASES | {"learned_decay": Case(LearnedDecayAttention(chunk_size=7))}

# Laws that compile much run over every row only with the slow tests, and always over these.
ALWAYS: dict[str, set[str]] = {
    "matches_definition": {"sliding_window"},
    "matches_definition_in_bfloat16": {"full"},
    "decoding_equals_parallel": {"learned_decay"},
    "limits_are_full_attention": {"sliding_window"},
    "a_long_prefill_equals_parallel": {"sliding_window"},
    "controls_are_learned": {"learned_decay"},
    "padding_equals_truncation": {"sliding_window"},
    "masked_nan_stays_out": {"linear"},
    "extremes_stay_finite": {"linear"},
    "extremes_match_definition": {"full"},
    "closed_gates_match_definition": {"forgetting"},
    "ties_are_decided_alike": {"topk"},
    "grouped_heads_equal_repeated": {"learned_decay"},
    "transformations_change_nothing": set(),
    "growth_is_as_claimed": set(),
    "dtypes_are_explicit": {"sliding_window", "linear", "topk"},
    "lowers_for_accelerators": {"sliding_window", "linear"},
    "numpy_arrays_are_taken": {"sliding_window", "linear", "lsh"},
    "caches_keep_their_form": {"sliding_window", "linear", "gated_delta"},
    "sees_only_pattern": {"sliding_window", "linear", "topk"},
    "paper_layer_decodes_and_pads": set(),
    "cost_is_exact": {"sliding_window", "linear", "topk", "lsh"},
    "rotation_is_as_claimed": {"linear", "sliding_window"},
    "weights_follow_pattern": {"sliding_window", "linear", "topk"},
}

# On the newest JAX, where programs take twice as long to compile, these laws also run over a row of each family.
ON_NEWEST = {
    "matches_definition",
    "decoding_equals_parallel",
    "transformations_change_nothing",
    "cost_is_exact",
    "dtypes_are_explicit",
    "lowers_for_accelerators",
}
OF_FAMILIES = {"full", "sliding_window", "topk", "differential", "linformer", "linear", "gated_delta"}


def _rows() -> list[Any]:
    return [
        pytest.param(law, name, id=f"{law}-{name}", marks=_marks(law, name))
        for name in ALL_CASES  # in this order laws share what the case compiled
        for law in LAWS
    ]


def _marks(law: str, name: str) -> list[pytest.MarkDecorator]:
    slow = name not in ALWAYS.get(law, ALL_CASES)
    newest = law in ON_NEWEST and name in OF_FAMILIES
    return [pytest.mark.slow] * slow + [pytest.mark.newest] * newest


@pytest.mark.parametrize(("law", "name"), _rows())
def test_law_holds(law: str, name: str) -> None:
    LAWS[law](ALL_CASES[name])


def test_the_tables_of_expensive_laws_name_what_exists() -> None:
    assert set(ALWAYS) | ON_NEWEST <= set(LAWS)
    assert set().union(OF_FAMILIES, *ALWAYS.values()) <= set(ALL_CASES)
    families = {kind.family for kind in VARIANTS.values()}
    assert families == {ALL_CASES[name].variant.family for name in OF_FAMILIES}, "add a case of the new family"


def forgotten(registered: dict[str, type], specs: Any) -> list[str]:
    """Returns the registered variants that no spec names."""
    return sorted(set(registered) - {spec.partition(":")[0] for spec in specs})


def test_every_registered_variant_has_a_sharp_case() -> None:
    assert not forgotten(VARIANTS, CASES), "add a row to CASES in attention_variants/conformance/cases.py"
    assert forgotten(VARIANTS | {"new": LearnedDecayAttention}, CASES) == ["new"]


def test_every_static_pattern_has_a_picture() -> None:
    static = {name: kind for name, kind in VARIANTS.items() if kind.family == "softmax, static pattern"}
    drawn = [spec for spec, case in CASES.items() if case.picture is not None]
    assert static and not forgotten(static, drawn), "draw a picture in attention_variants/conformance/cases.py"


def test_every_row_is_named_after_its_variant() -> None:
    for spec, case in CASES.items():
        related = [case.variant, case.limit or case.variant, case.picture.variant if case.picture else case.variant]
        assert {type(variant) for variant in related} == {VARIANTS[spec.partition(":")[0]]}
        assert case.length >= 17 and all(case.length % n for n in range(2, case.length)), f"{spec}: length not a prime"


def test_check_reports_each_law_and_never_raises() -> None:
    class Crashing(LearnedDecayAttention):
        def pattern(self, query_length: int, key_length: int, causal: bool) -> Any:
            raise RuntimeError("no\n  pattern")

    results = list(check(Case(Crashing(chunk_size=7)), ["weights_follow_pattern", "equal_variants_do_not_retrace"]))
    assert [result.law for result in results] == ["weights_follow_pattern", "equal_variants_do_not_retrace"]
    assert [result.broken for result in results] == ["RuntimeError: no pattern", None]
    assert all(result.seconds >= 0 for result in results)


def test_a_law_needs_a_sharp_case() -> None:
    with pytest.raises(LawBroken, match="the case is not sharp"):
        LAWS["limits_are_full_attention"](Case(make_variant("sliding_window:window_size=64")))
