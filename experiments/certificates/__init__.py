"""Published numbers and claims, and what this code gives for them."""
