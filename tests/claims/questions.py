"""What docs/studies.md says of the studies of questions about attention."""

from tests.claims.scores import Claim, Scores, mean, near

_NEW, _OLD = "facts:format=1,part=", "facts:part="
_BEFORE, _AFTER = {"task": "facts:format=0"}, {"task": "facts:format=1"}
_SWAPS, _S3 = "group_word:group=S5,most_moved=2", "group_word:group=S3"
_UNSEEN = "skill_pairs:pairs={},unseen=True"


def _range(s: Scores, kind: str) -> tuple[float, float]:
    scores = [s.at(row.attention, _UNSEEN.format(kind)) for row in s.rows()]
    return min(scores), max(scores)


def _floor(s: Scores, kind: str) -> float:
    return s.test("full", _UNSEEN.format(kind)).floor or 0.0


CLAIMS = [
    Claim(
        "novel_combinations",
        "Every model answers all trained pairings, and every model combines a map with an order that it "
        "never met: 0.99 with full attention, at the least 0.95.",
        lambda s: (
            all(near(mean(row), 1.0) for row in s.rows())
            and near(s.at("full", _UNSEEN.format("mixed")), 0.99)
            and near(_range(s, "mixed")[0], 0.95)
        ),
    ),
    Claim(
        "novel_combinations",
        "Two maps do not combine (0.16 to 0.28; the floor is 0.10), nor do two orders (0.31 to 0.36, "
        "under the floor of 0.51).",
        lambda s: (
            all(near(found, shown) for found, shown in zip(_range(s, "maps"), (0.16, 0.28), strict=True))
            and all(near(found, shown) for found, shown in zip(_range(s, "orders"), (0.31, 0.36), strict=True))
            and near(_floor(s, "maps"), 0.10)
            and near(_floor(s, "orders"), 0.51)
        ),
    ),
    Claim(
        "novel_combinations",
        "The chosen rate, 0.005, is the larger of the two tried; with the smaller one linear attention stands at 0.99 "
        "by validation and the others at 1.00.",
        lambda s: all(
            [rate for rate, _ in row.choices[0].curve] == [0.002, 0.005]
            and row.choices[0].value == 0.005
            and near(row.choices[0].curve[0][1], 0.99 if row.attention.startswith("linear") else 1.0)
            for row in s.rows()
        ),
    ),
    Claim(
        "fine_tuning",
        "facts that fine-tuning never asked for are answered in the new format (0.97) and still in the "
        "old one (1.00); a window of 8 does the same.",
        lambda s: (
            near(s.at("full", f"{_NEW}carried", **_AFTER), 0.97)
            and near(s.at("full", f"{_OLD}carried", **_AFTER), 1.0)
            and s.at("sliding_window", f"{_NEW}carried", **_AFTER) >= s.at("full", f"{_NEW}carried", **_AFTER)
            and near(s.at("sliding_window", f"{_OLD}carried", **_AFTER), 1.0)
        ),
    ),
    Claim(
        "fine_tuning",
        "both stood below the floor in the new format (0.11 and 0.14).",
        lambda s: (
            near(s.at("full", f"{_NEW}carried", **_BEFORE), 0.11)
            and near(s.at("sliding_window", f"{_NEW}carried", **_BEFORE), 0.14)
            and (s.test("full", f"{_NEW}carried", **_BEFORE).floor or 0) > 0.3
        ),
    ),
    Claim(
        "fine_tuning",
        "Facts of neither stage stay at the floor.",
        lambda s: all(
            s.at(name, f"{fmt}never", **stage) < (s.test(name, f"{fmt}never", **stage).floor or 0) + 0.01
            for name in ("full", "sliding_window", "linear")
            for fmt in (_NEW, _OLD)
            for stage in (_BEFORE, _AFTER)
        ),
    ),
    Claim(
        "fine_tuning",
        "on rows of the new format 0.84 of the weight of layer 2 goes to other keys where the answer is "
        "read, on rows of the old one 0.08.",
        lambda s: (
            near(s.moved("full, layer 2", "task"), 0.84) and near(s.moved("full, layer 2", "pretrain.task"), 0.08)
        ),
    ),
    Claim(
        "fine_tuning",
        "Linear attention learns what it is fine-tuned on (1.00)",
        lambda s: near(s.accuracy("linear", **_AFTER), 1.0),
    ),
    Claim(
        "fine_tuning",
        "it answers 0.11 in the new format and 0.09 in the old one, both under the floor of 0.38.",
        lambda s: (
            near(s.at("linear", f"{_NEW}carried", **_AFTER), 0.11)
            and near(s.at("linear", f"{_OLD}carried", **_AFTER), 0.09)
            and near(s.test("linear", f"{_NEW}carried", **_AFTER).floor, 0.38)
            and near(s.test("linear", f"{_OLD}carried", **_AFTER).floor, 0.38)
        ),
    ),
    Claim(
        "word_problems",
        "One seed, the better of two learning rates, which is the larger in every row.",
        lambda s: all(
            len(row.seeds) == 1
            and row.choices[0].value == 0.003
            and [rate for rate, _ in row.choices[0].curve] == [0.001, 0.003]
            for row in s.rows()
        ),
    ),
    Claim(
        "word_problems",
        "`delta:max_strength=2` learns swaps in 500 steps and keeps 0.99 at 128, while `delta` stands at 0.21 at the "
        "lengths of training, not far above the floor of 0.15.",
        lambda s: (
            s.row("delta:max_strength=2", task=_SWAPS).steps_to_solve == 500
            and near(s.at("delta:max_strength=2", "128", task=_SWAPS), 0.99)
            and near(s.accuracy("delta", task=_SWAPS), 0.21)
            and near(s.row("delta", task=_SWAPS).mean("floor"), 0.15)
        ),
    ),
    Claim(
        "word_problems",
        "`delta_product`, with two steps per token, learns S3 (0.99 at 128), and one step with negative eigenvalues "
        "(0.40), or two without (0.45), stay near the floor of 0.42.",
        lambda s: (
            near(s.at("delta_product", "128", task=_S3), 0.99)
            and near(s.accuracy("delta:max_strength=2", task=_S3), 0.40)
            and near(s.accuracy("delta_product:max_strength=1", task=_S3), 0.45)
            and near(s.row("delta", task=_S3).mean("floor"), 0.42)
        ),
    ),
    Claim(
        "word_problems",
        "The LSTM learns both. One layer of full attention learns neither (0.36 and 0.15).",
        lambda s: (
            all(near(mean(row), 1.0) for row in s.rows("lstm"))
            and near(s.accuracy("full", task=_S3), 0.36)
            and near(s.accuracy("full", task=_SWAPS), 0.15)
        ),
    ),
]
