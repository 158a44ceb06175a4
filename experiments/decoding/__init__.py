"""Token by token: a trained model decoded with its cache, checked against the parallel pass, scored and timed."""
