"""What README.md says."""

from tests.claims.scores import Claim

CLAIMS = [
    Claim("quickstart", "Full attention solves the task", lambda s: s.row("full").solved == s.row("full").ended),
    Claim(
        "quickstart",
        "The window of 32 comes within 0.02 of its ceiling",
        lambda s: 0 <= s.gap("sliding_window") < 0.02,
    ),
    Claim(
        "quickstart",
        "Linear attention sees everything and still falls short in these 500 steps: it *has not learnt* the task, "
        "being still improving",
        lambda s: (
            s.row("linear").mean("ceiling") == 1
            and s.accuracy("linear") < s.accuracy("full") - 0.1
            and [row for row in s.rows() if row.still_improving] == s.rows("linear")
            and {row.config["train.steps"] for row in s.rows()} == {500}
        ),
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
