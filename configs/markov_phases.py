"""How does attention learn statistics in context? Markov chains of three symbols, with one layer and with two.

A model that counts symbols is at the unigram floor; one that counts what follows the present symbol is at the Bayes
posterior. Published: two layers of attention first stay at unigram statistics and then move on to bigrams; one
layer stays at unigrams (Edelman et al. 2024, arXiv:2402.11004). The loss is the divergence from the posterior:

    python -m experiments.run --config=configs/markov_phases.py
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: full attention with one head, one or two layers, three seeds."""
    config = base.get_config()
    config.name = "markov_phases"
    config.task = "markov_icl"
    config.model.attention = "full"
    config.model.num_heads = 1
    config.model.position = "rope"
    config.train.steps = 3000
    config.train.eval_every = 50
    config.train.stop_when_solved = False
    config.study.seeds = 3
    config.study.vary = ("model.num_layers=1|2", "train.learning_rate=0.001|0.003|0.01")
    config.study.select = ("train.learning_rate",)
    return config
