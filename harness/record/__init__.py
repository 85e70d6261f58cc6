"""The evidence of a run: its folder, its raw metrics, where it came from, and the record."""
