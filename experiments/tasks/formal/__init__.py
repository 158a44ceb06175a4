"""Formal languages and algorithms on strings."""
