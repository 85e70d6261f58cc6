"""Compiles the Triton kernels for GPUs that are not here (`kernels.triton.ahead`) and prints, as one JSON object, what the
assembler made of them. Its own process: the interpreter must be off.

usage: [architecture ...]    the safe configuration, shapes of the lane moe-64e
       hopper                the defaults of sm_90 at the shapes of lanes
       router                a router's product and its gradients
       routing               what chooses experts and orders rows, for sm_80 and sm_90
"""

import json
import os
import sys
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)
sys.path.insert(0, str(Path(__file__).parent.parent))

from triton_shapes import HOPPER, KERNELS, ROUTED, TARGETS  # noqa: E402

from kernels.triton.ahead import compiled, in_bf16, of_router, of_routing  # noqa: E402
from kernels.triton.configuration import hopper  # noqa: E402

WIDTH, EXPERT_WIDTH, TOP_K = SHAPE = 768, 384, 6


def sources() -> dict[str, tuple]:
    """{name: arguments of `compiled`} of the kernels in bf16."""
    found = {}
    for activation in ("swiglu", "relu2"):  # of the latter: down, dx, dw, combine
        recorded = in_bf16(activation, *SHAPE)
        found |= recorded | {f"{name} {activation}": recorded[name] for name in ("up", "dh")}
    return {name: words for name, words in found.items() if name not in ("up", "dh")}


def hopper_sources() -> dict[str, tuple]:
    return {
        f"{kernel} {shape}": words
        for shape, (width, expert_width, top_k, activation) in HOPPER.items()
        for kernel, words in in_bf16(
            activation, width, expert_width, top_k, hopper(width, expert_width, activation == "swiglu")
        ).items()
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["hopper"]:
        print(json.dumps({name: compiled(*words, 90) for name, words in hopper_sources().items()}))
    elif sys.argv[1:] == ["router"]:
        kernels = of_router(WIDTH, 64)
        print(json.dumps({f"{name}, sm_{t}": compiled(*words, t) for name, words in kernels.items() for t in TARGETS}))
    elif sys.argv[1:] == ["routing"]:
        kernels = {f"{name} {experts}": words for experts, k in ROUTED for name, words in of_routing(experts, k).items()}
        print(json.dumps({f"{name}, sm_{t}": compiled(*words, t) for name, words in kernels.items() for t in (80, 90)}))
    else:
        everything = sources()
        assert tuple(sorted(everything)) == tuple(sorted(KERNELS))
        wanted = [int(word) for word in sys.argv[1:]] or TARGETS
        print(json.dumps({f"{name}, sm_{t}": compiled(*everything[name], t) for name in KERNELS for t in wanted}))
