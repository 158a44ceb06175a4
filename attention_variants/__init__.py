"""Efficient attention variants behind one Flax interface."""
