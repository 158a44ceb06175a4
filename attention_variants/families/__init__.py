"""Base classes: what variants of one kind share, and the decoding caches that several of them use."""
