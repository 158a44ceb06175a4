"""How fast: attention, training steps and the generation of data."""
