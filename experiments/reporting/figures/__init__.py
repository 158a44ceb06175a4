"""The pictures of a study, one file for each kind."""
