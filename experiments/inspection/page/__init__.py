"""The page of attention maps: its template, style sheet and script."""
