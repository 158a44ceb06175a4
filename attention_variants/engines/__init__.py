"""How: the few fast algorithms that the variants are made of."""
