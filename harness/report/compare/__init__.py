"""Two groups of runs, or the formats of a track, side by side."""
