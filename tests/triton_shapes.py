"""What the two Triton processes check, by name: shared with the tests that read their output."""

from harness.bench.correctness import EDGES as SHAPES

SHAPE_NAMES = tuple(SHAPES)
KERNELS = ("up relu2", "up swiglu", "dh relu2", "dh swiglu", "down", "dx", "dw_up", "dw_down", "combine",
           "fold_up", "fold_down", "fold_up first", "fold_down first")  # fmt: skip
TARGETS = (80, 90, 100)
# D, F, K and activation of layers for which the defaults of sm_90 are compiled: wiki-s-moe-64e's, one of a long inner
# dimension, tiny-moe-16e's
HOPPER = {"512 x 256": (512, 256, 6, "swiglu"), "2048 x 768": (2048, 768, 8, "swiglu"), "256 x 128": (256, 128, 4, "relu2")}
ROUTED = ((64, 6), (4096, 7))  # experts and top-k
# rows of each of five experts, which are no power of two, from each of some units; tiles of fp32 have 32 rows, 32 columns and
# 32 inner elements
UNITS = {
    "several of each": [[3, 1, 33, 2, 4], [5, 2, 1, 40, 1], [2, 31, 6, 3, 32]],
    "an expert without rows": [[3, 0, 4, 2, 1], [5, 0, 1, 2, 1]],
    "a unit without rows": [[3, 1, 4, 2, 0], [0, 0, 0, 0, 0], [2, 7, 0, 1, 3]],
    "first and last unit without rows": [[0, 0, 0, 0, 0], [2, 7, 0, 1, 3], [0, 0, 0, 0, 0]],
    "all rows on one expert": [[0, 0, 0, 35, 0], [0, 0, 0, 5, 0], [0, 0, 0, 64, 0]],
    "one unit": [[3, 1, 33, 2, 0]],
    "one row": [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0]],
    "no rows": [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
}  # fmt: skip
