"""What a GPU is expected to do before one has been measured: a step of lanes by part, and the expert MLP.

Predictions, and printed as such. Peaks: what public measurements of an H100 SXM give (`harness/train/named_gpus.py`); shares of
them are assumptions, which stand in `harness/train/estimate.py` and below. What `make gpu` measures is to be held against
this, and each gap explained in `kernels/triton/NOTES.md`.
"""

from collections.abc import Callable
from typing import Any

from harness.bench.floor import FORWARD, H100, work
from harness.bench.shapes import SETS
from harness.bench.table import Table
from harness.model.build import count_plan
from harness.plan.compose import compose
from harness.train.estimate import EXPERT_EFFICIENCY, STREAMED, expected, step_parts

EXPECTED = expected(H100)
PEAK, BANDWIDTH = EXPECTED.matmul_peak_flops, EXPECTED.memory_bytes_per_s
PAIRS = (("wiki-s-dense", "wiki-s-moe-64e"), ("dense", "moe-64e"))


def predicted(say: Callable[[str], None]) -> dict[str, Any]:
    """Both tables, said and returned: seconds."""
    say(f"PREDICTIONS for an H100 SXM, nothing measured: {PEAK / 1e12:,.0f} TFLOP/s, {BANDWIDTH / 1e12:.2f} TB/s assumed")
    return {"steps": _steps(say), "layers": _layers(say)}


def _steps(say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    here, found = EXPECTED, {}
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
