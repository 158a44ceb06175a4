"""Reading a run: what is refused, in one line, and what it holds."""

import pytest

from attention_variants.positions import AlibiPosition, NoPosition, RotaryPosition
from attention_variants.variants.differential import DifferentialAttention
from attention_variants.variants.full import FullAttention
from attention_variants.variants.retention import RetentionAttention
from experiments.components.attention import Attention
from experiments.components.schedules import Cosine
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.config.sections import EvalConfig, ModelConfig, TrainConfig


def read(**values):
    return Run.read(Config.from_fields({name.replace("__", "."): value for name, value in values.items()}))


def test_the_defaults_are_read_whole():
    run = read()
    assert run.task.num_pairs == 4 and run.tests == () and run.cross is None and run.encoder == ()
    assert run.layers == (Attention(variant=FullAttention()),) and run.schedule == Cosine()
    assert hash(run) == hash(read()) and run == read() != read(seed=1)
    assert run.cell == read(name="other", seed=3, study__seeds=7).cell != read(model__norm="layer").cell


def test_a_context_is_read_with_the_task_that_has_one():
    run = read(
        task="translation",
        model__cross_attention="full:block_size=7",
        model__encoder="full+lstm",
        model__position="rope",
        model__short_conv=3,
    )
    assert run.cross == Attention(variant=FullAttention(block_size=7)) and len(run.encoder) == 2
    sizes = run.built[0][1]
    assert (sizes.position, sizes.options.short_conv) == (RotaryPosition(), 3)
    assert (run.cross_sizes.position, run.cross_sizes.options.short_conv) == (NoPosition(), 0)


def test_presets_and_positions_go_over_the_layers_in_turn():
    run = read(
        model__attention="conv+gated_delta+differential+full",
        model__layer="plain+paper",
        model__position="none+none+rope",
        model__num_layers=7,
        model__output_norm="all",
    )
    variants = [getattr(mixer, "variant", None) for mixer in run.layers]
    assert [sizes.options.qkv_conv for _, sizes in run.built] == [0, 4, 0, 0, 0, 4, 0]
    assert [sizes.options.output_norm for _, sizes in run.built] == ["all"] * 7, "own options take precedence"
    assert [type(sizes.position) for _, sizes in run.built] == [
        *[NoPosition, NoPosition, RotaryPosition] * 2,
        NoPosition,
    ]
    assert variants[2] == DifferentialAttention() and variants[6] == DifferentialAttention()
    assert run.position == NoPosition()


def test_a_paper_brings_its_position_and_its_depth():
    published = read(model__attention="retention+differential", model__layer="paper")
    assert [type(sizes.position) for _, sizes in published.built] == [RotaryPosition, NoPosition]
    assert published.layers[1].variant.initial_share == DifferentialAttention().at_depth(1).initial_share != 0.8
    own = read(model__attention="retention", model__layer="paper", model__position="alibi").built[0][1]
    assert own.position == AlibiPosition() and own.options == RetentionAttention().paper_layer


def test_widths_of_heads_are_those_asked_for():
    sizes = [read(**given).built[0][1].heads for given in ({}, dict(model__head_dim=16), dict(model__value_dim=8))]
    assert [heads[2:] for heads in sizes] == [(32, 32), (16, 16), (32, 8)]
    assert read(model__num_heads=3, model__head_dim=16).built[0][1].heads == (3, 3, 16, 16)


BAD = {
    "an unknown task": (dict(task="mqr"), "'mqr'", "mqar"),
    "an unknown task field": (dict(task="mqar:num_pair=2"), "'num_pair'", "num_pairs"),
    "an unknown position": (dict(model__position="rop"), "'rop'", "rope"),
    "an unknown norm": (dict(model__norm="rsm"), "model.norm: unknown norm 'rsm'", "rms"),
    "an unknown optimizer": (dict(train__optimizer="adam"), "train.optimizer: unknown optimizer 'adam'", "adamw"),
    "an unknown field of an optimizer": (dict(train__optimizer="adamw:beta=1"), "train.optimizer", "'beta'", "beta2"),
    "a field out of range": (dict(train__optimizer="adamw:beta2=1"), "train.optimizer: adamw: `beta2`", "1.0"),
    "an unknown schedule": (dict(train__schedule="cos"), "train.schedule: unknown schedule 'cos'", "cosine"),
    "heads that do not divide": (dict(model__num_heads=3), "`model.num_heads`", "64"),
    "grouped heads that do not divide": (dict(model__num_heads=4, model__num_kv_heads=3), "`model.num_kv_heads`", "3"),
    "no heads": (dict(model__num_heads=0), "`model.num_heads`", "0"),
    "a convolution that is too long": (dict(model__short_conv=65), "`model.short_conv`", "65"),
    "a preset that is none": (dict(model__layer="papr"), "unknown model.layer 'papr'", "paper"),
    "more presets than layers": (
        dict(model__layer="paper+plain"),
        "model.layer",
        "at most one for each of the 1 layers; got 2",
    ),
    "more positions than layers": (dict(model__position="rope+none"), "model.position", "1 layers; got 2"),
    "positions of layers that act at the input": (
        dict(model__attention="full+full", model__position="rope+learned"),
        "model.position=rope+learned: only encodings that act in attention can differ between layers",
    ),
    "an option that is of no use": (dict(model__conv_silu=True), "`conv_silu` needs `qkv_conv`, which is off"),
    "a gate that is none": (
        dict(model__output_gate="relu"),
        "`output_gate` must be one of none, sigmoid, silu",
        "'relu'",
    ),
    "widths that do not divide": (dict(model__value_expansion=0.3), "`value_expansion` 0.3", "model_dim 64"),
    "a head that is too wide": (dict(model__head_dim=65537), "`model.head_dim`", "65537"),
    "a skip that is too long": (dict(model__skip=65), "`model.skip`", "65"),
    "no steps": (dict(train__steps=0), "`train.steps`", "0"),
    "negative steps": (dict(train__eval_every=-1), "`train.eval_every`", "-1"),
    "a warm-up longer than the run": (dict(train__steps=10), "train.schedule: warmup_steps", "100 and 10"),
    "a dtype that is none": (dict(train__dtype="float16"), "unknown train.dtype 'float16'", "bfloat16"),
    "no rate": (dict(train__learning_rate=0.0), "`train.learning_rate`", "0.0"),
    "negative decay": (dict(train__optimizer="adamw:weight_decay=-0.1"), "`weight_decay`", "-0.1"),
    "accuracy above 1": (dict(train__solved_at=99), "`train.solved_at`", "99"),
    "no rows": (dict(eval__test_rows=0), "`eval.test_rows`", "0"),
    "a shifted task that is none": (dict(eval__shifted="mqr"), "'mqr'", "mqar"),
    "a shifted task of other tokens": (dict(eval__shifted="mqar:vocab_size=99"), "mqar:vocab_size=99", "128; got 99"),
    "a shifted task twice": (dict(eval__shifted="mqar|mqar:length=64"), "`eval.shifted` gives the task mqar twice"),
    "too many layers": (dict(model__attention="+".join(["full"] * 257)), "at most 256 layers", "257"),
    "more specs than layers": (dict(model__attention="conv+full", model__num_layers=1), "at least 2", "got 1"),
    "a negative seed": (dict(seed=-1), "`seed`", "-1"),
    "a huge seed": (dict(seed=2**31), "`seed`", "2147483648"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_get_one_line_that_names_them(case):
    values, *expected = BAD[case]
    with pytest.raises(ValueError) as caught:
        read(**values)
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message


def test_types_are_checked_where_python_builds_a_config():
    for config in (
        Config(model=ModelConfig(model_dim="64")),
        Config(train=TrainConfig(steps=2.0)),
        Config(eval=EvalConfig(test_rows=True)),
    ):
        with pytest.raises(ValueError, match="must be an integer"):
            Run.read(config)
