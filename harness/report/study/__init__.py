"""A study: its cases, its table and its figure."""
