"""Published numbers that follow from a task's generator, an attention pattern or a formula: nothing is trained."""

import math

import jax
import numpy as np

from attention_variants.interface import HeadSizes
from attention_variants.registry import make_variant
from experiments.analysis.receptive_field import share_within
from experiments.certificates.certificate import Certificate, Check, at_most, count, number, ordering
from experiments.tasks.formal.group_word import GroupWord
from experiments.tasks.formal.groups import make_group
from experiments.tasks.registry import make_task

_MQAR_TESTS = ((64, 4), (64, 8), (64, 16), (128, 32), (256, 64), (512, 128), (1024, 256))  # (length, pairs)
_MQAR_WINDOWS = {16: 0.145, 64: 0.514, 256: 0.797, 1024: 1.0}  # visible keys: accuracy, read off the figure
_BYTES = 4  # of a number


def _mqar_windows() -> list[Check]:
    tasks = [
        make_task(f"mqar:length={length},num_pairs={pairs},vocab_size=8192,random_fillers=true")
        for length, pairs in _MQAR_TESTS
    ]
    checks = []
    for window, published in _MQAR_WINDOWS.items():
        pattern = make_variant(f"sliding_window:window_size={window}").pattern
        shares = [share_within(pattern(task.input_length, task.input_length, True), task) for task in tasks]
        checks.append(number(f"{window} visible keys", published, float(np.mean(shares)), 0.005))
    return checks


def _state(spec: str, dim: int, length: int = 1024) -> int:
    variant = make_variant(spec)
    return variant.cost(length, length, HeadSizes(1, 1, dim, dim), True).cache_bytes


def _state_bytes() -> list[Check]:
    dim, length, feature = 128, 1024, 16
    features = 1 + feature + feature * (feature + 1) // 2
    return [
        count(
            f"attention, width {dim}, {length} tokens: 2 d L", _BYTES * 2 * dim * length, _state("full", dim, length)
        ),
        count(f"window of 8, width {dim}: 2 d w", _BYTES * 2 * dim * 8, _state("sliding_window:window_size=8", dim)),
        count(f"delta rule, one head of {dim}: d_k d_v", _BYTES * dim * dim, _state("delta", dim)),
        count(
            f"Taylor features of {feature}, width {dim}: d_v D + D",
            _BYTES * features * (dim + 1),
            _state(f"taylor:feature_dim={feature}", dim),
        ),
    ]


def _list_ops() -> list[Check]:
    floors = make_task("listops:min_length=500,max_length=2000").floors()
    return [number("the best guess from the operator at the root", 0.3637, floors["read the root's operator"], 0.01)]


def _layers_to_see_all(spec: str, length: int) -> int:
    """Returns how many layers it takes until the last token can depend on every one before it."""
    one = make_variant(spec).pattern(length, length, True).astype(np.int64)
    reach, layers = one, 1
    while not reach[-1].all():
        reach, layers = ((reach @ one) > 0).astype(np.int64), layers + 1
    return layers


def _sparse() -> list[Check]:
    return [
        count(f"{name}, 256 tokens, blocks of 16: layers", 2, _layers_to_see_all(spec, 256))
        for name, spec in (
            ("strided", "strided_sparse:stride=16"),
            ("fixed", "fixed_sparse:block_size=16,num_summary=1"),
        )
    ]


def _log_sparse() -> list[Check]:
    layers = {length: _layers_to_see_all("log_sparse:window_size=1", length) for length in (64, 256)}
    return [at_most(f"layers for {length} tokens", length.bit_length(), found) for length, found in layers.items()]


def _windows() -> list[Check]:
    window, layers, length = 16, 5, 128
    pattern = make_variant(f"sliding_window:window_size={window}").pattern(length, length, True).astype(np.int64)
    seen = int((np.linalg.matrix_power(pattern, layers)[-1] > 0).sum())
    return [
        number(f"tokens within reach of {layers} windows of {window}", layers * window, seen, layers, 0),
        count("that, less the query, which every further layer counts again", layers * (window - 1) + 1, seen),
    ]


def _growth() -> list[Check]:
    def exponent(spec: str) -> float:
        variant = make_variant(spec)
        short, long = (variant.cost(n, n, HeadSizes(4, 4, 64, 64), True).ideal_flops for n in (2**14, 2**18))
        return math.log(long / short) / math.log(16)

    linear = ("sliding_window:window_size=128", "linear", "gated_linear", "state_space", "gated_delta")
    return [
        number(f"exponent of {spec}", 2.0 if spec == "full" else 1.0, exponent(spec), 0.02)
        for spec in ("full", *linear)
    ]


def _groups() -> list[Check]:
    orders = {"S3": 6, "S4": 24, "A5": 60, "S5": 120, "Z60": 60}
    moves = {"the identity and the swaps of S5": (2, 11), "those and the rotations of three": (3, 31)}
    return [
        *(count(f"elements of {name}", order, len(make_group(name).images)) for name, order in orders.items()),
        *(
            count(name, number_of, len(GroupWord(group="S5", most_moved=most).allowed))
            for name, (most, number_of) in moves.items()
        ),
    ]


def _adding() -> list[Check]:
    task = make_task("adding:length=200")
    targets = np.asarray(jax.jit(lambda key: task.sample(key, 2**16).targets)(jax.random.key(0)))
    return [
        number("by its formula", 0.167, min(task.loss_floors().values()), 0.0005),
        number("over 65,536 rows", 0.167, float(np.mean((targets - 1.0) ** 2)), 0.002),
    ]


def _markov() -> list[Check]:
    floors = make_task("markov_icl").loss_floors()
    uniform, unigram = floors["answer uniformly"], floors["answer with the counts of all symbols so far"]
    return [
        ordering(
            "divergence from the posterior of bigrams: uniform, unigram",
            "falling, above 0",
            f"{uniform:.3f}, {unigram:.3f}",
            uniform > unigram > 0,
        )
    ]


CERTIFICATES = (
    Certificate(
        name="mqar_window_ceiling",
        claim="In the recall-memory figure a sliding window scores the share of queries whose value it sees.",
        source="Arora et al. 2024, arXiv:2402.18668, figure 2",
        configuration="MQAR, vocabulary 8192, random fillers, mean over seven test sets from 64 to 1024 tokens; the "
        "share in drawn rows. Published values are read off the figure.",
        checks=_mqar_windows,
    ),
    Certificate(
        name="recall_state_bytes",
        claim="Attention keeps 2 d L numbers, a window 2 d w, the delta rule d_k d_v, Taylor features d_v D + D.",
        source="Arora et al. 2024, arXiv:2402.18668, section 3",
        configuration="One head of width 128, float32; the cache of one sequence, short convolution apart.",
        checks=_state_bytes,
    ),
    Certificate(
        name="listops_shortcut",
        claim="What a Transformer scores on ListOps, 36.37 %, takes no more than the operator at the root.",
        source="Tay et al. 2020, arXiv:2011.04006, table 1",
        configuration="Trees of 500 to 2000 tokens; the best guess from the operator at the root, on drawn trees. The "
        "score is theirs, the claim is ours; no Transformer is trained here.",
        checks=_list_ops,
    ),
    Certificate(
        name="sparse_two_layers",
        claim="With factorised patterns of sqrt(L) keys two layers connect every token to every earlier one.",
        source="Child et al. 2019, arXiv:1904.10509, section 4.2",
        configuration="Composition of the patterns, 256 tokens.",
        checks=_sparse,
    ),
    Certificate(
        name="log_sparse_depth",
        claim="LogSparse layers see every earlier token after floor(log2 L) + 1 of them.",
        source="Li et al. 2019, arXiv:1907.00235, theorem 1",
        configuration="Composition of the patterns, 256 tokens.",
        checks=_log_sparse,
    ),
    Certificate(
        name="window_reach",
        claim="Stacked windows of w keys see l w tokens after l layers.",
        source="Beltagy et al. 2020, arXiv:2004.05150, section 3.1",
        configuration="Composition of the patterns, 128 tokens; a layer adds w - 1, as a query sees itself.",
        checks=_windows,
    ),
    Certificate(
        name="cost_growth",
        claim="Softmax attention costs length^2, windows, linear attention and the delta rule cost length.",
        source="Vaswani et al. 2017, arXiv:1706.03762, table 1; Katharopoulos et al. 2020, arXiv:2006.16236, section 3",
        configuration="Exponent of the ideal FLOPs from 16,384 to 262,144 tokens, 4 heads of 64.",
        checks=_growth,
    ),
    Certificate(
        name="word_problem_sizes",
        claim="The word problems of S5 limited to swaps, and to swaps and rotations of three, have 11 and 31 inputs.",
        source="Grazzi et al. 2024, arXiv:2411.12537, section 5; Merrill et al. 2024, arXiv:2404.08819, section 5",
        configuration="Orders of the groups, and the elements that may be drawn.",
        checks=_groups,
    ),
    Certificate(
        name="adding_constant",
        claim="Answering 1 has a mean squared error of 0.167 in the adding problem.",
        source="Le et al. 2015, arXiv:1504.00941, section 4.1",
        configuration="Rows of 200 tokens.",
        checks=_adding,
    ),
    Certificate(
        name="markov_floors",
        claim="On Markov chains in context, unigram statistics beat a uniform guess and bigram statistics beat both.",
        source="Edelman et al. 2024, arXiv:2402.11004, section 3",
        configuration="The task's default: 3 symbols, 100 tokens; divergence from the Bayes posterior, of no model.",
        checks=_markov,
    ),
)
