"""What docs/studies.md says of accuracy against every cost, on each task of the frontier."""

from experiments.studies.rows import Row
from tests.claims.scores import Claim, Scores, mean, near

_RECALL, _COPY, _PRODUCTS, _NEEDLES = "mqar", "copying", "group_word", "needle"
_SIZES = ("32;", "64;")
_SOFTMAX = ("full", "sliding_window+full", "gated_delta+full", "native_sparse", "sliding_window")
_RECALLING = ("full", "sliding_window+full", "gated_delta+full", "native_sparse", "taylor", "linear", "delta")
STATES = ("delta", "gated_linear", "linear", "taylor", "gated_delta", "state_space")


def _both(s: Scores, name: str, task: str) -> list[Row]:
    """Returns the rows of a model on a task, of width 32 and of 64."""
    return [s.row(name, task=task, model_dim=size) for size in _SIZES]


def _shown(rows: list[Row], *scores: float) -> bool:
    return all(near(mean(row), score) for row, score in zip(rows, scores, strict=True))


def _share(s: Scores, name: str, field: str, task: str = _COPY) -> list[float]:
    """Returns how many times the cost of full attention a model has on a task, at both widths."""
    return [s.times_full(name, field, task=task, model_dim=size) for size in _SIZES]


def _range(s: Scores, name: str, task: str) -> tuple[float, float]:
    """Returns the lowest and the highest score of all seeds of both widths."""
    scores = [score for row in _both(s, name, task) for score in row.accuracies]
    return min(scores), max(scores)


def _floor(s: Scores, task: str) -> float:
    return s.rows("full", task=task)[0].mean("floor") or 0.0


def _at(sizes: str, *names: str) -> dict[tuple[str, ...], int]:
    return {(name, f"{size};"): 1 for name in names for size in sizes.split()}


def _curve(row: Row) -> list[float]:
    return [score for _, score in row.choices[0].curve]


def _all_solved(row: Row) -> bool:
    return row.solved == row.ended


def _solved(s: Scores, task: str) -> list[dict[str, int]]:
    """Returns how many of five seeds each model solves, of width 32 and of 64."""
    rows = s.called("model_dim", task=task)
    return [{name: row.solved for (name, of), row in rows.items() if of == size and row.ended == 5} for size in _SIZES]


def _saves(s: Scores, name: str, state: float, flops: float) -> bool:
    """Whether a model of width 64 recalls with these shares of the state and training FLOPs of full attention."""
    shares = [_share(s, name, field, _RECALL)[1] for field in ("cache_bytes", "train_flops_executed")]
    return near(shares[0], state) and round(shares[1], 1) == flops


def _tracks(s: Scores) -> bool:
    low, high = _range(s, "delta", _PRODUCTS)
    small, large = _both(s, "delta", _PRODUCTS)
    return (
        _shown([small, large], 0.66, 0.53)
        and near(low, 0.39)
        and near(high, 1.00)
        and (small.solved, large.solved) == (0, 1)
        and near(_curve(large)[-1], 0.99)
        and near(_curve(large)[-2], 0.97)
    )


CLAIMS = [
    Claim(
        "frontier",
        "Full attention, both hybrids, `native_sparse`, `taylor`, `linear` and `delta` solve it in all five seeds, "
        "`gated_delta` and `state_space` in four.",
        lambda s: (
            _solved(s, _RECALL)[1]
            == dict.fromkeys(_RECALLING, 5)
            | {"gated_delta": 4, "state_space": 4, "gated_linear": 0, "sliding_window": 0, "forgetting": 0}
        ),
    ),
    Claim(
        "frontier",
        "What is saved is state, not training FLOPs: `linear` keeps 0.27 of the state of full attention for 4.6 times "
        "its training FLOPs, `delta` 0.31 for 3.1 times, `sliding_window+full` 0.63 for 1.2 times. `native_sparse` and "
        "`taylor` keep more than full attention.",
        lambda s: (
            all(_share(s, name, "train_flops_executed", _RECALL)[1] >= 1 for name in _RECALLING)
            and all(_share(s, name, "cache_bytes", _RECALL)[1] > 1 for name in ("native_sparse", "taylor"))
            and _saves(s, "linear", 0.27, 4.6)
            and _saves(s, "delta", 0.31, 3.1)
            and _saves(s, "sliding_window+full", 0.63, 1.2)
        ),
    ),
    Claim(
        "frontier",
        "At width 32 full attention and `sliding_window+full` solve it in all five seeds. The others depend on the "
        "seed: `taylor` and `gated_delta+full` solve it in four, `delta` in two, `linear`, `native_sparse` and "
        "`state_space` in one, `gated_delta` in none.",
        lambda s: (
            _solved(s, _RECALL)[0]
            == dict.fromkeys(("full", "sliding_window+full"), 5)
            | dict.fromkeys(("taylor", "gated_delta+full"), 4)
            | dict.fromkeys(("linear", "native_sparse", "state_space", "forgetting"), 1)
            | {"delta": 2, "gated_delta": 0, "gated_linear": 0, "sliding_window": 0}
        ),
    ),
    Claim(
        "frontier",
        "`linear` still reaches 0.95, with 0.15 of the state. `gated_linear` stays at 0.37, and at 0.63 at width 64. "
        "The window of 16 stays under the floor of 0.12 at both widths, though its two layers could see 0.75 of the "
        "answers. `forgetting` solves it in one of ten runs;",
        lambda s: (
            near(mean(_both(s, "linear", _RECALL)[0]), 0.95)
            and near(_share(s, "linear", "cache_bytes", _RECALL)[0], 0.15)
            and _shown(_both(s, "gated_linear", _RECALL), 0.37, 0.63)
            and near(_floor(s, _RECALL), 0.12)
            and max(map(mean, _both(s, "sliding_window", _RECALL))) < _floor(s, _RECALL)
            and all(near(row.mean("ceiling"), 0.75) for row in _both(s, "sliding_window", _RECALL))
            and sum(row.solved for row in _both(s, "forgetting", _RECALL)) == 1
        ),
    ),
    Claim(
        "frontier",
        "Full attention, both hybrids, `native_sparse` and the window solve it in all five seeds at both widths, "
        "within 200 steps in the median.",
        lambda s: all(
            row.solved == len(row.seeds) == 5 and (row.steps_to_solve or 1500) <= 200
            for name in _SOFTMAX
            for row in _both(s, name, _COPY)
        ),
    ),
    Claim(
        "frontier",
        "The window of 16 reaches the whole string in two layers with their convolutions, and does it with 0.27 of the "
        "state of full attention.",
        lambda s: (
            all(near(share, 0.27) for share in _share(s, "sliding_window", "cache_bytes"))
            and all(row.mean("ceiling") == 1.0 for row in _both(s, "sliding_window", _COPY))
        ),
    ),
    Claim(
        "frontier",
        "Models with only a state pay in training: each takes more than ten times the training FLOPs of full "
        "attention.",
        lambda s: all(share > 10 for name in STATES for share in _share(s, name, "train_flops_executed")),
    ),
    Claim(
        "frontier",
        "`delta` reaches 0.97 and 0.99 with 0.19 and 0.31 of the cache, and solves the task in four of five seeds at "
        "width 64; `gated_linear` reaches 0.77 and 0.96 (three seeds solved), `linear` 0.89 and 0.96, `taylor` 0.96 "
        "and 0.98 with a state larger than the cache.",
        lambda s: (
            _shown(_both(s, "delta", _COPY), 0.97, 0.99)
            and all(map(near, _share(s, "delta", "cache_bytes"), (0.19, 0.31)))
            and [row.solved for row in _both(s, "delta", _COPY)] == [0, 4]
            and _shown(_both(s, "gated_linear", _COPY), 0.77, 0.96)
            and [row.solved for row in _both(s, "gated_linear", _COPY)] == [0, 3]
            and _shown(_both(s, "linear", _COPY), 0.89, 0.96)
            and _shown(_both(s, "taylor", _COPY), 0.96, 0.98)
            and min(_share(s, "taylor", "cache_bytes")) > 1
        ),
    ),
    Claim(
        "frontier",
        "`gated_delta` and `state_space` depend on the seed: between 0.15 and 0.98, and between 0.12 and 0.99.",
        lambda s: (
            all(map(near, _range(s, "gated_delta", _COPY), (0.15, 0.98)))
            and all(map(near, _range(s, "state_space", _COPY), (0.12, 0.99)))
        ),
    ),
    Claim(
        "frontier",
        "So does `forgetting`, which solves the task in three and in four of five seeds and stays at 0.07 in the "
        "others, under the floor of 0.16. At width 32 its search seed stayed there at every rate, so the choice among "
        "the four was arbitrary.",
        lambda s: (
            [row.solved for row in _both(s, "forgetting", _COPY)] == [3, 4]
            and all(
                near(score, 0.07) or score >= 0.99 for row in _both(s, "forgetting", _COPY) for score in row.accuracies
            )
            and near(_floor(s, _COPY), 0.16)
            and all(near(score, 0.07) for score in _curve(_both(s, "forgetting", _COPY)[0]))
        ),
    ),
    Claim(
        "frontier",
        "Eleven models stay under the floor of 0.42 at both widths, at 0.31 to 0.41:",
        lambda s: (
            near(_floor(s, _PRODUCTS), 0.42)
            and len(others := [row for row in s.rows(task=_PRODUCTS) if row not in s.rows("delta")]) == 22
            and near(min(map(mean, others)), 0.31)
            and near(max(map(mean, others)), 0.41)
            and max(map(mean, others)) < _floor(s, _PRODUCTS)
        ),
    ),
    Claim(
        "frontier",
        "reaches 0.66 and 0.53, its seeds lie between 0.39 and 1.00, and one of the five at width 64 solves the task. "
        "There the search seed reached 0.99 with the chosen rate, and 0.97 with the next.",
        _tracks,
    ),
    Claim(
        "frontier",
        "On copying `gated_delta` and `state_space` at width 32, and `linear` and `gated_linear` at both, were still "
        "improving.",
        lambda s: (
            {key for key, row in s.called("model_dim", task=_COPY).items() if row.still_improving}
            == {*_at("32", "gated_delta", "state_space"), *_at("32 64", "linear", "gated_linear")}
            and not any(row.still_improving for task in (_RECALL, _PRODUCTS) for row in s.rows(task=task))
        ),
    ),
    Claim(
        "frontier",
        "Where the chosen rate on these three tasks is at the edge of the four, it is the largest, with one exception:"
        " `gated_delta+full` on recall at width 32 chose the smallest, and one of its seeds stays at 0.10. The largest"
        " is chosen, on recall, by `linear` at both widths, `taylor` at 32, `forgetting` at 64; on copying, by full "
        "attention, the hybrids and `linear` at both widths, the window and `forgetting` at 32, `gated_delta` at 64; "
        "on the products, by `gated_delta+full`, `gated_linear` and `taylor` at 32, `delta` and `forgetting` at 64.",
        lambda s: (
            s.edges("model_dim", task=_RECALL)
            == _at("32 64", "linear")
            | _at("32", "taylor")
            | _at("64", "forgetting")
            | {("gated_delta+full", "32;"): -1}
            and [near(score, 0.10) for score in sorted(_both(s, "gated_delta+full", _RECALL)[0].accuracies)]
            == [True, False, False, False, False]
            and s.edges("model_dim", task=_COPY)
            == _at("32 64", "full", "sliding_window+full", "gated_delta+full", "linear")
            | _at("32", "sliding_window", "forgetting")
            | _at("64", "gated_delta")
            and s.edges("model_dim", task=_PRODUCTS)
            == _at("32", "gated_delta+full", "gated_linear", "taylor") | _at("64", "delta", "forgetting")
        ),
    ),
    Claim(
        "frontier",
        "On the fourth, needles, each model has two or three of its five seeds so far.",
        lambda s: {row.ended for row in s.rows(task=_NEEDLES)} == {2, 3} and len(s.rows(task=_NEEDLES)) == 24,
    ),
    Claim(
        "frontier",
        "At width 64 full attention, `sliding_window+full`, `forgetting`, `taylor`, `linear` and `delta` find them in "
        "every seed so far, `linear` and `delta` with 0.14 and 0.16 of the state of full attention. `native_sparse` "
        "reaches 0.97 and solves the task in none. `gated_delta+full` solves it in one of three seeds, and the others "
        "stay under the floor of 0.21, near which the window ends at both widths.",
        lambda s: (
            {
                name
                for (name, _), row in s.called("model_dim", task=_NEEDLES, model_dim="64;").items()
                if _all_solved(row)
            }
            == {"full", "sliding_window+full", "forgetting", "taylor", "linear", "delta"}
            and [round(_share(s, name, "cache_bytes", _NEEDLES)[1], 2) for name in ("linear", "delta")] == [0.14, 0.16]
            and near(mean(sparse := _both(s, "native_sparse", _NEEDLES)[1]), 0.97)
            and not sparse.solved
            and [score > _floor(s, _NEEDLES) for score in sorted(_both(s, "gated_delta+full", _NEEDLES)[1].accuracies)]
            == [False, False, True]
            and near(_floor(s, _NEEDLES), 0.21)
            and all(abs(mean(row) - _floor(s, _NEEDLES)) < 0.03 for row in _both(s, "sliding_window", _NEEDLES))
        ),
    ),
    Claim(
        "frontier",
        "At the edge of the four is the largest rate for `linear` at both widths, and the smallest for full attention "
        "and `forgetting` at 32 and for `sliding_window+full` and `gated_delta` at 64.",
        lambda s: (
            s.edges("model_dim", task=_NEEDLES)
            == _at("32 64", "linear")
            | dict.fromkeys(_at("32", "full", "forgetting"), -1)
            | dict.fromkeys(_at("64", "sliding_window+full", "gated_delta"), -1)
            and not any(row.still_improving for row in s.rows(task=_NEEDLES))
        ),
    ),
]
