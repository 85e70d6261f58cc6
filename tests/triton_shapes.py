"""What the two Triton processes check, by name: shared with the tests that read their output."""

from harness.bench.correctness import EDGES as SHAPES

SHAPE_NAMES = tuple(SHAPES)
KERNELS = ("up relu2", "up swiglu", "dh relu2", "dh swiglu", "down", "dx", "dw_up", "dw_down", "combine")
TARGETS = (80, 90, 100)
