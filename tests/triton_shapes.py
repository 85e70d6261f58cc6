"""What the two Triton processes check, by name: shared with the tests that read their output."""

from harness.bench.correctness import EDGES as SHAPES

SHAPE_NAMES = tuple(SHAPES)
KERNELS = ("up relu2", "up swiglu", "dh relu2", "dh swiglu", "down", "dx", "dw_up", "dw_down", "combine")
TARGETS = (80, 90, 100)
# D, F, K and activation of layers for which the defaults of sm_90 are compiled: wiki-s-moe-64e's, one of a long inner
# dimension, tiny-moe-16e's
HOPPER = {"512 x 256": (512, 256, 6, "swiglu"), "2048 x 768": (2048, 768, 8, "swiglu"), "256 x 128": (256, 128, 4, "relu2")}
ROUTED = ((64, 6), (4096, 7))  # experts and top-k
