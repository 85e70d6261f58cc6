"""Compiles the Triton kernels for GPUs that are not here (`kernels.triton.ahead`) and prints, as one JSON object, what the
assembler made of them. Its own process: the interpreter must be off.

usage: [architecture ...]    the safe configuration at shapes of the lane moe-64e, for these alone
       none: that for all, and beside it
         hopper              the defaults of sm_90 at the shapes of lanes
         router              a router's product and its gradients
         routing             what chooses experts and orders rows, for sm_80 and sm_90
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)
sys.path.insert(0, str(Path(__file__).parent.parent))

from triton_shapes import HOPPER, KERNELS, ROUTED, TARGETS  # noqa: E402

from kernels.triton.ahead import compiled, in_bf16, of_router, of_routing, of_units  # noqa: E402
from kernels.triton.configuration import hopper  # noqa: E402

WIDTH, EXPERT_WIDTH, TOP_K = SHAPE = 768, 384, 6


def sources() -> dict[str, tuple]:
    """{name: arguments of `compiled`} of the kernels in bf16."""
    found = {}
    for activation in ("swiglu", "relu2"):  # of the latter: down, dx, dw, combine, folds
        recorded = in_bf16(activation, *SHAPE) | of_units(activation, WIDTH, EXPERT_WIDTH)
        found |= recorded | {f"{name} {activation}": recorded[name] for name in ("up", "dh")}
    return {name: words for name, words in found.items() if name not in ("up", "dh")}


def hopper_sources() -> dict[str, tuple]:
    found = {}
    for shape, (width, expert_width, top_k, activation) in HOPPER.items():
        config = hopper(width, expert_width, activation == "swiglu")
        recorded = in_bf16(activation, width, expert_width, top_k, config) | of_units(activation, width, expert_width, config)
        found |= {f"{kernel} {shape}": words for kernel, words in recorded.items()}
    return found


def of_targets(kernels: dict[str, tuple], targets: Sequence[int]) -> dict[str, dict]:
    return {f"{name}, sm_{target}": compiled(*words, target) for name, words in kernels.items() for target in targets}


if __name__ == "__main__":
    everything = sources()
    assert tuple(sorted(everything)) == tuple(sorted(KERNELS))
    wanted = [int(word) for word in sys.argv[1:]]
    found = of_targets(everything, wanted or TARGETS)
    if not wanted:
        found["hopper"] = {name: compiled(*words, 90) for name, words in hopper_sources().items()}
        found["router"] = of_targets(of_router(WIDTH, 64), TARGETS)
        routing = {f"{name} {experts}": words for experts, k in ROUTED for name, words in of_routing(experts, k).items()}
        found["routing"] = of_targets(routing, (80, 90))
    print(json.dumps(found))
