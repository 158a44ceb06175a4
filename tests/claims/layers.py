"""What docs/studies.md says of layers as their papers have them."""

from tests.claims.scores import Claim, Scores, near

_ATTENTION = ("differential", "sigmoid", "forgetting")


def _solved(s: Scores, task: str, runs: int) -> set[str]:
    """Returns the variants that solve a task in so many of three seeds."""
    found = {row.attention.removeprefix("conv+").partition(":")[0] for row in s.rows(task=task) if row.solved == runs}
    assert {row.ended for row in s.rows(task=task)} == {3}
    return found


def _edges(s: Scores, task: str) -> dict[str, int]:
    return {name: edge for (name, of), edge in s.edges("task").items() if of.startswith(task)}


CLAIMS = [
    Claim(
        "catalogue_paper",
        "Eight of the 13 solve recall in all three seeds: `forgetting`, `sigmoid`, `differential`, `rwkv6`, "
        "`state_space`, `delta`, `delta_product` and `kimi_delta`. `gated_delta` and `gated_delta_product` do in two; "
        "the third seed of the latter ends at 0.16.",
        lambda s: (
            _solved(s, "mqar", 3)
            == {
                "forgetting",
                "sigmoid",
                "differential",
                "rwkv6",
                "state_space",
                "delta",
                "delta_product",
                "kimi_delta",
            }
            and _solved(s, "mqar", 2) == {"gated_delta", "gated_delta_product"}
            and near(min(s.row("gated_delta_product", task="mqar").accuracies), 0.16)
            and len(s.rows(task="mqar")) == 13
        ),
    ),
    Claim(
        "catalogue_paper",
        "`retention` (0.91), `hedgehog` (0.85) and `gated_linear` (0.49) solve it in no seed.",
        lambda s: (
            _solved(s, "mqar", 0) == {"retention", "hedgehog", "gated_linear"}
            and near(s.accuracy("retention", task="mqar"), 0.91)
            and near(s.accuracy("hedgehog", task="mqar"), 0.85)
            and near(s.accuracy("gated_linear", task="mqar"), 0.49)
        ),
    ),
    Claim(
        "catalogue_paper",
        "The last was chosen badly: its three larger rates stood within 0.01 of 0.97 on the search seed, and with the "
        "largest, which won, the reported seeds end between 0.14 and 0.69, still improving.",
        lambda s: (
            all(abs(score - 0.97) < 0.01 for _, score in s.row("gated_linear", task="mqar").choices[0].curve[1:])
            and s.row("gated_linear", task="mqar").choices[0].edge == 1
            and near(min(s.row("gated_linear", task="mqar").accuracies), 0.14)
            and near(max(s.row("gated_linear", task="mqar").accuracies), 0.69)
            and [row for row in s.rows() if row.still_improving] == [s.row("gated_linear", task="mqar")]
        ),
    ),
    Claim(
        "catalogue_longer",
        "These three were tried again with 2000 steps, five seeds, and a rate chosen anew. `gated_linear` and "
        "`retention` reach 0.98 and solve recall in two of five seeds each, `hedgehog` reaches 0.88 and solves it in "
        "none; none was still improving.",
        lambda s: (
            near(s.accuracy("gated_linear"), 0.98)
            and near(s.accuracy("retention"), 0.98)
            and near(s.accuracy("hedgehog"), 0.88)
            and [s.row(name).solved for name in ("gated_linear", "retention", "hedgehog")] == [2, 2, 0]
            and {(row.ended, row.config["train.steps"], row.still_improving) for row in s.rows()} == {(5, 2000, False)}
            and not s.edges()
        ),
    ),
    Claim(
        "catalogue_paper",
        "Selective copying belongs to the delta rules: all five solve it, `gated_delta` in two of three seeds and the "
        "others in all.",
        lambda s: (
            _solved(s, "selective", 3) == {"delta", "delta_product", "gated_delta_product", "kimi_delta"}
            and _solved(s, "selective", 2) == {"gated_delta"}
        ),
    ),
    Claim(
        "catalogue_paper",
        "`rwkv6` does in one, `gated_linear` reaches 0.98. The attention of `differential`, `sigmoid` and "
        "`forgetting`, whose cache holds every token, reaches at most 0.96 in any seed",
        lambda s: (
            _solved(s, "selective", 1) == {"rwkv6"}
            and near(s.accuracy("gated_linear", task="selective"), 0.98)
            and near(max(max(s.row(name, task="selective").accuracies) for name in _ATTENTION), 0.96)
        ),
    ),
    Claim(
        "catalogue_paper",
        "one seed of `forgetting` stays at 0.07",
        lambda s: near(min(s.row("forgetting", task="selective").accuracies), 0.07),
    ),
    Claim(
        "catalogue_paper",
        "Rates at the edge of the four, on recall: the smallest for `rwkv6`, the largest for `differential`, "
        "`gated_delta` and `gated_linear`; on copying: the largest for `delta`, `gated_delta`, `gated_linear`, "
        "`rwkv6`, `differential`, `state_space` and `retention`.",
        lambda s: (
            _edges(s, "mqar") == {"rwkv6": -1, "differential": 1, "gated_delta": 1, "gated_linear": 1}
            and _edges(s, "selective")
            == dict.fromkeys(
                ("delta", "gated_delta", "gated_linear", "rwkv6", "differential", "state_space", "retention"), 1
            )
        ),
    ),
]
