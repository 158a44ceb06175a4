"""Tasks on small images."""
