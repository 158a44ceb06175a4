"""What is chosen on seeds of its own: chosen before what is reported is trained, and reported without what chose."""

import dataclasses

import pytest

from experiments.config.files import apply_overrides, load_config
from experiments.config.run import Run
from experiments.reporting import tables
from experiments.studies import grid, plans, runner, search
from experiments.studies.results import read_study
from experiments.studies.rows import Row
from experiments.studies.run_folder import open_study
from experiments.studies.workers import Assignment, Job, Part
from tests.experiments.processes import start
from tests.experiments.tiny import RESULT

RATES = "--vary=train.learning_rate=0.001|0.01|0.1"
MODELS = "--vary=model.attention=conv+full|conv+linear"
SEARCH = ("--select=train.learning_rate", "--config.study.search_seeds=2")
BEST = {"conv+full": 0.01, "conv+linear": 0.1}


def act(run: Run) -> dict:
    """The best by validation is the worst by test; reported runs say the opposite of those that choose."""
    best = run.train.learning_rate == BEST[run.model.attention]
    validation = 0.9 if best == run.config.searches else 0.3
    seed = run.seed % 10 / 100
    return RESULT | {"validation_accuracy": validation - seed, "test_accuracy": (0.4 if best else 0.95) - seed}


def trained_runs(trained) -> list[tuple[str, float, int]]:
    return [(run.model.attention, run.train.learning_rate, run.seed) for run in trained]


def test_what_is_best_on_its_own_seeds_is_trained_on_those_reported(command, trained, tmp_path):
    trained.act = act
    code, out, err = command(RATES, MODELS, *SEARCH, "--seeds=3")
    assert (code, err) == (0, "")
    first, rest = trained_runs(trained[:12]), trained_runs(trained[12:])
    assert {seed for _, _, seed in first} == {10_000, 10_001} and len(set(first)) == 12
    assert sorted(rest) == [(name, BEST[name], seed) for name in sorted(BEST) for seed in range(3)]
    study = read_study(tmp_path / "results" / "tiny")
    assert {row.attention: row.choices[0].value for row in study.rows} == BEST
    for row in study.rows:
        assert row.seeds == (0, 1, 2) and not row.provisional
        assert row.accuracy.mean == pytest.approx(0.39)
        assert [score for _, score in row.choices[0].curve] == pytest.approx(
            [0.895 if value == BEST[row.attention] else 0.295 for value in (0.001, 0.01, 0.1)]
        )
        assert row.search_flops == 6 * RESULT["compute"]["train_flops_executed"]
    assert "search" in out and "only choose" not in out
    command(RATES, MODELS, *SEARCH, "--seeds=3")
    assert len(trained) == 18, "nothing is trained twice"
    command(RATES, MODELS, *SEARCH, "--seeds=5")
    assert len(trained) == 22, "more seeds of what was chosen"


def test_no_row_is_reported_where_nothing_that_chooses_has_ended(command, trained):
    def fail(run: Run) -> dict:
        if run.model.attention == "conv+linear":
            raise ZeroDivisionError("planted")
        return act(run)

    trained.act = fail
    code, out, _ = command(RATES, MODELS, *SEARCH, "--seeds=2")
    assert code == 1 and "6 runs failed" in out
    assert {name for name, _, seed in trained_runs(trained) if seed < 10_000} == {"conv+full"}


def test_runs_that_choose_stand_in_until_others_have_ended(command, trained, tmp_path):
    def fail(run: Run) -> dict:
        if not run.config.searches:
            raise ZeroDivisionError("planted")
        return act(run)

    trained.act = fail
    _, out, _ = command(RATES, *SEARCH, "--config.model.attention=conv+full")
    assert "1 row of the search alone: no run that is to be reported has ended." in " ".join(out.split())
    assert [row.seeds for row in read_study(tmp_path / "results" / "tiny").rows] == [(10_000, 10_001)]


def test_where_runs_that_only_chose_ran_is_said_and_marks_no_time(command, trained, tmp_path):
    trained.act = act
    command(RATES, MODELS, *SEARCH, "--seeds=3")
    folders = list(open_study(tmp_path / "results" / "tiny"))
    moved = next(folder for folder in folders if folder.result()["config"]["seed"] >= 10_000)
    result = moved.result()
    moved.write("result.json", result | {"environment": result["environment"] | {"device": "Another CPU"}})
    study = read_study(tmp_path / "results" / "tiny")
    assert len(study.environments) == 1 and [each["device"] for each in study.searched_in] == ["Another CPU"]
    told = " ".join(tables.notes(study))
    assert "Some runs that only chose ran on Another CPU" in told and "; those of the rows on " in told
    assert "(a)" not in told and "(b)" not in told
    others = [row for row in study.rows if row.attention != result["config"]["model"]["attention"]]
    assert len(others) == 1 and not dataclasses.replace(study, rows=tuple(others)).searched_in, "another row's choice"


def test_the_plan_counts_what_will_be_chosen(command):
    code, out, _ = command(RATES, MODELS, *SEARCH, "--seeds=3", "--dry_run")
    assert code == 0 and "18 runs, at most" in out


def test_where_nothing_is_left_to_choose_nothing_searches(command, trained, tmp_path):
    command("--dry_run")  # makes the config
    config = load_config(str(tmp_path / "tiny.py"))
    config = apply_overrides(config, ["study.search_seeds=1"], ["train.learning_rate"])
    models, rates = (flag.removeprefix("--vary=") for flag in (MODELS, RATES))
    assert [each.seed for each in grid.expand(config, [models], 2)] == [0, 0, 1, 1]
    assert [each.seed for each in grid.expand(config, [rates], 1)] == [10_000] * 3 + [0] * 3
    swept = [{"train.learning_rate": rate} for rate in (0.01, 0.1)]
    config = dataclasses.replace(config, study=dataclasses.replace(config.study, vary=(models,)))
    seeds = [each.seed for each in grid.expand(config, (), 1, swept)]
    assert seeds == [10_000] * 4 + [0] * 4, "a sweep varies as well as a grid does"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--config.study.search_seeds=1"], "study.search_seeds choose nothing without study.select"),
        ([*SEARCH, "--shard=0/2"], "--shard cuts no study with study.search_seeds"),
        ([*SEARCH, "--config.seed=9999", "--seeds=2"], "seeds must be below 10000; got 10000"),
        ([*SEARCH[:1], "--config.study.search_seeds=-1"], "must be an integer >= 0; got -1"),
    ],
)
def test_a_search_that_cannot_be_is_refused(command, trained, flags, message):
    code, _, err = command(RATES, *flags)
    assert code == 2 and message in err and not trained


def test_a_worker_knows_its_stage(command, trained, tmp_path):
    trained.act = act
    config = load_config(str(tmp_path / "tiny.py"))
    config = apply_overrides(config, ["study.search_seeds=1"], ["train.learning_rate"])
    runs = runner.read_runs(grid.expand(config, [RATES.removeprefix("--vary=")], 3))
    results = tmp_path / "results"
    searching = [run for run in runs if run.config.searches]

    def stage(own: Assignment) -> list[str]:
        return [run.digests.run for run in search.stage_of(own, runs, results)]

    first = runner.plan_of(searching)
    assert len(searching) == 3 and stage(Assignment(Part(0, 2), None, first)) == [run.digests.run for run in searching]
    runner.run_study(searching, results, "python -m experiments.run")
    chosen = [run for run in runs if not run.config.searches and run.train.learning_rate == 0.01]
    assert len(chosen) == 3
    for expected in (searching, chosen):
        plan = runner.plan_of(expected)
        for job in (None, Job(0, 1, 1, plan)):
            assert stage(Assignment(Part(0, 2), job, plan)) == [run.digests.run for run in expected]
            assert not list((results / "tiny").glob(".plan-*")), "a worker announces nothing, and takes nothing back"
    assert search.expected(runs, results) == [*searching, *chosen], "not the first cell, where another one is chosen"


def test_a_study_that_chooses_says_all_that_it_comes_to(command, trained, tmp_path):
    seen = []

    def watch(run: Run) -> dict:
        seen.append(len(plans.read(tmp_path / "results" / "tiny")))
        return act(run)

    trained.act = watch
    command(RATES, "--config.model.attention=conv+full", *SEARCH, "--seeds=3")
    assert seen == [9] * 9 and not plans.read(tmp_path / "results" / "tiny")


def test_of_several_studies_each_chooses_by_its_own_runs(command, trained, tmp_path):
    """One searches on seeds of its own; what it has searched chooses nothing in the other."""
    trained.act = act
    model = "--config.model.attention=conv+full"
    assert command("--vary=train.learning_rate=0.001|0.1", model, *SEARCH, "--seeds=2", "--config.name=a")[0] == 0

    def other(run: Run) -> dict:
        return RESULT | {"validation_accuracy": 0.99 if run.train.learning_rate == 0.01 else 0.4}

    trained.act = other
    flags = ("--select=train.learning_rate", "--seeds=2", "--config.name=b")
    assert command("--vary=train.learning_rate=0.1|0.01", model, *flags)[0] == 0
    folders = [tmp_path / "results" / name for name in "ab"]
    assert read_study(folders[1]).rows[0].choices[0].value == 0.01
    chosen = {row.varied["study"]: row.config["train.learning_rate"] for row in read_study(*folders).rows}
    assert chosen["b"] == 0.01 and "a, b" not in chosen


def said(text: str) -> str:
    return " ".join(text.split())


def test_a_table_says_where_what_is_chosen_among_has_changed(command, trained):
    """A value that did not run on the seeds that choose is not chosen, however well it does elsewhere."""
    trained.act = lambda run: RESULT | {"validation_accuracy": run.train.learning_rate}
    model, passed = "--config.model.attention=conv+full", "1 row for which another value than the chosen one"
    _, out, _ = command("--vary=train.learning_rate=0.001|0.01", model, *SEARCH, "--seeds=2")
    assert passed not in said(out) and "to select" not in out
    _, out, _ = command("--vary=train.learning_rate=0.01|0.1", model, SEARCH[0], "--seeds=2")
    assert passed in said(out)


def test_a_table_says_where_commands_selected_otherwise(command, trained):
    def grid(rates: str, *flags: str) -> str:
        vary = f"--vary=train.learning_rate={rates}"
        return said(command(vary, "--config.model.attention=conv+full", "--seeds=2", *flags)[1])

    assert "to select" not in grid("0.001|0.01|0.1", "--select=train.learning_rate")
    assert "Some runs were trained to select nothing and train.learning_rate, each" in grid("0.001|0.01")


@pytest.mark.parametrize(
    "accuracies, steps, gain",
    [
        ([0.1, 0.5, 0.9], 300, None),  # one evaluation in the last 60 steps
        ([0.1, 0.3, 0.5, 0.7, 0.9], 500, 0.2),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9], 1000, 0.1),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9, 0.9, 0.9], 1000, 0.0),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9], 2000, 0.0),  # it stopped, because it solves its task
        ([None] * 10, 1000, None),
    ],
)
def test_a_curve_that_has_not_flattened_is_seen(accuracies, steps, gain):
    rows = [{"step": 100 * place, "validation_accuracy": value} for place, value in enumerate(accuracies, start=1)]
    row = Row(
        config={"train.steps": steps, "eval.validation_rows": 2000},
        varied={},
        results=({},),
        metrics=(rows,),
        seeds=(0,),
        environments=(0,),
        setups=(),
    )
    assert row.late_gain == (None if gain is None else pytest.approx(gain))
    assert row.still_improving == (gain is not None and gain > 0.01)
    noisy = dataclasses.replace(row, config=row.config | {"eval.validation_rows": 7})
    assert noisy.late_gain == row.late_gain and not noisy.still_improving, "7 rows cannot tell"


@pytest.mark.slow
def test_workers_search_and_report_as_one_process_does(tmp_path):
    flags = (RATES, *SEARCH[:1], "--config.study.search_seeds=1", "--seeds=2")
    for name, workers in (("one", 1), ("two", 2)):
        programs = {"programs": tmp_path / "programs", "compiles": name == "one"}
        assert start(tmp_path / name, *flags, f"--workers={workers}", **programs).wait(timeout=600) == 0
    one, two = (read_study(tmp_path / name / "results" / "tiny").rows[0] for name in ("one", "two"))
    assert one.seeds == two.seeds == (0, 1) and len(one.others) == len(two.others) == 3
    assert one.choices[0].value == two.choices[0].value
