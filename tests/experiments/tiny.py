"""A config small enough to train in a test; its sizes are distinct."""

from configs import base


def tiny_config(**values):
    """Returns the base config at a tiny size, changed by `section__field=value`."""
    config = base.get_config().to_dict()
    config["task"] = "mqar:length=14,num_pairs=3,vocab_size=22"
    config["model"] |= {"attention": "conv+full", "model_dim": 12, "num_heads": 3}
    config["train"] |= {"batch_size": 5, "steps": 7, "warmup_steps": 2, "eval_every": 3}
    config["eval"] |= {"batch_size": 8, "validation_rows": 13, "test_rows": 19}
    for path, value in values.items():
        *sections, name = path.split("__")
        target = config
        for section in sections:
            target = target[section]
        assert name in target, path
        target[name] = value
    return config
