"""Runs the kernels over rows of several units in Triton's interpreter, and prints as one JSON object where one call for all
units has other bytes than a call for each.

Its own process, run by tests/test_kernels_units.py. fp32: bf16 arithmetic is wrong in the interpreter.
"""

import json
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent))
warnings.simplefilter("ignore")  # numpy's, of 0/0 in blocks of zeros, which are then masked

import torch  # noqa: E402
import triton_interpreter  # noqa: E402, F401
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from triton_shapes import UNITS  # noqa: E402
from units_of_rows import other_bytes, owned, passes, totals_before  # noqa: E402

from kernels import Precision, Quantization  # noqa: E402
from kernels.backends import OPERATORS  # noqa: E402
from kernels.triton.units import Pooled  # noqa: E402
from kernels.units import BySource, of_units, pools  # noqa: E402

BY_SOURCE = BySource(OPERATORS["triton"])


def differs(counts, activation, with_totals, width=40, expert_width=24, **more) -> list[str]:
    it = owned(counts, width, expert_width, activation, **more)
    before = totals_before(it) if with_totals else None
    return other_bytes(passes(Pooled(), it, before), passes(BY_SOURCE, it, before))


@settings(deadline=None, max_examples=12, derandomize=True, database=None)
@given(
    data=st.data(), units=st.integers(1, 4), held=st.integers(1, 5), sizes=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    activation=st.sampled_from(("relu2", "swiglu")), with_totals=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def any_counts(data, units, held, sizes, activation, with_totals, seed):
    few = st.sampled_from((0, 1, 2, 5, 31, 32, 33))
    counts = data.draw(st.lists(st.lists(few, min_size=held, max_size=held), min_size=units, max_size=units), label="counts")
    assert differs(counts, activation, with_totals, *sizes, seed=seed) == []


def on_any_counts() -> str:
    """ "" or the falsifying example that hypothesis found."""
    try:
        any_counts()
    except AssertionError as error:
        return f"{error}\n{getattr(error, '__notes__', '')}"
    return ""


def below_bf16(format: str, **dials) -> list[str]:
    precision = Precision(Precision.of("full").arithmetic, replace(Quantization.recipe(format), **dials))
    assert pools(precision) and isinstance(of_units("triton", precision), Pooled)
    more = {"precision": precision, "key_4": torch.zeros(4, dtype=torch.int64)}
    return differs([[3, 0], [0, 0], [5, 20]], "swiglu", True, 128, 128, **more)


def zeros() -> dict[str, object]:
    """What a total of -0.0 is after units without rows for an expert, and whether that leaves its other experts' bytes."""
    it = owned([[0, 2], [0, 0]], 8, 8, "relu2")
    minus = tuple(torch.full(w.shape, -0.0) for w in (it.w_up_NDG, it.w_down_NFD))
    found, first = passes(Pooled(), it, minus), passes(Pooled(), it, None)
    return {
        "signs": sum(int(found[name][0].signbit().sum()) for name in ("up", "down")),
        "numbers": sum(int(found[name][0].count_nonzero()) for name in ("up", "down")),
        "others": other_bytes({n: found[n][1] for n in ("up", "down")}, {n: first[n][1] for n in ("up", "down")}),
    }


def order_matters() -> bool:
    """Whether the units of these cases in another order would have been seen: their sums have other bytes."""
    it = owned([[9, 4], [7, 0], [5, 8]], 40, 24, "swiglu")
    parts = [t.split([13, 7, 13]) for t in (it.x_RD, it.weight_R, it.dy_RD)]
    x_RD, weight_R, dy_RD = (torch.cat(part[::-1]) for part in parts)
    turned = it._replace(x_RD=x_RD, weight_R=weight_R, dy_RD=dy_RD, count_PN=it.count_PN.flip(0))
    found, other = (passes(Pooled(), each, None) for each in (it, turned))
    return not torch.equal(found["up"], other["up"]) and not torch.equal(found["down"], other["down"])


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)  # what is not written is NaN
    found = {
        f"{name}, {activation}, {'added' if with_totals else 'first'}": differs(counts, activation, with_totals)
        for name, counts in UNITS.items()
        for activation in ("relu2", "swiglu")
        for with_totals in (False, True)
    }
    found |= {"zeros": zeros(), "order": order_matters(), "on_any_counts": on_any_counts()}
    found["fp8"] = below_bf16("fp8")
    found["mxfp8"] = below_bf16("mxfp8", keep=("weight_gradient",))
    print(json.dumps(found))
