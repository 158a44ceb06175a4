"""The schema: fields say their own default and meaning, and values are read in the field's type."""

import pytest

from attention_variants.specs import SpecError
from configs import base
from experiments.config import schema
from experiments.config.schema import Config


def test_every_field_has_a_default_of_its_type_and_a_meaning_on_one_line():
    for key, field in schema.declared().items():
        assert type(field.default) in (str, int, float, bool, tuple), key
        meaning = field.metadata["meaning"]
        assert meaning and "\n" not in meaning and not meaning.endswith("."), key
    text = schema.describe_fields()
    assert all(f"{key}=" in text for key in schema.declared())


def test_the_base_config_is_the_schema():
    assert schema.flatten(base.get_config().to_dict()) == schema.default_fields()
    assert Config.from_fields(schema.default_fields()) == Config()


def test_fields_survive_a_round_trip():
    config = Config.from_fields({"model.attention": "linear", "study.vary": "a=1|2, b=3", "train.learning_rate": 1})
    assert config == Config.from_fields(config.fields() | {"study.vary": "('a=1|2', 'b=3')"})
    assert config.study.vary == ("a=1|2", "b=3") and type(config.train.learning_rate) is float
    assert Config.from_fields(config.fields()) == config and hash(config)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("model.num_head", 2, "'model.num_head'; nearest valid keys: .*model.num_heads"),
        ("sed", 1, "'sed'.*seed"),
        ("lr", 1, "'lr'; nearest valid keys: train.learning_rate"),
        ("steps", 1, "'steps'; nearest valid keys: train.steps"),
        ("train", 5, "'train' is a section; set one of its fields: train.batch_size"),
        ("train.warmup_steps", 5, "field of a spec: train.schedule=cosine:warmup_steps"),
        ("task", 3, "task must be a string; got 3"),
        ("model.model_dim", "many", "model.model_dim must be an integer; got 'many'"),
        ("model.qk_norm", 1, "model.qk_norm must be true or false; got 1"),
        ("model.num_heads", 2.0, "model.num_heads must be an integer; got 2.0"),
        ("train.learning_rate", float("nan"), "train.learning_rate must be a finite number; got nan"),
        ("eval.shifted", ["mqar"], "eval.shifted must be a string"),
        ("study.select", (1,), "study.select must be a tuple of strings"),
    ],
)
def test_a_wrong_key_or_value_is_one_line(key, value, message):
    with pytest.raises(SpecError, match=message) as caught:
        Config.from_fields({key: value})
    assert "\n" not in str(caught.value)
