"""One run: its end table and its figures."""
