"""What the two Triton processes check, by name: shared with the tests that read their output."""

# tokens, width, expert width, experts, top-k, routing
SHAPES = {
    "one token": (1, 16, 16, 4, 2, "distinct"),
    "odd sizes": (37, 19, 13, 5, 3, "distinct"),
    "more rows than a tile": (70, 40, 36, 3, 2, "distinct"),
    "empty experts": (33, 32, 16, 6, 2, "two experts"),
    "all rows on one expert": (40, 32, 16, 4, 1, "one expert"),
    "top-k of one": (20, 16, 16, 4, 1, "distinct"),
    "every expert for every token": (12, 16, 16, 4, 4, "distinct"),
    "an expert listed twice": (9, 16, 16, 4, 2, "duplicates"),
    "more experts than rows": (3, 16, 16, 64, 2, "distinct"),
}
SHAPE_NAMES = tuple(SHAPES)
KERNELS = ("up relu2", "up swiglu", "dh relu2", "dh swiglu", "down", "dx", "dw_up", "dw_down", "combine")
TARGETS = (80, 90, 100)
