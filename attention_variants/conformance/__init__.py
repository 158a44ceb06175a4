"""The laws that every attention variant keeps, as plain functions: anyone can check their own variant.

    from attention_variants import conformance
    for result in conformance.check(conformance.Case(MyVariant(window_size=5))):
        print(result.law, result.broken or "holds")

From a shell: `python -m attention_variants.conformance --variant=my_module:MyVariant`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from attention_variants.conformance import controls, costs, decoding, extremes, layers, lowering, values
from attention_variants.conformance.inputs import Case, LawBroken

__all__ = ["LAWS", "Case", "LawBroken", "LawResult", "check"]

LAWS: dict[str, Callable[[Case], None]] = {
    law.__name__: law
    for law in (
        values.matches_definition,
        values.matches_definition_in_bfloat16,
        controls.controls_are_as_declared,
        controls.controls_read_their_own_token,
        controls.controls_are_learned,
        values.weights_follow_pattern,
        values.rotation_is_as_claimed,
        values.pattern_is_as_drawn,
        values.sees_only_pattern,
        decoding.decoding_equals_parallel,
        decoding.a_long_prefill_equals_parallel,
        decoding.caches_keep_their_form,
        values.limits_are_full_attention,
        values.padding_equals_truncation,
        values.masked_nan_stays_out,
        extremes.extremes_stay_finite,
        extremes.extremes_match_definition,
        extremes.closed_gates_match_definition,
        extremes.ties_are_decided_alike,
        values.grouped_heads_equal_repeated,
        costs.transformations_change_nothing,
        costs.growth_is_as_claimed,
        costs.cost_is_exact,
        costs.dtypes_are_explicit,
        lowering.lowers_for_accelerators,
        costs.numpy_arrays_are_taken,
        costs.equal_variants_do_not_retrace,
        costs.wrong_arguments_are_named,
        layers.paper_layer_decodes_and_pads,
    )
}


class LawResult(NamedTuple):
    """The outcome of one law."""

    law: str
    broken: str | None  # why it does not hold; None if it holds
    seconds: float


def check(case: Case, laws: Iterable[str] = tuple(LAWS)) -> Iterator[LawResult]:
    """Checks one case against the named laws, yielding each result as soon as it is known.

    A law that raises anything at all is broken: a variant that crashes does not conform.
    """
    for law in laws:
        start = time.perf_counter()
        try:
            LAWS[law](case)
            broken = None
        except LawBroken as error:
            broken = str(error)
        except Exception as error:  # whatever a variant under test throws
            broken = f"{type(error).__name__}: {' '.join(str(error).split())}"
        yield LawResult(law, broken, time.perf_counter() - start)
