"""Each law catches the mistake it is meant for: bugs are planted into real variants, one at a time."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import pytest

from attention_variants.conformance import LAWS, Case, LawBroken
from attention_variants.conformance.inputs import Picture
from attention_variants.engines import block_softmax, linear_recurrence
from attention_variants.engines.cached_softmax import Reach
from attention_variants.families import static_pattern
from attention_variants.interface import AttentionVariant
from attention_variants.surroundings import Convolution, OutputGate, TokenShift
from attention_variants.variants import strided_sparse
from attention_variants.variants.sliding_window import SlidingWindowAttention
from attention_variants.variants.state_space import Discretisation
from tests.attention_variants.conformance.broken_variants import (
    DELTA_PRODUCT,
    DIFFERENTIAL,
    GATED_DELTA,
    LINEAR,
    LSH,
    RWKV,
    STATE_SPACE,
    STRIDED,
    TOP_K,
    WINDOW,
    AcceptsAnyControls,
    AcceptsAnyMaxLength,
    AsksPython,
    BoastsOfAnotherState,
    BoastsOfIdealCost,
    BoastsOfRelativeRope,
    BothSides,
    CacheOfEqualWidths,
    CapsLogits,
    ClaimsSubquadratic,
    ControlsOfAContext,
    ControlsOfOneToken,
    CostOfEqualWidths,
    CostOfFloatsOnly,
    CostOfHalfACache,
    CostWithoutNormaliser,
    DeclaresNoControls,
    DeclaresOtherControls,
    DeclaresTheStateOfFull,
    DeniesRelativeRope,
    DescribesItsState,
    FeaturesOfMaskedKeys,
    FlopsOfEqualWidths,
    ForgetsThePast,
    IgnoresBias,
    IgnoresControls,
    IgnoresMask,
    KeepsMaskedControls,
    KeepsMaskedValues,
    LastOfEqualKeys,
    LinearBothSides,
    MakesAnIdleParameter,
    MixesTheBatch,
    NarrowerWindow,
    NeedsJaxArrays,
    NeverForgetsAll,
    NoMaximum,
    NotNormalised,
    OneBufferTwice,
    OneLength,
    OnlyOnCpu,
    OutputOfHeadDim,
    PromotesItsOutput,
    QuadraticMemory,
    ReadsLessThanItShows,
    RoundedPositions,
    SeesTheFuture,
    ShortCache,
    ShowsTheFuture,
    SkipsFurtherSteps,
    StuckCounter,
    SumsItsWrites,
    TilesHeads,
    TurnsHalvesUnlike,
    WeightsOutsidePattern,
    WidensItsCache,
    WiderWindow,
    Window,
    WithoutEquality,
    reads_ahead,
)


def constant_normaliser(patch: pytest.MonkeyPatch) -> None:
    """The famous one: no forward check sees it."""
    divide = linear_recurrence._divide
    patch.setattr(linear_recurrence, "_divide", lambda out, sums: divide(out, jax.lax.stop_gradient(sums)))


def softmax_without_normaliser_gradient(patch: pytest.MonkeyPatch) -> None:
    """The term d out . out of the backward pass is left out."""

    def backward(plan: Any, saved: Any, cotangents: Any) -> Any:
        *arguments, out, log_normaliser = saved
        return block_softmax._attention_backward(plan, (*arguments, 0 * out, log_normaliser), cotangents)

    planted = jax.custom_vjp(block_softmax._attention.__wrapped__, nondiff_argnums=(0,))
    planted.defvjp(block_softmax._attention_forward, backward)
    patch.setattr(block_softmax, "_attention", planted)


def merge_without_normaliser_gradient(patch: pytest.MonkeyPatch) -> None:
    merge, stop = strided_sparse.merge, jax.lax.stop_gradient
    patch.setattr(
        strided_sparse, "merge", lambda first, second: merge((first[0], stop(first[1])), (second[0], stop(second[1])))
    )


def strip_without_its_first_key(patch: pytest.MonkeyPatch) -> None:
    # `last` is one key more than what a window sees.
    patch.setattr(static_pattern, "Reach", lambda first, last: Reach(first, last - 2))


class Bug(NamedTuple):
    """A broken variant, or a sound one and what to patch; the law that must notice, and what it must say."""

    law: str
    sound: AttentionVariant
    broken: type[AttentionVariant] | Callable[[pytest.MonkeyPatch], None]
    says: str
    length: int = 19


SLOW = {
    IgnoresMask,
    ForgetsThePast,
    QuadraticMemory,
    MixesTheBatch,
    merge_without_normaliser_gradient,
}
BUGS = [
    Bug("sees_only_pattern", WINDOW, WiderWindow, r"may not see it: \[\[0, 5\], \[1, 6\]"),
    Bug("sees_only_pattern", WINDOW, SeesTheFuture, r"may not see it: \[\[1, 0\], \[2, 1\]"),
    Bug("matches_definition", WINDOW, NarrowerWindow, r"differs by .* of the largest entry"),
    Bug("matches_definition", WINDOW, OutputOfHeadDim, r"output must be \(4, 19, 6, 7\); got \(4, 19, 6, 5\)"),
    Bug("matches_definition", WINDOW, TilesHeads, r"gradients\)\[0\]: differs"),
    Bug("matches_definition", WINDOW, softmax_without_normaliser_gradient, r"gradients\)\[1\].*query: differs"),
    Bug("matches_definition", LINEAR, constant_normaliser, r"gradients\)\[1\].*query: differs"),
    Bug("matches_definition", STRIDED, merge_without_normaliser_gradient, r"gradients\)\[1\].*query: differs"),
    Bug("matches_definition", DELTA_PRODUCT, SkipsFurtherSteps, r"differs by .* of the largest entry"),
    Bug("matches_definition_in_bfloat16", WINDOW, RoundedPositions, r"differs by .* at most 4e-02", length=509),
    Bug("weights_follow_pattern", WINDOW, ShowsTheFuture, "the causal pattern shows the future"),
    Bug("weights_follow_pattern", WINDOW, WeightsOutsidePattern, "dense_weights is not zero outside pattern"),
    Bug("weights_follow_pattern", LINEAR, ReadsLessThanItShows, r"zero at pairs that pattern permits: \[\[4, 0\]"),
    Bug("weights_follow_pattern", DELTA_PRODUCT, SumsItsWrites, r"ending in \(19, 38\); got \(4, 6, 19, 19\)"),
    Bug(
        "weights_follow_pattern",
        LINEAR,
        NotNormalised,
        "rows must sum to 1; got 1.99|rows must sum to 1; got 2.0",
    ),
    Bug("rotation_is_as_claimed", LINEAR, BoastsOfRelativeRope, "is True; moving RoPE's positions moved .*e[-+]0[012]"),
    Bug("rotation_is_as_claimed", WINDOW, DeniesRelativeRope, "is False; moving RoPE's positions moved .*e-0[67]"),
    Bug(
        "rotation_is_as_claimed",
        DIFFERENTIAL,
        TurnsHalvesUnlike,
        "is True; moving RoPE's positions moved .*e[-+]0[012]",
    ),
    Bug("decoding_equals_parallel", WINDOW, ShortCache, "decoding in one token at a time: differs"),
    Bug("decoding_equals_parallel", LINEAR, ForgetsThePast, "decoding in one token at a time: differs"),
    Bug("decoding_equals_parallel", LINEAR, StuckCounter, "extending a full cache must raise ValueError"),
    Bug("a_long_prefill_equals_parallel", WINDOW, strip_without_its_first_key, "a prefill of 653 tokens: differs"),
    Bug("caches_keep_their_form", WINDOW, OneBufferTwice, "`key` and `value` of a fresh cache are one buffer"),
    Bug("caches_keep_their_form", LINEAR, WidensItsCache, "extended by float64 tokens, `memory` is float64"),
    Bug("wrong_arguments_are_named", LINEAR, AcceptsAnyMaxLength, "a cache for no token must raise ValueError"),
    Bug(
        "padding_equals_truncation",
        BothSides(block_size=8),
        IgnoresMask,
        r"padding, causal=False.*differs",
    ),
    Bug(
        "padding_equals_truncation",
        LinearBothSides(),
        FeaturesOfMaskedKeys,
        r"padding, causal=False.*differs",
    ),
    Bug("masked_nan_stays_out", WINDOW, KeepsMaskedValues, "NaN behind the mask, causal=True.*not finite"),
    Bug("masked_nan_stays_out", STATE_SPACE, KeepsMaskedControls, "NaN behind the mask, causal=True.*not finite"),
    Bug("extremes_stay_finite", WINDOW, NoMaximum, r"queries and keys at -30, .* not finite"),
    Bug("extremes_match_definition", WINDOW, CapsLogits, r"1e6 times as large, causal=True.*\[0\]: differs"),
    Bug("closed_gates_match_definition", STATE_SPACE, NeverForgetsAll, r"log_decay of -inf, causal=True.*differs"),
    Bug("ties_are_decided_alike", TOP_K, LastOfEqualKeys, "keys of period 5, causal=True.*differs"),
    Bug("grouped_heads_equal_repeated", WINDOW, TilesHeads, r"grouped heads, causal=True\[0\]: differs"),
    Bug("transformations_change_nothing", LINEAR, MixesTheBatch, r"vmap, .*\[0\]: differs"),
    Bug("growth_is_as_claimed", LINEAR, ClaimsSubquadratic, r"to 16384 FLOPs grow \d\d\.\d\d times .* less than 12.17"),
    Bug("growth_is_as_claimed", LINEAR, QuadraticMemory, r"temporaries grow 6"),
    Bug(
        "cost_is_exact",
        LINEAR,
        CostWithoutNormaliser,
        r"cost\(\) says \d+ executed FLOPs; the counter finds \d+",
    ),
    Bug("cost_is_exact", WINDOW, CostOfHalfACache, r"cost\(\) says \d+ cache bytes; init_cache holds \d+"),
    Bug("cost_is_exact", LSH, CostOfFloatsOnly, r"cost\(\) says 2736 cache bytes; init_cache holds 3192"),
    Bug("cost_is_exact", WINDOW, CostOfEqualWidths, r"cost\(\) says 600 cache bytes; init_cache holds 720"),
    Bug("cost_is_exact", WINDOW, CacheOfEqualWidths, r"cost\(\) says 720 cache bytes; init_cache holds 600"),
    Bug("cost_is_exact", LINEAR, FlopsOfEqualWidths, r"cost\(\) says \d+ executed FLOPs; the counter finds"),
    Bug("cost_is_exact", WINDOW, BoastsOfAnotherState, r"grows 2.00 times with head_dim, and the cache 1.50 times"),
    Bug("cost_is_exact", WINDOW, DescribesItsState, "is no formula of sizes and fields: invalid syntax"),
    Bug("cost_is_exact", WINDOW, DeclaresTheStateOfFull, r"grows 8.00 times with length, and the cache 1.00 times"),
    Bug("cost_is_exact", WINDOW, BoastsOfIdealCost, r"cost\(\) says 0 ideal FLOPs"),
    Bug("dtypes_are_explicit", WINDOW, PromotesItsOutput, "causal=True: Input dtypes"),
    Bug("lowers_for_accelerators", WINDOW, OnlyOnCpu, "gradient, causal=True, does not lower .*: .*'eig' not found"),
    Bug("lowers_for_accelerators", WINDOW, AsksPython, "does not lower for cuda and tpu: .*python_callback"),
    Bug("numpy_arrays_are_taken", WINDOW, NeedsJaxArrays, "raises AttributeError: 'numpy.ndarray' object has no"),
    Bug("equal_variants_do_not_retrace", WINDOW, WithoutEquality, "equal fields must make equal variants"),
    Bug("wrong_arguments_are_named", LINEAR, IgnoresBias, "bias must raise NotImplementedError"),
    Bug("controls_are_as_declared", STATE_SPACE, DeclaresNoControls, "has_controls is False; got Discretisation"),
    Bug(
        "controls_are_as_declared",
        STATE_SPACE,
        DeclaresOtherControls,
        "must return .* DeltaControls; got StateSpaceC",
    ),
    Bug("controls_are_as_declared", STATE_SPACE, ControlsOfAContext, r"must begin with \[batch 4 or 1, length 1\]"),
    Bug("controls_are_as_declared", STATE_SPACE, ControlsOfOneToken, r"log_decay must begin with \[batch 4 or 1"),
    Bug(
        "controls_read_their_own_token", STATE_SPACE, reads_ahead(Discretisation), "tokens from 0 to 16 alone.*differs"
    ),
    Bug("controls_are_learned", STATE_SPACE, MakesAnIdleParameter, r"these parameters of Discretisation: \['idle'\]"),
    Bug(
        "wrong_arguments_are_named",
        STATE_SPACE,
        AcceptsAnyControls,
        "controls of another type must raise ValueError; got Attr",
    ),
    Bug("wrong_arguments_are_named", LINEAR, IgnoresControls, "controls must raise NotImplementedError"),
    Bug("paper_layer_decodes_and_pads", GATED_DELTA, reads_ahead(OutputGate), "(padding|decoding).*: differs"),
    Bug("paper_layer_decodes_and_pads", RWKV, reads_ahead(TokenShift), "(padding|decoding).*: differs"),
    Bug("paper_layer_decodes_and_pads", GATED_DELTA, reads_ahead(Convolution), "(padding|decoding).*: differs"),
]


sound_case = functools.lru_cache(OneLength)  # whose programs the laws share


@functools.lru_cache
def check_holds(law: str, variant: AttentionVariant, length: int) -> None:
    LAWS[law](sound_case(variant, length))


@pytest.mark.slow
@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, id=f"{bug.law}-{bug.broken.__name__}", marks=pytest.mark.slow if bug.broken in SLOW else ())
        for bug in BUGS
    ],
)
def test_planted_bug_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    check_holds(bug.law, bug.sound, bug.length)
    variant = bug.sound
    if isinstance(bug.broken, type):
        fields = {field.name: getattr(variant, field.name) for field in dataclasses.fields(variant)}
        variant = bug.broken(**fields) if issubclass(bug.broken, type(variant)) else bug.broken()
    else:
        bug.broken(monkeypatch)
    with pytest.raises(LawBroken, match=bug.says):
        LAWS[bug.law](OneLength(variant, bug.length))


@pytest.mark.slow
def test_the_edges_of_blocks_are_compared_in_both_modes() -> None:
    class WrongWhereWindowsEnd(SlidingWindowAttention):
        def _attend(self, query, key, value, *, causal, **options):
            out = super()._attend(query, key, value, causal=causal, **options)
            return out if causal or query.shape[1] % self.window_size else 1.5 * out

    with pytest.raises(LawBroken, match="8 queries, 8 keys, causal=False, masked=False.*differs"):
        LAWS["matches_definition"](Case(WrongWhereWindowsEnd(window_size=8), 19))


def test_the_limit_must_be_full_attention() -> None:
    short = OneLength(WINDOW, 19, limit=Window(window_size=18))
    LAWS["limits_are_full_attention"](dataclasses.replace(short, limit=Window(window_size=19)))
    with pytest.raises(LawBroken, match="limit, causal=True: differs"):
        LAWS["limits_are_full_attention"](short)


def test_a_picture_catches_what_is_wrong_in_both_texts() -> None:
    """A pattern and its pieces that agree on a wrong window pass every other law."""

    class WiderTwice(WiderWindow):
        def pattern(self, query_length, key_length, causal):
            return self.block_pattern(query_length, key_length, causal).matrix(query_length, key_length)

    drawing = "1 . . .\n1 1 . .\n. 1 1 .\n. . 1 1"
    LAWS["pattern_is_as_drawn"](OneLength(WINDOW, 19, picture=Picture(Window(window_size=2), drawing)))
    with pytest.raises(LawBroken, match=r"differs from the picture at \[query, key\] \[\[2, 0\], \[3, 1\]\]"):
        LAWS["pattern_is_as_drawn"](OneLength(WINDOW, 19, picture=Picture(WiderTwice(window_size=2), drawing)))


def test_every_law_catches_something() -> None:
    elsewhere = {"limits_are_full_attention", "pattern_is_as_drawn"}
    assert {bug.law for bug in BUGS} | elsewhere == set(LAWS)
