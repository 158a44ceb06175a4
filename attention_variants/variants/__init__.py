"""What: one file per paper."""
