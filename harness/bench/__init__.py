"""Timings, side by side in one run: expert kernels against their peers, a layer stage by stage, whole training steps."""

SETS = ("gpu", "cpu", "first", "toy")  # of shapes: `shapes.py`
