"""How far back can recall reach? The same eight pairs over 64 to 512 tokens, five seeds.

More filler between the pairs and their queries means more distance to look back; all else stays the same. The study
follows configs/protocol.py. Hours on two cores; an interrupted study continues:

    python -m experiments.run --config=configs/mqar.py
"""

import ml_collections

from configs import base, protocol


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: four kinds of attention at four lengths, 144 runs."""
    config = base.get_config()
    config.name = "mqar"
    config.model.num_heads = 1
    config.train.steps = 1000
    config.eval.validation_rows = 256
    config.eval.test_rows = 1024
    config.study.vary = (
        "task=mqar:length=64,num_pairs=8,vocab_size=640|mqar:length=128,num_pairs=8,vocab_size=640"
        "|mqar:length=256,num_pairs=8,vocab_size=640|mqar:length=512,num_pairs=8,vocab_size=640",
        "model.attention=conv+full"
        "|conv+sliding_window:window_size=64"
        "|conv+bigbird:window_size=32,num_global=8,num_random=1,block_size=32"
        "|conv+linear:chunk_size=64",
    )
    return protocol.follow(config)
