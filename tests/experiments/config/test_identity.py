"""Digests: the same for equal runs however they are spelt, different for different ones."""

import pathlib

import pytest

from attention_variants.layer_options import LayerOptions
from attention_variants.variants.delta import DeltaAttention
from experiments.config import identity, schema
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.studies import archive
from experiments.tasks.recall.mqar import MQAR
from experiments.training import step

REFERENCE = pathlib.Path(__file__).parents[3] / "results" / "reference"
# Tasks of committed results that are refused today: as many kinds of tokens as tokens. Tables and reports read them.
REFUSED = {
    "mqar:length=128,num_pairs=8,vocab_size=128",
}


def digests(**values):
    return Run.read(Config.from_fields({name.replace("__", "."): value for name, value in values.items()})).digests


SAME = {
    "a task's defaults": (dict(task="mqar"), dict(task="mqar: num_pairs=4 , length=64")),
    "a variant's defaults": (dict(model__attention="conv + full"), dict(model__attention="conv+full:block_size=512")),
    "a mixer's defaults": (dict(model__attention="conv+full"), dict(model__attention="conv:kernel_size=3+full")),
    "a position's defaults": (dict(model__position="rope"), dict(model__position="rope:base=10000")),
    "a norm's defaults": (dict(model__norm="rms"), dict(model__norm="rms:epsilon=1e-6")),
    "an optimizer's defaults": (dict(train__optimizer="lion"), dict(train__optimizer="lion:beta2=0.99")),
    "a schedule's defaults": (dict(train__schedule="wsd"), dict(train__schedule="wsd:decay=0.2")),
    "an encoder's defaults": (dict(task="translation"), dict(task="translation", model__encoder="full:block_size=512")),
    "a cross-attention's defaults": (
        dict(task="translation", model__cross_attention="topk"),
        dict(task="translation", model__cross_attention="topk:num_keys=32"),
    ),
    "key-value heads": (dict(), dict(model__num_kv_heads=2)),
    "the number of layers": (
        dict(model__attention="conv+full"),
        dict(model__attention="conv+full", model__num_layers=2),
    ),
    "layers that repeat": (dict(model__attention="full+full"), dict(model__attention="full", model__num_layers=2)),
    "positions that repeat": (
        dict(model__attention="full+linear", model__position="rope+ rope:base=10000"),
        dict(model__attention="full+linear", model__position="rope"),
    ),
    "presets that repeat": (
        dict(model__attention="full+linear", model__layer="plain+plain"),
        dict(model__attention="full+linear"),
    ),
    "zeros": (dict(train__solved_at=0.0), dict(train__solved_at="-0.0")),
    "shifted tasks": (dict(eval__shifted="mqar:num_pairs=2"), dict(eval__shifted=" mqar:length=64,num_pairs=2")),
    "lengths": (dict(eval__test_lengths="32,64"), dict(eval__test_lengths="64, 32,32")),
    "name and study": (dict(name="one"), dict(name="two", study__seeds=7)),
    "what is spent alike": (dict(), dict(match="params", study__match_target=7, study__match_by="model.mlp_dim")),
    "what is kept": (dict(), dict(train__keep_checkpoints="every")),
}


@pytest.mark.parametrize("case", SAME)
def test_equal_runs_have_equal_digests(case):
    one, other = (digests(**values) for values in SAME[case])
    assert one == other


def test_what_is_kept_tells_no_cells_apart_and_compiles_nothing_new():
    last, every = (Run.read(Config.from_fields({"train.keep_checkpoints": kept})) for kept in ("last", "every"))
    assert last.cell == every.cell and step.compiled_part(last) == step.compiled_part(every)
    assert schema.cell_fields(last.config.fields()) == schema.cell_fields(every.config.fields())


def test_different_runs_have_different_digests():
    different = [
        {},
        dict(seed=1),
        dict(train__steps=700),
        dict(train__learning_rate=0.1),
        dict(train__optimizer="adamw:beta2=0.98"),
        dict(train__optimizer="adamw:weight_decay=0.2"),
        dict(train__optimizer="sgd"),
        dict(train__schedule="cosine:warmup_steps=10"),
        dict(train__schedule="linear"),
        dict(train__dtype="bfloat16"),
        dict(model__attention="linear"),
        dict(model__norm="layer"),
        dict(model__position="rope"),
        dict(model__attention="full+linear", model__position="rope+none"),
        dict(model__attention="full+linear", model__position="none+rope"),
        dict(model__layer="paper"),
        dict(model__attention="delta", model__layer="paper"),
        dict(model__attention="delta", model__qkv_conv=4),
        dict(model__head_dim=16),
        dict(model__bidirectional=True),
        dict(task="mqar:num_pairs=3"),
        dict(eval__shifted="mqar:num_pairs=2"),
        dict(eval__test_lengths="32"),
    ]
    found = [digests(**values) for values in different]
    assert len({each.run for each in found}) == len(different)
    assert len({each.cell for each in found}) == len(different) - 1, "the seed is no part of a cell"
    assert found[0].cell == found[1].cell


def test_a_change_of_a_preset_is_another_run(monkeypatch):
    fields = dict(model__attention="delta", model__layer="paper")
    before, plain = digests(**fields), digests(model__attention="delta")
    monkeypatch.setattr(DeltaAttention, "paper_layer", LayerOptions(output_norm="all"))
    assert digests(**fields) != before and digests(model__attention="delta") == plain


def test_what_computes_other_numbers_under_the_same_spec_is_another_run(monkeypatch):
    revised = [
        dict(model__attention="conv+rwkv6"),
        dict(model__attention="full", model__position="randomized:encoding=t5"),
        dict(task="translation", model__cross_attention="hedgehog"),
        dict(task="translation", model__encoder="full+differential"),
    ]
    after, plain = [digests(**fields) for fields in revised], digests(model__attention="conv+linear")
    monkeypatch.setattr(identity, "_REVISIONS", {})
    assert not set(after) & {digests(**fields) for fields in revised}
    assert digests(model__attention="conv+linear") == plain


def test_another_version_of_training_or_task_is_another_run(monkeypatch):
    names = {digests().run}
    monkeypatch.setattr(MQAR, "version", MQAR.version + 1)
    names.add(digests().run)
    monkeypatch.setattr(identity, "FORMAT", identity.FORMAT + 1)
    names.add(digests().run)
    assert len(names) == 3


# Configs of today, and the digests of their rows and functions before some default changed: then each was spelled so
# that it named the same. "mqar" alone was another task then, and "cosformer" another function.
OLDER_DEFAULTS = {
    "28da4294cbea": dict(task="mqar"),  # vocab_size was 64
    "c5eb54dd483a": dict(task="mqar:power=1"),
    "eb8c6667a5da": dict(task="mqar:length=128,vocab_size=512"),
    "d5c97da059b4": dict(task="mqar", eval__shifted="mqar:num_pairs=2"),
    "da09668b2cea": dict(task="mqar", model__attention="conv+cosformer"),  # horizon was 16384
    "057b6ff049ed": dict(task="mqar", model__attention="cosformer:horizon=16384"),
}


@pytest.mark.parametrize("name", OLDER_DEFAULTS)
def test_another_default_gives_no_run_the_name_of_another(name):
    assert digests(**OLDER_DEFAULTS[name]).run == name


def test_committed_runs_keep_their_names():
    """A reference study can be continued without repeating what is there."""
    archives = [archive.open_archive(study) for study in REFERENCE.iterdir()]
    results = [run.read("result.json") or {} for runs in archives for run in runs]
    assert {result["config"]["task"] for result in results} >= REFUSED
    results = [result for result in results if result["config"]["task"] not in REFUSED]
    assert len(results) > 50
    for result in results:
        run = Run.read(Config.from_nested(result["config"]))
        used = f"{run.config.model.attention} {run.config.model.position}"
        revised = any(name in used for name in identity._REVISIONS)  # since the run, or before
        assert (result["run_id"], result["cell"]) == run.digests or revised
