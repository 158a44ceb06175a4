"""How does a window hybrid divide the work? A window and full attention in two layers, in both orders.

The induction circuit needs a look at the token before, which a window allows, and then a look at any distance, which it
does not. So a window should suffice in layer 1 and not in layer 2. Both orders are compared with two layers of either
kind; layers have one head, so that their part can be read off their scores and off the accuracy without them:

    python -m experiments.run --config=configs/window_hybrid.py
    python -m experiments.inspect results/window_hybrid --attention='full+sliding_window' --where='task=mqar*'
"""

import ml_collections

from configs import head_specialisation


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: four models on two tasks, three seeds each, trained as those of `head_specialisation`."""
    config = head_specialisation.get_config()
    config.name = "window_hybrid"
    config.model.num_heads = 1
    tasks, *_, rates = config.study.vary
    config.study.vary = (
        tasks,
        "model.attention=full+full"
        "|sliding_window:window_size=8+full"
        "|full+sliding_window:window_size=8"
        "|sliding_window:window_size=8+sliding_window:window_size=8",
        rates,
    )
    return config
