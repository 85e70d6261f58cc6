"""What the interpreted kernels below bf16 are checked on, by name: shared with the tests that read the output."""

from kernels.precision import OPERANDS

NAMES = ("y", "dx", "dw_up", "dw_down", "dweight")

# tokens, width, expert width, experts, top-k, routing, activation
CASES = {
    "fp8": {
        "no token": (0, 128, 128, 2, 2, "distinct", "swiglu"),
        "one token": (1, 128, 128, 4, 2, "distinct", "swiglu"),
        "more rows than a tile, several blocks": (70, 256, 256, 2, 1, "distinct", "relu2"),
        "empty experts": (33, 128, 128, 6, 2, "two experts", "swiglu"),
        "every expert for every token": (12, 128, 128, 3, 3, "distinct", "relu2"),
    },
    "nvfp4": {
        "no token": (0, 32, 16, 4, 2, "distinct", "relu2"),
        "one token": (1, 32, 16, 4, 2, "distinct", "relu2"),
        "more rows than a tile, several blocks": (140, 80, 48, 2, 1, "distinct", "swiglu"),
        "empty experts": (33, 32, 16, 6, 2, "two experts", "relu2"),
        "all rows on one expert": (40, 32, 16, 4, 1, "one expert", "swiglu"),
        "every expert for every token": (12, 16, 32, 3, 3, "distinct", "relu2"),
        "an expert listed twice": (9, 16, 16, 3, 2, "duplicates", "swiglu"),
    },
}
_KEPT = {f"keep {operand}": {"keep": (operand,)} for operand in OPERANDS}
_BOTH = {"weights in 1d blocks": {"weight_blocks": "1d"}, "clip": {"clip": 0.8}} | _KEPT
_BOTH |= {"keep all rows": {"keep": ("input", "hidden", "gradient")}}
WHOLE = ("fp8", "nvfp4", "mxfp4")  # of which everything is checked: the kernels of mxfp8 are theirs but for a constant
_IN_32 = {"more rows than a tile, several blocks": (140, 96, 64, 2, 1, "distinct", "swiglu")}  # widths of whole blocks
CASES["mxfp8"] = _IN_32
CASES["mxfp4"] = {"empty experts": (33, 32, 32, 6, 2, "two experts", "relu2")}
DIALS = {
    "fp8": {name: dial for name, dial in _BOTH.items() if name != "keep weight_gradient"}  # which fp8 leaves in bf16 anyway
    | {"stochastic rounding": {"stochastic_rounding": True}, "weight gradients": {"fp8_weight_gradients": True}},
    "nvfp4": _BOTH
    | {"no Hadamard": {"hadamard": False}, "to the nearest": {"stochastic_rounding": False}}
    | {"tensor scales of experts": {"tensor_scale": "expert"}},
    "mxfp8": {"Hadamard": {"hadamard": True}},  # blocks of weights move subnormals alone
    "mxfp4": {"weights in 1d blocks": {"weight_blocks": "1d"}},
}
PRODUCTS = ("up_kernel", "rows_kernel", "dh_kernel", "weight_gradient_kernel")
KERNELS = {"fp8": ("blocks_kernel", *PRODUCTS[:3]), "nvfp4": ("blocks_kernel", "slots_kernel", *PRODUCTS)}
KERNELS |= {"mxfp8": ("slots_kernel", "up_kernel"), "mxfp4": ("blocks_kernel", *PRODUCTS[1:])}  # which differ by a constant
KERNELS["nvfp4 by expert"] = ("maxima_kernel", *KERNELS["nvfp4"])
KERNELS["fp8 weight gradients"] = ("tiles_kernel", "weight_gradient_kernel")
DIALLED = {  # beside the recipe of the format
    "fp8": {}, "nvfp4": {}, "mxfp4": {}, "nvfp4 by expert": {"tensor_scale": "expert"},
    "fp8 weight gradients": {"fp8_weight_gradients": True, "stochastic_rounding": True},
}  # fmt: skip
