import pytest

from experiments.reporting.plan import _spans, duration, plan_text
from experiments.studies.estimates import CellEstimate, StudyEstimate
from experiments.studies.speeds import Speed, Speeds

COST = {
    "params": 37_312,
    "control_params": 0,
    "train_flops_executed": 1e12,
    "train_flops_ideal": 8e11,
    "forward_flops_per_token": 74_752,
    "cache_bytes": 66_304,
}
SPEED = Speed("full", "mqar", 1e9, None, {"device": "a stopwatch"})


def test_a_line_for_each_cell_and_the_total():
    cells = [
        CellEstimate("conv+full", [0, 1, 2], COST, 2_000_000, [1.234, 0.19], 1000.0),
        CellEstimate("conv+linear  steps=9", [0], COST, 3, [42.3], 60.0),
    ]
    heading, full, linear, end, time, _ = plan_text(StudyEstimate(cells, Speeds([SPEED]))).splitlines()
    assert (
        heading.split()
        == "run seeds params controls train FLOPs ideal forward/token state memory >= time start".split()
    )
    assert full.split()[:-2] == "conv+full 0-2 37.3k 0 1T 800G 74.8k 66.3 kB 2 MB 17".split()
    assert full.endswith("2 MB       17 min  1.2+0.19")
    assert linear.endswith("66.3 kB  3 B        60 s    42")
    assert full.index("0-2") == heading.index("seeds")
    assert end == "4 runs, at most 4T training FLOPs in total (a run that solves its task stops)."
    assert time == (
        "Time: about 51 min, one run at a time, by the speed of 1 ended run on a stopwatch; compilation and "
        "evaluation come on top."
    )


def test_a_whole_time_says_no_more_and_an_unknown_one_says_so():
    cell = CellEstimate("full", [7], COST, 5, [1], None)
    lines = plan_text(StudyEstimate([cell], Speeds([]))).splitlines()
    assert lines[-3].startswith("1 run, at most 1T") and lines[-2].startswith("Time: unknown until a run")
    whole = plan_text(StudyEstimate([cell._replace(seconds=9.0)], Speeds([SPEED._replace(other_seconds=4.0)])))
    assert whole.splitlines()[-2].endswith("on a stopwatch.")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (36000, "10 h"),
        (400000, "4.6 days"),
    ],
)
def test_durations_are_said_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seeds", "text"),
    [([7], "7"), ([3, 4], "3,4"), ([0, 2, 3, 5, 6, 7, 11], "0,2,3,5-7,11"), (range(5000), "0-4999"), ([2, 1], "2,1")],
)
def test_seeds_in_a_row_are_a_span(seeds, text):
    assert _spans(list(seeds)) == text
