import pytest

from experiments.reporting.plan import Planned, _spans, plan_text


def test_a_line_for_each_cell_and_the_total():
    cost = {
        "params": 37_312,
        "control_params": 0,
        "train_flops_executed": 1e12,
        "train_flops_ideal": 8e11,
        "forward_flops_per_token": 74_752,
        "cache_bytes": 66_304,
    }
    cells = [
        Planned("conv+full", [0, 1, 2], cost, 2_000_000, [1.234, 0.19]),
        Planned("conv+linear  steps=9", [0], cost, 3, [42.3]),
    ]
    heading, full, linear, end, _ = plan_text(cells).splitlines()
    assert heading.split() == "run seeds params controls train FLOPs ideal forward/token state memory >= start".split()
    assert full.split()[:-2] == ["conv+full", "0-2", "37.3k", "0", "1T", "800G", "74.8k", "66.3", "kB", "2"]
    assert (
        full.endswith("2 MB       1.2+0.19")
        and linear.endswith("66.3 kB  3 B        42")
        and full.index("0-2") == heading.index("seeds")
    )
    assert end == "4 runs, at most 4T training FLOPs in total (a run that solves its task stops)."
    assert plan_text([Planned("full", [7], cost, 5, [1])]).splitlines()[-2].startswith("1 run, at most 1T")


@pytest.mark.parametrize(
    ("seeds", "text"),
    [([7], "7"), ([3, 4], "3,4"), ([0, 2, 3, 5, 6, 7, 11], "0,2,3,5-7,11"), (range(5000), "0-4999"), ([2, 1], "2,1")],
)
def test_seeds_in_a_row_are_a_span(seeds, text):
    assert _spans(list(seeds)) == text
