"""Runs the Triton kernels in Triton's interpreter against the reference and prints what was found as one JSON object.

Its own process (`TRITON_INTERPRET=1` must be set before Triton is imported), run by tests/test_kernels_triton.py. fp32 only:
bf16 arithmetic is wrong in the interpreter.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch  # noqa: E402
from expert_inputs import inputs, relative_error, run  # noqa: E402
from triton_shapes import SHAPES  # noqa: E402

NAMES = ("y", "dx", "dw_up", "dw_down", "dweight")


def errors(name: str, activation: str) -> dict[str, object]:
    tokens, width, *rest, kind = SHAPES[name]
    tensors = inputs(tokens, width, *rest, activation, kind)
    dy_TD = torch.randn(tokens, width, generator=torch.Generator().manual_seed(1))
    found, again = (run(tensors, dy_TD, activation=activation, backend="triton") for _ in range(2))
    expected = run(tensors, dy_TD, activation=activation, backend="reference")
    return {
        "errors": {n: relative_error(a, b) for n, a, b in zip(NAMES, found, expected)},
        "same bits": all(torch.equal(a, b) for a, b in zip(found, again)),
    }


def invariance(activation: str) -> bool:
    """Whether a token's y and dx have the same bits alone as among 70."""
    x, w_up, w_down, expert_TK, weight = inputs(70, 40, 24, 4, 2, activation)
    dy_TD = torch.randn(70, 40, generator=torch.Generator().manual_seed(2))
    y_all, dx_all, *_ = run((x, w_up, w_down, expert_TK, weight), dy_TD, activation=activation, backend="triton")
    equal = True
    for chosen in (torch.tensor([3]), torch.arange(69, 20, -2)):
        part = (x[chosen], w_up, w_down, expert_TK[chosen], weight[chosen])
        y, dx, *_ = run(part, dy_TD[chosen], activation=activation, backend="triton")
        equal = equal and torch.equal(y, y_all[chosen]) and torch.equal(dx, dx_all[chosen])
    return equal


def strided(activation: str) -> bool:
    """Whether a non-contiguous x gives the bits of its contiguous copy."""
    x, *rest = inputs(20, 16, 16, 4, 2, activation)
    wide_TD = torch.stack([x, x + 1], dim=2).flatten(1)[:, ::2]
    dy_TD = torch.ones(20, 16)
    a, b = (run((v, *rest), dy_TD, activation=activation, backend="triton") for v in (x, wide_TD))
    return not wide_TD.is_contiguous() and all(torch.equal(s, t) for s, t in zip(a, b))


if __name__ == "__main__":
    found = {f"{name}, {act}": errors(name, act) for name in SHAPES for act in ("relu2", "swiglu")}
    found |= {f"{f.__name__}, {act}": f(act) for f in (invariance, strided) for act in ("relu2", "swiglu")}
    print(json.dumps(found))
