"""Progress: lines without a terminal, bars on one, and the time left."""

import sys

from experiments.studies import progress


def test_bars_on_a_terminal_leave_one_line_per_run(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with progress.make_display(2) as display:
        for index in (1, 2):
            display.start(index, f"full[{index}]", 6, f"{index:012x}")
            scores = {"train_loss": 1.0, "validation_accuracy": 0.5}
            display.update({"step": 3, "steps": 6, **scores, "tokens_per_second": 1e4, "seconds_left": 2})
            display.end("solved")
    out = capsys.readouterr().out
    assert "[1] full[1]  solved" in out and "[2] full[2]  solved" in out


def test_workers_on_a_terminal_have_a_bar_each_and_leave_one_line_per_run(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    scores = {"train_loss": 1.0, "validation_accuracy": 0.5, "tokens_per_second": 1e4}
    with progress.make_board(3) as board:
        for worker, label in enumerate(("full[1]", "linear")):
            board.event(worker, {"event": "start", "label": label, "steps": 6, "run": label})
            board.event(worker, {"event": "update", "step": 3 * worker, "steps": 6, "run": label, **scores})
        shown = [task.description for task in board._progress.tasks]
        assert shown == ["study of 3 runs", "worker 1: full[1]", "worker 2: linear"]
        assert [(task.completed, task.total) for task in board._progress.tasks] == [(0.5, 3), (0, 6), (3, 6)]
        assert board._progress.tasks[0].fields["note"].endswith("left")
        board.event(0, {"event": "end", "outcome": "solved", "run": "full[1]"})
        board.note(1, "died of signal 9; it starts again.")
        assert [task.visible for task in board._progress.tasks] == [True, False, True]
    out = capsys.readouterr().out
    assert "[1/3] worker 1: full[1]  solved" in out and "[1/3] worker 2: died of signal 9; it starts again." in out


def test_the_clock_counts_waiting_runs(monkeypatch):
    now = iter([0.0, 10.0, 10.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    clock = progress.Clock(3)
    clock.start()
    clock.end()
    clock.start()
    assert clock.seconds_left({"seconds_left": 4.0}) == 4.0 + 1 * 10.0
    assert [progress.left(s) for s in (5, 600, 7200)] == ["about 5 s left", "about 10 min left", "about 2.0 h left"]
