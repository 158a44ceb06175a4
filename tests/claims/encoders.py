"""What docs/studies.md says of encoders and decoders, and of what stands between them."""

from experiments.studies.rows import Row
from tests.claims.scores import Claim, Scores, mean, near

_TRANSLATION, _NAMING = "translation", "captioning"
_SOLVING = ("full", "linear", "topk", "sliding_window")


def _rows(s: Scores, task: str) -> dict[str, Row]:
    """Returns the rows of a task by what stands between encoder and decoder."""
    return {str(row.config["model.cross_attention"]).partition(":")[0]: row for row in s.rows(task=task)}


CLAIMS = [
    Claim(
        "cross_attention",
        "Translation is solved in all five seeds, within 900 steps in the median, by full attention, linear attention,"
        " the best four keys and a window of 9. `sigmoid` reaches 0.97 and solves it in one, `performer` reaches 0.78 "
        "and solves it in none: 0.95 of the letters of short strings and 0.60 of those of long ones.",
        lambda s: (
            {name: row.solved for name, row in _rows(s, _TRANSLATION).items()}
            == dict.fromkeys(_SOLVING, 5) | {"sigmoid": 1, "performer": 0}
            and {row.ended for row in s.rows()} == {5}
            and all((_rows(s, _TRANSLATION)[name].steps_to_solve or 999) <= 900 for name in _SOLVING)
            and near(mean(_rows(s, _TRANSLATION)["sigmoid"]), 0.97)
            and near(mean(_rows(s, _TRANSLATION)["performer"]), 0.78)
            and [round(s.bins("full", "length", task=_TRANSLATION, cross_attention="performer")[i], 2) for i in (0, -1)]
            == [0.95, 0.60]
        ),
    ),
    Claim(
        "cross_attention",
        "on the search seed its three larger rates reached 0.997 or more, and with the largest, which won, all five "
        "reported seeds learn more slowly.",
        lambda s: (
            all(round(score, 3) >= 0.997 for _, score in _rows(s, _TRANSLATION)["performer"].choices[0].curve[1:])
            and _rows(s, _TRANSLATION)["performer"].choices[0].value == 0.03
            and max(_rows(s, _TRANSLATION)["performer"].values("validation_accuracy")) < 0.8
        ),
    ),
    Claim(
        "cross_attention",
        "Naming is solved by none in 1000 steps. Full attention (0.96) and the best four keys (0.95) lead; the others "
        "stay at 0.85 to 0.89. In the middle of the image every model names fewer shapes than at its ends.",
        lambda s: (
            not any(row.solved for row in s.rows(task=_NAMING))
            and near(mean(_rows(s, _NAMING)["full"]), 0.96)
            and near(mean(_rows(s, _NAMING)["topk"]), 0.95)
            and sorted(round(mean(row), 2) for row in s.rows(task=_NAMING))[:4] == [0.85, 0.88, 0.89, 0.89]
            and all(
                bins[2] < min(bins[0], bins[-1])
                for name in _rows(s, _NAMING)
                for bins in [s.bins("full", "place", task=_NAMING, cross_attention=name)]
            )
        ),
    ),
    Claim(
        "cross_attention",
        "On naming all but `performer` were still improving, on translation `sigmoid` and `performer`. Rates at the "
        "edge of the four: the largest for all on translation but `sigmoid`, which tells nothing where the task is "
        "solved.",
        lambda s: (
            {name for name, row in _rows(s, _NAMING).items() if not row.still_improving} == {"performer"}
            and {name for name, row in _rows(s, _TRANSLATION).items() if row.still_improving}
            == {"sigmoid", "performer"}
            and not any(row.choices[0].edge for row in s.rows(task=_NAMING))
            and {name: row.choices[0].edge for name, row in _rows(s, _TRANSLATION).items() if row.choices[0].edge}
            == dict.fromkeys((*_SOLVING, "performer"), 1)
        ),
    ),
]
