"""Synthetic long-range tasks, made on device."""
