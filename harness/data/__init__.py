"""Artifacts, corpora, the lines and overlap of a track, and the batch function."""
