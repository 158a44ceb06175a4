"""What docs/studies.md says of position encodings beyond the length of training."""

from collections.abc import Sequence

from tests.claims.scores import Claim, Scores, near

_EXTRAPOLATING = ("randomized", "alibi", "none")
_ROTATIONS = ("sinusoidal", "rope;", "rope:fraction")
_SOLVING = ("learned", "t5", *_ROTATIONS)


def _beyond(s: Scores, position: str, lengths: Sequence[str] = ("64", "128", "256")) -> list[float]:
    """Returns the accuracy of full attention at these lengths."""
    return [round(s.at("full", length, position=position), 2) for length in lengths]


def _floors(s: Scores) -> dict[str, float]:
    return {length: s.test("full", length, position="none").floor or 0.0 for length in ("64", "128", "256")}


CLAIMS = [
    Claim(
        "extrapolation",
        "All rows train for 800 steps; five seeds, by the protocol.",
        lambda s: (
            {row.ended for row in s.rows()} == {5}
            and {step for row in s.rows() for step in row.values("steps")} == {800}
        ),
    ),
    Claim(
        "extrapolation",
        "With full attention randomized positions keep 0.85 at 64 tokens, 0.49 at 128 and 0.23 at 256, ALiBi 0.64, "
        "0.28 and 0.15. No positions keep 0.28 at 64 tokens, and learned ones 0.19, over a floor of 0.16; T5's bias "
        "gives 0.14 there. Sinusoids and rotations fall under every floor at once (0.07).",
        lambda s: (
            _beyond(s, "randomized") == [0.85, 0.49, 0.23]
            and _beyond(s, "alibi") == [0.64, 0.28, 0.15]
            and [_beyond(s, position)[0] for position in ("none", "learned", "t5")] == [0.28, 0.19, 0.14]
            and near(_floors(s)["64"], 0.16)
            and all(score == 0.07 for position in _ROTATIONS for score in _beyond(s, position))
            and min(_floors(s).values()) > 0.07
        ),
    ),
    Claim(
        "extrapolation",
        "randomized positions reach 0.95 there, ALiBi 0.96 and no positions 0.90, and none of the three solves it, "
        "where the other five do in every seed.",
        lambda s: (
            [_beyond(s, position, ["32"])[0] for position in _EXTRAPOLATING] == [0.95, 0.96, 0.90]
            and {row.solved for position in _EXTRAPOLATING for row in s.rows(position=position)} == {0}
            and {row.solved for position in _SOLVING for row in s.rows(position=position)} == {5}
        ),
    ),
    Claim(
        "extrapolation",
        "The windows see the whole string at 64 tokens, too, and none copies it: at most 0.18, with sinks.",
        lambda s: (
            all(s.test(name, "64", position="none").ceiling == 1 for name in ("sliding_window", "sink_window"))
            and near(
                max(s.at(name, "64", position=p) for name in ("sliding_window", "sink_window") for p in _EXTRAPOLATING),
                0.18,
            )
            and all(s.at("sliding_window", "64", position=p) < 0.14 for p in (*_EXTRAPOLATING, *_SOLVING))
            and all(s.at("sink_window", "64", position=p) < 0.12 for p in _SOLVING)
        ),
    ),
    Claim(
        "extrapolation",
        "Full attention without positions was still improving. Rates at the edge of the four: the largest for "
        "sinusoids and rotations, which solve the task at every rate, for randomized positions with full attention, "
        "and for ALiBi with sinks;",
        lambda s: (
            [row for row in s.rows() if row.still_improving] == [s.row("full", position="none")]
            and s.edges("position")
            == {
                (name, f"{position};"): 1
                for name in ("full", "sliding_window", "sink_window")
                for position in ("sinusoidal", "rope", "rope:fraction=0.5")
            }
            | {("full", "randomized:max_length=512;"): 1, ("sink_window", "alibi;"): 1}
            and all(
                score >= 0.99
                for position in _ROTATIONS
                for row in s.rows(position=position)
                for _, score in row.choices[0].curve
            )
        ),
    ),
]
