"""Synthetic long-range tasks, generated on device."""
