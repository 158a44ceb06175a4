"""Tasks that ask for what was bound to a key, or followed it."""
