import copy

import pytest

from configs import base
from experiments.config import schema as settings


def changed(**values):
    config = base.get_config().to_dict()
    for path, value in values.items():
        *sections, name = path.split("__")
        target = config
        for section in sections:
            target = target[section]
        target[name] = value
    return config


def test_the_base_config_is_read_whole():
    run = settings.read(base.get_config().to_dict())
    assert run.task.num_pairs == 4
    assert run.model.attention == "full"
    assert run.train.learning_rate == 3e-3
    assert run == settings.read(changed(name="other", study__seeds=7)), "name and study are no part of a run"


BAD = {
    "a misspelt section field": (dict(model__num_head=2), "model.num_head", "model.num_heads"),
    "a misspelt key": (dict(sed=1), "'sed'", "seed"),
    "no spec": (dict(task=3), "`task`", "3"),
    "an unknown task": (dict(task="mqr"), "'mqr'", "mqar"),
    "an unknown task field": (dict(task="mqar:num_pair=2"), "'num_pair'", "num_pairs"),
    "an unknown position": (dict(model__position="rop"), "'rop'", "rope"),
    "heads that do not divide": (dict(model__num_heads=3), "`model.num_heads`", "64"),
    "grouped heads that do not divide": (dict(model__num_heads=4, model__num_kv_heads=3), "`model.num_kv_heads`", "3"),
    "no heads": (dict(model__num_heads=0), "`model.num_heads`", "0"),
    "a number as text": (dict(model__model_dim="64"), "`model.model_dim`", "'64'"),
    "a flag as text": (dict(model__qk_norm="yes"), "`model.qk_norm`", "true or false"),
    "a fraction of a head": (dict(model__num_heads=2.0), "`model.num_heads`", "2.0"),
    "no steps": (dict(train__steps=0), "`train.steps`", "0"),
    "negative steps": (dict(train__eval_every=-1), "`train.eval_every`", "-1"),
    "warm-up longer than the run": (dict(train__steps=10), "`train.warmup_steps`", "100"),
    "a NaN rate": (dict(train__learning_rate=float("nan")), "`train.learning_rate`", "nan"),
    "an infinite rate": (dict(train__learning_rate=float("inf")), "`train.learning_rate`", "inf"),
    "no rate": (dict(train__learning_rate=0.0), "`train.learning_rate`", "0.0"),
    "negative decay": (dict(train__weight_decay=-0.1), "`train.weight_decay`", "-0.1"),
    "accuracy above 1": (dict(train__solved_at=99), "`train.solved_at`", "99"),
    "no rows": (dict(eval__test_rows=0), "`eval.test_rows`", "0"),
    "a shifted task that is none": (dict(eval__shifted="mqr"), "'mqr'", "mqar"),
    "shifted tasks as a list": (dict(eval__shifted=["mqar"]), "`eval.shifted`", "text"),
    "a shifted task of other tokens": (dict(eval__shifted="mqar:vocab_size=99"), "mqar:vocab_size=99", "64; got 99"),
    "a negative seed": (dict(seed=-1), "`seed`", "-1"),
    "a huge seed": (dict(seed=2**31), "`seed`", "2147483648"),
    "no section": (dict(train=5), "`train`", "5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_get_one_line_that_names_them(case):
    values, *expected = BAD[case]
    with pytest.raises(ValueError) as caught:
        settings.read(changed(**values))
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message


def test_a_missing_key_is_named():
    config = copy.deepcopy(base.get_config().to_dict())
    del config["train"]["clip_norm"]
    with pytest.raises(ValueError, match="train.clip_norm"):
        settings.read(config)
