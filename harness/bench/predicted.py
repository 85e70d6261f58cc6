"""What a GPU is expected to do before one has been measured: a step of lanes by part, and the expert MLP.

Predictions, and printed as such. Peaks: what public measurements of an H100 SXM give (0.81 of the data sheet's products, 0.87
of its bandwidth); shares of them are assumptions, which stand in `harness/train/estimate.py` and below. What `make gpu`
measures is to be held against this, and each gap explained in `kernels/triton/NOTES.md`.
"""

from collections.abc import Callable
from typing import Any

from harness.bench.floor import FORWARD, H100, work
from harness.bench.shapes import SETS
from harness.bench.table import Table
from harness.model.build import count_plan
from harness.plan.compose import compose
from harness.train.estimate import EXPERT_EFFICIENCY, step_parts
from harness.train.machine import Machine

PEAK, BANDWIDTH = 0.81 * H100[1], 0.87 * H100[2]
STREAMED = 0.8  # of the bandwidth, by kernels that wait for memory
PAIRS = (("wiki-s-dense", "wiki-s-moe-64e"), ("dense", "moe-64e"))


def expected_h100() -> Machine:
    return Machine(
        device="cuda", model="NVIDIA H100 SXM, expected", isa="sm_90", threads=1, arithmetic="native", compiled=True,
        matmul_peak_flops=PEAK, fp32_peak_flops=60e12, memory_bytes_per_s=BANDWIDTH, driver="", world_size=1,
    )  # fmt: skip


def predicted(say: Callable[[str], None]) -> dict[str, Any]:
    """Both tables, said and returned: seconds."""
    say(f"PREDICTIONS for an H100 SXM, nothing measured: {PEAK / 1e12:,.0f} TFLOP/s, {BANDWIDTH / 1e12:.2f} TB/s assumed")
    return {"steps": _steps(say), "layers": _layers(say)}


def _steps(say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    here, found = expected_h100(), {}
    names = list(step_parts(*_counted("wiki-s-moe-64e"), here, 1))
    totals_of = (10, ",.0f", "ms/step"), (7, ".0%", "MFU"), (9, "", "x twin")
    text = Table(20, (*((max(11, len(name) + 2), ",.1f", name) for name in names), *totals_of))
    say(text.head("predicted, ms"))
    for pair in PAIRS:
        totals = []
        for lane in pair:
            plan, counts = _counted(lane)
            tokens = plan.by_step.tokens(0)
            parts = step_parts(plan, counts, here, tokens)
            totals.append(sum(parts.values()))
            mfu = counts.flops_per_token * tokens / totals[-1] / here.matmul_peak_flops
            ratio = f"{totals[-1] / totals[0]:.2f}x" if len(totals) > 1 else ""
            say(text.row(lane, *(1e3 * s for s in parts.values()), 1e3 * totals[-1], mfu, ratio))
            found[lane] = parts
    say("")
    return found


def _counted(lane: str) -> tuple[Any, Any]:
    plan = compose([f"lane={lane}"]).plan
    return plan, count_plan(plan)


def _layers(say: Callable[[str], None]) -> list[dict[str, Any]]:
    text = Table(46, ((12, ",.2f", "forward"), (9, ".0%", "of peak"), (12, ",.2f", "backward"), (9, ".0%", "of peak")))
    say(text.head("predicted, ms"))
    found = []
    for shape in SETS["gpu"]:
        ways = {"forward": 0.0, "backward": 0.0}
        for name, (flops, size) in work(shape).items():
            seconds = max(flops / (EXPERT_EFFICIENCY * PEAK), size / (STREAMED * BANDWIDTH))
            ways["forward" if name in FORWARD else "backward"] += seconds
        forward, backward = ways.values()
        shares = shape.forward_flops / PEAK / forward, 2 * shape.forward_flops / PEAK / backward
        say(text.row(str(shape), 1e3 * forward, shares[0], 1e3 * backward, shares[1]))
        found.append({"shape": vars(shape)} | ways)
    return found
