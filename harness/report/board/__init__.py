"""Boards: who holds a record, written as Markdown, as a page and as figures."""
