"""Rows that spend the same: what is solved for, what stays as it is, and what is refused."""

import dataclasses
import re

import pytest

from attention_variants.interface import HeadSizes
from attention_variants.registry import VARIANTS
from experiments.analysis import compute, spending
from experiments.config import schema, sections
from experiments.config.run import Run
from experiments.studies import grid, matching
from experiments.training import loop
from tests.experiments.tiny import tiny_config

TEN = "full|sliding_window:window_size=4|bigbird:window_size=3,num_global=1,num_random=1,block_size=4|topk:num_keys=3"
TEN += "|lsh:bucket_size=3,num_buckets=4,num_hashes=2|linear|performer|gated_linear|delta|taylor"
WIDE = {"model__model_dim": 48, "model__num_heads": 2, "task": "mqar:length=32,num_pairs=4,vocab_size=40"}


def rows(vary, **values):
    """Returns the configs of a study of such attention."""
    return grid.expand(tiny_config(**WIDE | values), [f"model.attention={vary}"])


def spent(config):
    return spending.QUANTITIES[config.match](Run.read(config))


def test_every_quantity_can_be_asked_for():
    assert [sections.NONE, *spending.QUANTITIES] == list(sections.MATCHES)


@pytest.mark.slow
@pytest.mark.parametrize("quantity", spending.QUANTITIES)
def test_ten_variants_spend_the_same(quantity):
    found = rows(TEN, match=quantity)
    assert len(found) == 10 and found[0].study.match_by == ""
    for config in found:
        assert config.study.match_target == spent(found[0])
        assert spent(config) == pytest.approx(spent(found[0]), rel=spending.TOLERANCE)
        loop.validate(Run.read(config))
    unmatched = [dataclasses.replace(config, match=quantity) for config in rows(TEN)]
    assert any(abs(spent(config) / spent(found[0]) - 1) > spending.TOLERANCE for config in unmatched)


# What a row is matched to, the row, its other fields; what it becomes. Sizes are prime to each other where they can be.
SOLVED = {
    "a window that is left open": ("state", "linear", "sliding_window", {}, "sliding_window:window_size=12"),
    "features": ("state", "linear", "performer", {}, "performer:num_features=24"),
    "both of two equal specs": (
        "state",
        "linear+linear",
        "sliding_window+sliding_window",
        {},
        "sliding_window:window_size=12+sliding_window:window_size=12",
    ),
    "the open one of two": (
        "state",
        "linear+linear",
        "sliding_window:window_size=6+sliding_window",
        {},
        "sliding_window:window_size=6+sliding_window:window_size=19",
    ),
    "a window that is given stays": ("state", "full", "sliding_window:window_size=8", {}, {"model.head_dim": 96}),
    "what is asked for": ("state", "full", "linear", {"study__match_by": "model.value_dim"}, {"model.value_dim": 63}),
    "an MLP before the width": ("params", "full", "gated_linear", {"model__mlp_dim": 60}, {"model.mlp_dim": 44}),
    "the heads where the width is too coarse": ("params", "full", "gated_linear", {}, {"model.head_dim": 20}),
    "a width for a network that is no attention": ("params", "full", "lstm", {}, {"model.model_dim": 36}),
}


@pytest.mark.parametrize("name", SOLVED)
def test_what_is_solved_for(name):
    quantity, first, other, values, becomes = SOLVED[name]
    before, after = (rows(f"{first}|{other}", match=each, **values) for each in ("none", quantity))
    assert cells(after[:1]) == cells(before[:1]), "the first row stays as it is"
    changed = {key: new for key, new in cells(after)[1].items() if new != cells(before)[1][key]}
    assert changed == (becomes if isinstance(becomes, dict) else {"model.attention": becomes})
    (label, record), *_ = [each for each in matching.records(read(after)) if each[1]["by"]]
    assert label == after[1].model.attention and record["spent"] == spent(after[1])
    assert record["target"] == spent(after[0]) and record["mismatch"] == spent(after[1]) / spent(after[0]) - 1


def cells(configs):
    return [schema.cell_fields(config.fields()) for config in configs]


def read(configs):
    return [Run.read(config) for config in configs]


def test_a_solved_row_is_a_row_like_any_other():
    """It has the names of the row whose config spells the solved values out, whatever else is matched in its study."""
    first, solved = rows("linear|sliding_window", match="state", seed=3)
    spelled = rows("linear|sliding_window:window_size=12", seed=3)
    assert [run.digests for run in read([first, solved])] == [run.digests for run in read(spelled)]
    assert Run.read(solved).cell == Run.read(spelled[1]).cell
    assert len({run.digests.run for run in read(rows("sliding_window|linear"))} & {Run.read(solved).digests.run}) == 0


def test_what_the_study_varies_stays():
    """Depth against width at equal parameters: the width is varied, so the heads are solved for."""
    vary = ["model.num_layers=1|2", "model.model_dim=48"]
    first, deep = grid.expand(tiny_config(**WIDE, match="params", model__attention="full"), vary)
    assert deep.model.model_dim == 48 and deep.model.num_layers == 2 and deep.model.head_dim not in (0, 24)
    assert spent(deep) == pytest.approx(spent(first), rel=0.05)


def test_every_task_has_a_first_row_and_every_seed_and_rate_the_same_solution():
    tasks = "|".join(f"mqar:length={length},num_pairs=4,vocab_size=70" for length in (32, 64))
    vary = [f"task={tasks}", "model.attention=full|linear", "train.learning_rate=0.1|0.2"]
    found = grid.expand(tiny_config(**WIDE | {"task": "mqar"}, match="state"), vary, seeds=2)
    assert len(found) == 16
    by_task = {config.task: config.study.match_target for config in found}
    assert sorted(by_task.values()) == [4 * 2 * 48 * length for length in (32, 64)]
    solved = {(config.task, config.model.attention, config.model.head_dim) for config in found}
    assert len(solved) == 4 and len(matching.records(read(found))) == 4


def test_a_target_of_ones_own_is_for_the_first_row_too():
    found = rows("full|linear", match="params", study__match_target=9000)
    assert all(config.study.match_target == 9000 for config in found)
    assert all(abs(spent(config) / 9000 - 1) <= spending.TOLERANCE for config in found)


def test_a_row_that_cannot_be_read_is_named_by_who_reads_it(command, trained):
    code, _, err = command("--match=params", "--vary=model.attention=full|ful")
    assert code == 2 and "'ful'" in err and err.count("\n") == 1
    code, _, err = command("--match=params", "--vary=model.attention=ful|full")
    assert code == 2 and "'ful'" in err and err.count("\n") == 1 and not trained


@pytest.mark.parametrize(
    "arguments, names",
    [
        (
            ["--match=state", "--vary=model.attention=full|gru", "--config.study.match_by=model.head_dim"],
            ["state", "1 of 2 rows", "5%", "full, the first", "gru is -96.9% off 1,536", "nothing", "match_by"],
        ),
        (
            ["--match=params", "--vary=model.attention=gru|full", "--config.study.match_target=100"],
            ["params", "2 of 2 rows", "study.match_target", "gru is +83.0% off 100", "model_dim=3", "full is"],
        ),
        (["--match=state", "--config.model.bidirectional=true"], ["state", "conv+full", "spends none"]),
        (["--match=parms"], ["--match=parms", "params"]),
        (["--config.match=parms"], ["'parms'", "params"]),
        (["--match=params", "--config.study.match_by=window_size"], ["match_by", "'window_size'", "model.mlp_dim"]),
        (["--match=state", "--config.study.match_by=window"], ["match_by", "'window'", "window_size"]),
        (["--vary=match=params|state"], ["'match'"]),
        (["--match=state", "--config.study.match_target=-1"], ["match_target", "-1"]),
        (["--config.study.match_target=100"], ["--config.study.match_target has no effect without --match"]),
        (["--config.study.match_by=nonsense"], ["--config.study.match_by has no effect without --match"]),
        (["--match=state", "--config.match=flops"], ["match is set by --config.match and by --match"]),
        (["--seeds=3", "--config.study.seeds=5"], ["study.seeds is set by --config.study.seeds and by --seeds"]),
    ],
)
def test_what_cannot_be_matched_is_refused_in_one_line(command, trained, arguments, names):
    code, out, err = command(*arguments)
    assert code == 2 and out == "" and not trained
    assert err.startswith("error: ") and err.count("\n") == 1
    assert [name for name in names if name not in err] == []


def test_the_command_prints_how_far_each_row_is_off_and_does_not_train_twice(command, trained):
    arguments = "--match=state", "--vary=model.attention=full|linear", "--config.model.model_dim=48"
    code, out, _ = command(*arguments, "--dry_run")
    assert code == 0 and not trained
    (line,) = [line for line in out.splitlines() if line.startswith("linear") and "%" in line]
    assert re.search(r" [+-][0-4]\.\d%$", line) and "Matched state: bytes of decoding state." in out
    code, again, _ = command(*arguments)
    assert code == 0 and line in again and len(trained) == 2
    command(*arguments)
    assert len(trained) == 2


def test_a_result_holds_what_its_row_is_off():
    config = tiny_config(match="params", study__match_target=1000, study__match_by="model.model_dim", train__steps=2)
    run = Run.read(config)
    number = sum(compute.parameters(run))
    expected = {"quantity": "params", "target": 1000, "spent": number, "mismatch": number / 1000 - 1}
    assert loop.train(run)["match"] == expected | {"by": "model.model_dim=12"}
    assert spending.matched(Run.read(tiny_config())) is None


SIZED = [name for name, kind in VARIANTS.items() if kind.size_field]


@pytest.mark.parametrize("name", SIZED)
def test_the_size_of_a_variant_decides_what_it_sees_or_carries(name):
    kind = VARIANTS[name]
    heads, causal = HeadSizes(3, 3, 8, 8), kind.supports_causal
    figures = {kind(**{kind.size_field: size}).cost(4096, 4096, heads, causal)[1:] for size in (16, 48)}
    assert len(figures) == 2, f"{kind.size_field} changes neither ideal FLOPs nor the cache"
