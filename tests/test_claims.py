"""README.md and docs/studies.md say of the studies what the committed results say, sentence by sentence."""

import functools
import itertools
import pathlib
import re
import statistics
from collections.abc import Callable
from typing import NamedTuple

import pytest

from experiments.studies.results import read_study
from experiments.studies.rows import Row
from experiments.studies.rows import TestScore as Score

ROOT = pathlib.Path(__file__).parent.parent


class Scores:
    """The committed results of a study, by what the pages call its rows."""

    def __init__(self, name: str) -> None:
        self.study = read_study(ROOT / "results" / "reference" / name)

    def rows(self, attention: str = "", **where: str) -> list[Row]:
        """Returns the rows of an attention, with its fields or without, in which fields of the config begin so."""
        found = [row for row in self.study.rows if all(_field(row, key).startswith(v) for key, v in where.items())]
        specs = [row.attention.removeprefix("conv+") for row in found]
        if attention not in specs:
            specs = ["+".join(part.partition(":")[0] for part in spec.split("+")) for spec in specs]
        return [row for row, spec in zip(found, specs, strict=True) if attention in ("", spec)]

    def row(self, attention: str, **where: str) -> Row:
        """Returns the only such row."""
        (row,) = self.rows(attention, **where)
        return row

    def accuracy(self, attention: str, **where: str) -> float:
        return mean(self.row(attention, **where))

    def gap(self, attention: str, **where: str) -> float:
        """Returns how far below its ceiling a row is."""
        row = self.row(attention, **where)
        return (row.mean("ceiling") or 0.0) - mean(row)

    def bins(self, attention: str, name: str, **where: str) -> list[float]:
        """Returns the accuracy in every bin of a slice."""
        slices = self.row(attention, **where).slices(name)
        return [statistics.fmean(values) for values in zip(*(each["accuracy"] for each in slices), strict=True)]

    def test(self, attention: str, value: str, **where: str) -> Score:
        """Returns the test on other rows that is called so, such as "64", or whose spec begins so."""
        (found,) = [test for test in self.row(attention, **where).other_rows if test.key.value.startswith(value)]
        return found

    def at(self, attention: str, value: str, **where: str) -> float:
        """Returns the mean accuracy in that test."""
        return statistics.fmean(self.test(attention, value, **where).accuracies)


def _field(row: Row, key: str) -> str:
    """Returns a field of the config by the last part of its name, with an end that a prefix can ask for."""
    (value,) = [value for name, value in row.config.items() if name.split(".")[-1] == key]
    return f"{value};"


def mean(row: Row) -> float:
    assert row.accuracy is not None
    return row.accuracy.mean


def near(value: float | None, *shown: float) -> bool:
    """Whether a page may show `value` so, with two decimals."""
    return value is not None and all(abs(value - each) <= 0.005 + 1e-9 for each in shown)


class Claim(NamedTuple):
    """A piece of a page, word for word but for line breaks and links, and what must be true of a study then."""

    study: str
    quote: str
    holds: Callable[[Scores], bool]


# Tasks and tests on other rows, as far as it takes to tell them apart.
_FEW_HOPS = "variable_tracking:length=32,vocab_size=48,hops=2,num_chains=3,vary_hops=true"
_WRITTEN = f"{_FEW_HOPS},scratchpad=true"
_NEEDLES = "needle:vocab_size=160,num_keys=6,num_queries=6"
_MORE_DISTRACTORS, _UNSEEN_KEYS = f"{_NEEDLES},distractors=24", f"{_NEEDLES},distractors=8"
_LONG, _LONGEST = "161-320", "321-500"
_LANGUAGES = ("parity", "even_pairs", "cycle_navigation", "modular_arithmetic")
_MAD = ("in_context_recall", "noisy_recall", "fuzzy_recall", "memorization", "compression", "selective_copying")


def _below_the_best(s: Scores, row: Row) -> float:
    """How far the mean of `row` is below the best of its task."""
    return max(mean(other) for other in s.rows(task=_field(row, "task"))) - mean(row)


CLAIMS: dict[str, list[Claim]] = {}
CLAIMS["README.md"] = [
    Claim("quickstart", "Full attention solves the task", lambda s: s.row("full").solved == s.row("full").ended),
    Claim(
        "quickstart",
        "The window of 32 comes within 0.02 of its ceiling",
        lambda s: 0 <= s.gap("sliding_window") < 0.02,
    ),
    Claim(
        "quickstart",
        "Linear attention sees everything and still falls short",
        lambda s: s.row("linear").mean("ceiling") == 1 and s.accuracy("linear") < s.accuracy("full") - 0.1,
    ),
    Claim(
        "quickstart",
        "in a seventh of the decoding state",
        lambda s: round(s.row("full").values("cache_bytes")[0] / s.row("linear").values("cache_bytes")[0]) == 7,
    ),
    Claim(
        "quickstart",
        "The hybrid of the two nearly closes the gap",
        lambda s: 0 < s.accuracy("full") - s.accuracy("sliding_window+linear") < 0.02,
    ),
]
CLAIMS["docs/studies.md"] = [
    Claim(
        "mqar",
        "The score of the window falls with its ceiling.",
        lambda s: all(
            mean(longer) < mean(row) and longer.mean("ceiling") < row.mean("ceiling")
            for row, longer in itertools.pairwise(sorted(s.rows("sliding_window"), key=lambda r: r.task.train_length))
        ),
    ),
    Claim("lost_in_the_middle", "Full attention finds every needle.", lambda s: min(s.bins("full", "depth")) > 0.99),
    Claim(
        "lost_in_the_middle",
        "comes within 0.01 of its ceiling",
        lambda s: 0 <= s.gap("sink_window") < 0.01,
    ),
    Claim(
        "lost_in_the_middle",
        "`retention` keeps what is recent",
        lambda s: s.bins("retention", "depth")[-1] > s.bins("retention", "depth")[0] + 0.1,
    ),
    Claim(
        "lost_in_the_middle",
        "`linear` has no preferred depth",
        lambda s: max(s.bins("linear", "depth")) - min(s.bins("linear", "depth")) < 0.05,
    ),
    Claim(
        "dilution",
        "0.98 with no distractors and with 24",
        lambda s: near(s.bins("full", "distractors")[0], 0.98) and near(s.at("full", _MORE_DISTRACTORS), 0.98),
    ),
    Claim(
        "dilution",
        "`gated_linear` falls from 0.57 to 0.17",
        lambda s: (
            near(s.bins("gated_linear", "distractors")[0], 0.57) and near(s.at("gated_linear", _MORE_DISTRACTORS), 0.17)
        ),
    ),
    Claim(
        "dilution",
        "`topk` and the window reach 0.11 and 0.12, just above the floor of 0.09",
        lambda s: (
            near(s.at("topk", _UNSEEN_KEYS), 0.11)
            and near(s.at("sliding_window", _UNSEEN_KEYS), 0.12)
            and near(s.test("topk", _UNSEEN_KEYS).floor, 0.09)
            and all(
                test.accuracies and statistics.fmean(test.accuracies) < 0.13
                for row in s.rows()
                for test in row.other_rows[1:]
            )
        ),
    ),
    Claim(
        "scratchpad",
        "every model predicts the next step over two hops (0.99)",
        lambda s: all(near(mean(row), 0.99) or mean(row) > 0.99 for row in s.rows(task=f"{_WRITTEN};")),
    ),
    Claim(
        "scratchpad",
        "no model reaches the floor of 0.64",
        lambda s: (
            all(mean(row) < row.mean("floor") for row in s.rows(task=f"{_FEW_HOPS};"))
            and all(near(row.mean("floor"), 0.64) for row in s.rows(task=f"{_FEW_HOPS};"))
        ),
    ),
    Claim(
        "scratchpad",
        "One layer of full attention always answers the questions that need no hop.",
        lambda s: s.bins("full", "hops", task=f"{_FEW_HOPS};")[0] > 0.995,
    ),
    Claim(
        "extrapolation",
        "With randomized positions full attention keeps 0.86 at 64 tokens and 0.54 at 128",
        lambda s: (
            near(s.at("full", "64", position="randomized"), 0.86)
            and near(s.at("full", "128", position="randomized"), 0.54)
        ),
    ),
    Claim(
        "extrapolation",
        "with ALiBi 0.60 and 0.29",
        lambda s: (
            near(s.at("full", "64", position="alibi"), 0.60) and near(s.at("full", "128", position="alibi"), 0.29)
        ),
    ),
    Claim(
        "extrapolation",
        "with T5's bias 0.35 and 0.18",
        lambda s: near(s.at("full", "64", position="t5"), 0.35) and near(s.at("full", "128", position="t5"), 0.18),
    ),
    Claim(
        "extrapolation",
        "no positions give 0.24 and learned ones 0.19, above the floor of 0.16; sinusoids and rotations give 0.10 and "
        "0.07",
        lambda s: (
            near(s.at("full", "64", position="none"), 0.24)
            and near(s.at("full", "64", position="learned"), 0.19)
            and near(s.test("full", "64", position="none").floor, 0.16)
            and near(s.at("full", "64", position="sinusoidal"), 0.10)
            and near(s.at("full", "64", position="rope;"), 0.07)
        ),
    ),
    Claim(
        "bottleneck",
        "Attention and a linear state recall four pairs over 256 tokens (1.00 and 0.95).",
        lambda s: (
            near(s.accuracy("full", task="mqar:length=256"), 1.0)
            and near(s.accuracy("linear", task="mqar:length=256"), 0.95)
        ),
    ),
    Claim(
        "bottleneck",
        "LSTM and GRU do not learn the task in 800 steps at any length, not even at 16 tokens",
        lambda s: all(mean(row) < 0.9 and row.mean("steps") == 800 for name in ("lstm", "gru") for row in s.rows(name)),
    ),
    Claim(
        "state_tracking",
        "The LSTM keeps parity and even pairs to 500 symbols (1.00 each).",
        lambda s: all(near(s.at("lstm", _LONGEST, task=task), 1.0) for task in ("parity", "even_pairs")),
    ),
    Claim(
        "state_tracking",
        "`gated_delta` keeps even pairs to 160 symbols (1.00) and reaches 0.89 at 321 to 500",
        lambda s: (
            near(s.at("gated_delta", "81-160", task="even_pairs"), 1.0)
            and near(s.at("gated_delta", _LONGEST, task="even_pairs"), 0.89)
        ),
    ),
    Claim(
        "state_tracking",
        "Full attention stays at the floor in parity (0.53)",
        lambda s: near(s.accuracy("full", task="parity"), 0.53),
    ),
    Claim(
        "state_tracking",
        "past 80 symbols it is at the floor in all four languages",
        lambda s: all(
            s.at("full", test, task=task) < s.test("full", test, task=task).floor + 0.03
            for task in _LANGUAGES
            for test in ("81-160", _LONG, _LONGEST)
        ),
    ),
    Claim(
        "state_tracking",
        "No model learns modular arithmetic in 1000 steps.",
        lambda s: all(mean(row) < 0.4 for row in s.rows(task="modular_arithmetic")),
    ),
    Claim(
        "negative_eigenvalues",
        "`delta` answers every string of up to 256 symbols (1.00 in all three seeds)",
        lambda s: (
            min(s.test("delta:max_strength=2", "161-256").accuracies) > 0.995
            and s.row("delta:max_strength=2").ended == 3
        ),
    ),
    Claim(
        "negative_eigenvalues",
        "So does `gated_delta` up to 160 symbols, and its best seed up to 256",
        lambda s: (
            min(s.test("gated_delta:max_strength=2", "81-160").accuracies) > 0.995
            and max(s.test("gated_delta:max_strength=2", "161-256").accuracies) > 0.995
        ),
    ),
    Claim(
        "negative_eigenvalues",
        "`kimi_delta` solves the lengths of training, and loses longer strings in two of three seeds",
        lambda s: (
            s.row("kimi_delta:max_strength=2").solved == 3
            and sorted(each > 0.995 for each in s.test("kimi_delta:max_strength=2", "161-256").accuracies)
            == [False, False, True]
        ),
    ),
    Claim(
        "negative_eigenvalues",
        "no delta rule rises above chance beyond 40 symbols",
        lambda s: all(
            max(s.test(name, test).accuracies) < 0.6
            for name in ("delta", "gated_delta", "kimi_delta")
            for test in ("41-80", "81-160", "161-256")
        ),
    ),
    Claim(
        "negative_eigenvalues",
        "do not even learn the strings of training (0.51 each)",
        lambda s: near(s.accuracy("delta"), 0.51) and near(s.accuracy("gated_delta"), 0.51),
    ),
    Claim(
        "mad",
        "One layer of full attention is best in five of six tasks, and 0.013 below the best in selective copying",
        lambda s: [round(_below_the_best(s, s.row("full", task=task)), 3) for task in _MAD] == [0, 0, 0, 0, 0, 0.013],
    ),
    Claim(
        "mad",
        "`delta` comes closest (0.64 against 0.95 in fuzzy recall)",
        lambda s: (
            near(s.accuracy("delta", task="fuzzy"), 0.64)
            and near(s.accuracy("full", task="fuzzy"), 0.95)
            and s.accuracy("delta", task="fuzzy")
            == max(mean(row) for row in s.rows(task="fuzzy") if "full" not in row.attention)
        ),
    ),
    Claim(
        "mad",
        "In-context and noisy recall are solved by all but `linear` with noise (0.86) and the window, which stays "
        "close to its ceiling.",
        lambda s: (
            near(s.accuracy("linear", task="noisy"), 0.86)
            and all(
                mean(row) > 0.97
                for task in ("in_context", "noisy")
                for row in s.rows(task=task)
                if "window" not in row.attention and not ("conv+linear" in row.attention and task == "noisy")
            )
            and all(0 <= s.gap("sliding_window", task=task) < 0.04 for task in ("in_context", "noisy"))
        ),
    ),
    Claim(
        "mad",
        "Memorization needs no attention.",
        lambda s: all(mean(row) > 0.95 for row in s.rows(task="memorization")),
    ),
    Claim(
        "mad",
        "No model learns compression in 600 steps (at most 0.21).",
        lambda s: near(max(mean(row) for row in s.rows(task="compression")), 0.21),
    ),
    Claim(
        "cross_attention",
        "In translation all six kinds are above 0.95.",
        lambda s: len(s.rows(task="translation")) == 6 and all(mean(row) > 0.95 for row in s.rows(task="translation")),
    ),
    Claim(
        "cross_attention",
        "In naming shapes in an image, full attention (0.95) and the best four keys (0.92) lead.",
        lambda s: (
            near(s.accuracy("full", task="captioning", cross_attention="full"), 0.95)
            and near(s.accuracy("full", task="captioning", cross_attention="topk"), 0.92)
            and sorted(mean(row) for row in s.rows(task="captioning"))[-3] < 0.9
        ),
    ),
    Claim(
        "vision",
        "`linformer`, which mixes positions by learned weights that do not depend on the content, learns fastest (0.77 "
        "after 1500 steps); full attention stands at 0.65, and a window in raster order is below the floor.",
        lambda s: (
            near(s.accuracy("linformer"), 0.77)
            and s.row("linformer").mean("steps") == 1500
            and mean(s.rows()[0]) == s.accuracy("linformer")
            and near(s.accuracy("full"), 0.65)
            and s.accuracy("sliding_window") < (s.row("sliding_window").mean("floor") or 0.0)
        ),
    ),
    Claim(
        "catalogue",
        "On recall of 8 pairs nine causal variants reach 0.99: `full`, `topk`, `native_sparse`, `forgetting`, "
        "`softmax_sink`, `differential`, `taylor`, `rwkv6` and `delta`.",
        lambda s: (
            {
                row.attention.removeprefix("conv+").partition(":")[0]
                for row in s.rows(task="mqar", bidirectional="False")
                if mean(row) >= 0.99
            }
            == {
                "full",
                "topk",
                "native_sparse",
                "forgetting",
                "softmax_sink",
                "differential",
                "taylor",
                "rwkv6",
                "delta",
            }
        ),
    ),
    Claim(
        "catalogue",
        "`kimi_delta` 0.959, `full` 0.940, `delta` 0.940; `gated_delta` 0.945 and 0.074 on its two seeds",
        lambda s: (
            near(s.accuracy("kimi_delta", task="selective"), 0.959)
            and near(s.accuracy("delta", task="selective"), 0.940)
            and near(s.accuracy("full", task="selective", bidirectional="False"), 0.940)
        ),
    ),
]

_INDUCTION, _RECALL, _ONE, _FOUR = "induction", "mqar", "1;", "4;"
CLAIMS["docs/studies.md"] += [
    Claim(
        "head_specialisation",
        "Full attention solves both tasks in every seed.",
        lambda s: len(s.rows("full")) == 4 and all(row.solved == row.ended == 3 for row in s.rows("full")),
    ),
    Claim(
        "head_specialisation",
        "on induction to step 500 in place of 350, on recall to 200 in place of 150.",
        lambda s: (
            [
                s.row("full", task=task, num_heads=heads).steps_to_solve
                for task in (_INDUCTION, _RECALL)
                for heads in (_FOUR, _ONE)
            ]
            == [500, 350, 200, 150]
        ),
    ),
    Claim(
        "head_specialisation",
        "A window of 8 reaches its ceiling on recall (0.54) and learns nothing on induction.",
        lambda s: (
            near(s.accuracy("sliding_window", task=_RECALL, num_heads=_ONE), 0.54)
            and all(abs(s.gap("sliding_window", task=_RECALL, num_heads=heads)) < 0.02 for heads in (_ONE, _FOUR))
            and all(mean(row) < (row.mean("floor") or 0) for row in s.rows("sliding_window", task=_INDUCTION))
        ),
    ),
    Claim(
        "head_specialisation",
        "Linear attention recalls with one head (0.99) and not with four (0.39), which have a quarter of the state; on "
        "induction it gets to 0.22 at best.",
        lambda s: (
            near(s.accuracy("linear", task=_RECALL, num_heads=_ONE), 0.99)
            and near(s.accuracy("linear", task=_RECALL, num_heads=_FOUR), 0.39)
            and near(max(mean(row) for row in s.rows("linear", task=_INDUCTION)), 0.22)
        ),
    ),
    Claim(
        "head_specialisation",
        "The delta rule stays at the floor of both.",
        lambda s: all(mean(row) < (row.mean("floor") or 0) + 0.01 for row in s.rows("delta")),
    ),
]


def plain(page: str) -> str:
    """Returns what a page says, without links, tables, pictures and line breaks."""
    text = re.sub(r"<!-- (\w+): begin -->.*?<!-- \1: end -->", "", (ROOT / page).read_text(), flags=re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text).replace("**", "")
    return " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).split())


@functools.cache
def scores(study: str) -> Scores:
    return Scores(study)


@pytest.mark.parametrize(
    ("page", "claim"),
    [pytest.param(page, claim, id=claim.quote[:50]) for page, claims in CLAIMS.items() for claim in claims],
)
def test_what_a_page_claims_is_so(page: str, claim: Claim) -> None:
    assert claim.quote in plain(page), "the page says something else: change the claim with it"
    assert claim.holds(scores(claim.study)), "the results say something else: change the page"


def test_every_number_of_the_studies_is_claimed() -> None:
    text = plain("docs/studies.md")
    for claim in CLAIMS["docs/studies.md"]:
        text = text.replace(claim.quote, "")
    text = re.sub(r"jax [\d.]+|Python [\d.]+|rates? 0\.\d+|against 0\.\d+ by", "", text)
    assert re.findall(r"[^.]*\b[01]\.\d+[^.]*", text) == []
