"""What docs/studies.md says of rows that the tables flag: still improving, or chosen at the edge of what was tried."""

from configs import protocol
from experiments.config.sections import FIRST_SEARCH_SEED
from tests.claims.scores import Claim, Scores, field


def _improving(s: Scores) -> set[tuple[str, str]]:
    """Returns attention and task of the rows whose accuracy was still rising."""
    rows = [row for row in s.rows() if row.still_improving]
    return {
        (row.attention.removeprefix("conv+").partition(":")[0], field(row, "task").partition(":")[0].strip(";"))
        for row in rows
    }


CLAIMS = [
    Claim(
        "mqar",
        "a row has the best of the learning rates 0.001, 0.003, 0.01 and 0.03, by validation accuracy on one further "
        "seed, the search seed; the reported seeds are others.",
        lambda s: all(
            tuple(rate for rate, _ in row.choices[0].curve) == (0.001, 0.003, 0.01, 0.03) == protocol.RATES
            and max(row.seeds) < FIRST_SEARCH_SEED
            for row in s.rows()
        ),
    ),
    Claim(
        "catalogue",
        "`sigmoid` on recall, `gated_linear` and `rwkv6` on copying were still improving.",
        lambda s: (
            _improving(s)
            == {("sigmoid", "mqar"), ("gated_linear", "selective_copying"), ("rwkv6", "selective_copying")}
        ),
    ),
    Claim(
        "head_specialisation",
        "It was still improving there.",
        lambda s: _improving(s) == {("linear", "induction")},
    ),
    Claim(
        "negative_eigenvalues",
        "Of three rates, `delta` and `kimi_delta` take the largest, an edge that tells nothing, since all three rates "
        "solve the lengths of training; and `gated_delta` without reflections takes the smallest of three that are "
        "alike.",
        lambda s: (
            {row.attention: row.choices[0].edge for row in s.rows() if row.choices[0].edge}
            == {"delta:max_strength=2": 1, "kimi_delta:max_strength=2": 1, "gated_delta": -1}
            and all(score > 0.995 for row in s.rows() if row.choices[0].edge == 1 for _, score in row.choices[0].curve)
        ),
    ),
]
