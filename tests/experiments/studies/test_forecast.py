"""How long a study takes is estimated from ended runs, and a long one is not begun unasked."""

import pytest

from experiments import runtime
from experiments.studies import forecast, runner, speeds
from experiments.studies.speeds import Speed, Speeds, read_speeds
from tests.experiments.tiny import RESULT, tiny_cost, tiny_run

HERE = {"backend": "cpu", "device": "abacus", "cores": 2}


def speed(attention="full", task="mqar", rate=100.0, other=None, **environment):
    return Speed(attention, task, rate, other, HERE | environment)


@pytest.mark.parametrize(
    "attention, task, rate",
    [
        ("sliding_window:window_size=7", "mqar", 10.0),  # both
        ("sliding_window:window_size=7", "parity", 15.0),  # the attention: median of 10 and 20
        ("sliding_window:window_size=9", "mqar", 15.0),  # the mixers
        ("conv+linear", "mqar", 20.0),  # any
    ],
)
def test_the_nearest_runs_tell_the_time(attention, task, rate):
    known = Speeds(
        [
            speed("sliding_window:window_size=7", "mqar", 10.0),
            speed("sliding_window:window_size=7", "copying", 20.0),
            speed("full", "mqar", 70.0),
        ]
    )
    assert known.seconds(attention, task, 300.0) == pytest.approx(300 / rate)


def test_what_is_not_steps_comes_from_the_runs_that_measured_it():
    known = Speeds([speed("full", "mqar", 10.0), speed("linear", "mqar", 10.0, other=4.0)])
    assert known.complete and known.seconds("full", "mqar", 20.0) == 6.0
    assert not Speeds([speed()]).complete
    assert Speeds([]).seconds("full", "mqar", 1.0) is None


def write_study(folder, rate, seeds=1, **environment):
    """Ended runs whose steps take as long as `rate` FLOPs per second say."""
    for seed in range(seeds):
        run = tiny_run(name=folder.name, seed=seed)
        cost = tiny_cost()
        flops = cost["train_flops_executed"]
        steps = run.train.steps
        compute = cost | {"step_ms": 1e3 * flops / rate / steps, "seconds": flops / rate + 3.0}
        store = runner.run_folder(folder.parent, run)
        store.create(run.config.nested(), {})
        store.finish(
            RESULT
            | {"config": run.config.nested(), "steps": steps, "compute": compute, "environment": HERE | environment}
        )
    return run


def test_the_study_itself_counts_before_others_and_this_device_before_others(tmp_path, monkeypatch):
    monkeypatch.setattr(speeds, "REFERENCE", tmp_path / "none")
    run = write_study(tmp_path / "other", 70.0)
    write_study(tmp_path / "far", 5.0, device="moon")

    def rate():
        known = read_speeds(tmp_path, "mine", HERE)
        flops = 1000.0
        return flops / (known.seconds(run.model.attention, run.config.task, flops) - 3.0)

    assert rate() == pytest.approx(70.0, rel=1e-3)
    (tmp_path / "damaged" / "0").mkdir(parents=True)
    (tmp_path / "damaged" / "0" / "result.json").write_text("{")
    assert rate() == pytest.approx(70.0, rel=1e-3)
    write_study(tmp_path / "mine", 20.0)
    assert rate() == pytest.approx(20.0, rel=1e-3)
    assert read_speeds(tmp_path / "nowhere", "mine", HERE).known == []


def test_the_studies_that_come_with_the_code_serve_a_new_user(tmp_path):
    known = read_speeds(tmp_path, "mine", HERE)
    assert len(known.known) > 100 and known.seconds("conv+full", "mqar", 1e12) > 1


def test_a_plan_times_every_cell(tmp_path):
    run = write_study(tmp_path / "mine", 1000.0)
    plan = forecast.make_estimate([run, tiny_run(name="mine", seed=1)], str(tmp_path))
    (cell,) = plan.cells
    assert cell.seeds == [0, 1]
    assert cell.seconds == pytest.approx(cell.cost["train_flops_executed"] / 1000.0 + 3.0, rel=1e-3)


def test_too_much_is_not_begun_unasked_and_what_has_ended_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "environment", lambda: HERE)
    run = write_study(tmp_path / "mine", 1000.0, seeds=2)
    runs = [tiny_run(name="mine", seed=seed) for seed in range(5)]
    forecast.check_size(runs, str(tmp_path))
    monkeypatch.setattr(forecast, "MOST_RUNS", 3)
    forecast.check_size(runs, str(tmp_path))
    with pytest.raises(ValueError, match=r"4 runs are to be trained, about .* need --yes"):
        forecast.check_size([*runs, tiny_run(name="mine", seed=5)], str(tmp_path))
    monkeypatch.setattr(forecast, "MOST_RUNS", 1000)
    one = tiny_cost()["train_flops_executed"] / 1000.0 + 3.0
    monkeypatch.setattr(forecast, "MOST_SECONDS", 3 * one + 1)
    forecast.check_size(runs, str(tmp_path))
    monkeypatch.setattr(forecast, "MOST_SECONDS", 3 * one - 1)
    with pytest.raises(ValueError, match="3 runs are to be trained"):
        forecast.check_size(runs, str(tmp_path))
    assert run.digests.run
