"""What docs/studies.md says of gates that begin open, beside those that begin half closed."""

from experiments.studies.rows import Row
from tests.claims.scores import Claim, Scores, field, near

_RECALL, _COPY = "mqar", "copying"
_SIZES = ("32;", "64;")
_CLOSED, _OPEN = "forgetting", "forgetting:initial_gate=0.98"


def _scores(s: Scores, name: str) -> list[float]:
    """Returns the scores of all runs of a start, on both tasks and at both widths."""
    return [score for row in s.study.rows if row.attention == name for score in row.accuracies]


def _row(s: Scores, start: str, task: str, size: str) -> Row:
    (row,) = [row for row in s.rows(task=task, model_dim=size) if row.attention == start]
    return row


def _guessing(s: Scores, task: str, size: str) -> list[float]:
    """Returns the scores of closed gates that are within 0.01 of a guess among the values, or symbols, of the task."""
    guess = {_RECALL: 1 / 64, _COPY: 1 / 16}[task]
    return [score for score in _row(s, _CLOSED, task, size).accuracies if abs(score - guess) < 0.01]


def _search(row: Row) -> list[float]:
    """Returns what the search seed scored by validation at every rate."""
    return [score for _, score in row.choices[0].curve]


def _solved_within(s: Scores, task: str) -> int:
    """Returns the steps within which open gates solve a task in the median, at the slower width."""
    rows = [row for row in s.rows(task=task) if row.attention == _OPEN]
    assert {(row.solved, row.ended) for row in rows} == {(5, 5)}
    return max(int(row.steps_to_solve or 0) for row in rows)


def _edges_of_gates(s: Scores) -> set[tuple[str, ...]]:
    """Returns the start, task and width of the rows that chose the largest rate; none chose the smallest."""
    assert not any(row.choices[0].edge == -1 or row.still_improving for row in s.study.rows)
    found = [row for row in s.study.rows if row.choices[0].edge]
    return {(row.attention, row.task.name, field(row, "model_dim")) for row in found}


CLAIMS = [
    Claim(
        "open_gates",
        "The `forgetting` of the frontier, whose gates begin at a half as published, and the same layer with gates "
        "that begin at 0.98,",
        lambda s: (
            {(row.attention, row.task.name, field(row, "model_dim")) for row in s.study.rows}
            == {(start, task, size) for start in (_CLOSED, _OPEN) for task in (_RECALL, _COPY) for size in _SIZES}
        ),
    ),
    Claim(
        "open_gates",
        "With open gates all twenty runs solve their task: copying within 100 steps in the median, recall within 300.",
        lambda s: len(_scores(s, _OPEN)) == 20 and (_solved_within(s, _COPY), _solved_within(s, _RECALL)) == (100, 300),
    ),
    Claim(
        "open_gates",
        "With gates at a half eight of twenty do. Of the other twelve, ten stay at the level of a guess for all 1500 "
        "steps; two on recall at width 64 have begun to rise, end at 0.05 and 0.06,",
        lambda s: (
            sorted(score >= 0.99 for score in _scores(s, _CLOSED)) == [False] * 12 + [True] * 8
            and [len(_guessing(s, task, size)) for task in (_RECALL, _COPY) for size in _SIZES] == [4, 3, 2, 1]
            and all(map(near, sorted(_row(s, _CLOSED, _RECALL, "64;").accuracies)[-2:], (0.05, 0.06)))
        ),
    ),
    Claim(
        "open_gates",
        "on recall at width 32 the search seed solved the task at three of the four rates, and one of the five "
        "reported seeds did.",
        lambda s: (
            sum(score >= 0.99 for score in _search(_row(s, _CLOSED, _RECALL, "32;"))) == 3
            and _row(s, _CLOSED, _RECALL, "32;").solved == 1
        ),
    ),
    Claim(
        "open_gates",
        "Where the chosen rate is at the edge of the four, it is the largest: on copying with open gates at both "
        "widths, where every seed solves it, and with gates at a half at 32; on recall with gates at a half at 64, "
        "where the search seed stayed at 0.02 with every rate.",
        lambda s: (
            _edges_of_gates(s)
            == {(_OPEN, _COPY, "32;"), (_OPEN, _COPY, "64;"), (_CLOSED, _COPY, "32;"), (_CLOSED, _RECALL, "64;")}
            and all(near(score, 0.02) for score in _search(_row(s, _CLOSED, _RECALL, "64;")))
        ),
    ),
]
