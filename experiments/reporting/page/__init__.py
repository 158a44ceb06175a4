"""The parts of report.html: its template, style sheet and script, and what fills them."""
