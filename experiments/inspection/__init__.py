"""Looking inside a trained model: what its heads look at, and what they are there for."""
