"""Diagnoses of where tokens go: dominant, dead and hot experts, and a router that collapses layer by layer.

Each takes a run that learns its routing and has at least one health window, and returns what it finds. Only what still holds
at the end of what is known is a finding: healthy runs pass through an uneven first hundred steps (a committed one has an
expert in 99% of the top-4 sets over steps 17 to 32, and none above 30% at its end).
"""

from collections.abc import Callable

import numpy as np

from harness.doctor.finding import Finding
from harness.doctor.patient import Patient, Span
from harness.doctor.thresholds import DOMINANT, FALLING, HOT, SPREAD
from harness.doctor.tries import settle_for_val, spread_the_load


def dominant_expert(run: Patient) -> list[Finding]:
    """An expert in (nearly) every top-k set: its share of the load is 1/K."""
    now, found = run.health_windows[-1], []
    if run.top_k >= run.experts:
        return []
    for row, layer in enumerate(run.moe_layers):
        expert, sets = _busiest(now, row, run.top_k)
        where, since, tries = _steps(now), None, spread_the_load(run)
        if sets >= DOMINANT.value:
            since = _since(run, lambda span, r=row, e=expert: span.share[r, e] * run.top_k >= DOMINANT.value)
        elif run.val is not None:
            (expert, sets), where = _busiest(run.val, row, run.top_k), "all of val, though not in training"
            tries = settle_for_val(run)
        if sets < DOMINANT.value:
            continue
        found.append(Finding(
            "dominant_expert",
            f"layer {layer}: expert {expert} is in {sets:.0%} of all top-{run.top_k} sets ({where}), "
            f"1/K of the load; an even share is {run.top_k / run.experts:.1%}",
            "a choice that every token makes is no choice: the layer has one expert that works as a dense one and "
            f"{run.top_k - 1} left to choose, and its load is the step time of an expert-parallel run",
            (layer,), since,
            {"expert": expert, "share_of_sets": sets, "even_share": run.top_k / run.experts, "bound": DOMINANT.value},
            tries,
        ))  # fmt: skip
    return found


def _busiest(span: Span, row: int, top_k: int) -> tuple[int, float]:
    """The expert with the largest load, and the share of all top-k sets that it is in."""
    expert = int(span.share[row].argmax())
    return expert, float(span.share[row, expert] * top_k)


def dead_experts(run: Patient) -> list[Finding]:
    """Experts without a token over the last health window, and where known over all of val."""
    now, found = run.health_windows[-1], []
    for row, layer in enumerate(run.moe_layers):
        in_training = np.flatnonzero(now.counts[row] == 0).tolist()
        on_val = [] if run.val is None else np.flatnonzero(run.val.counts[row] == 0).tolist()
        dead = sorted({*in_training, *on_val})
        if not dead:
            continue
        since = _since(run, lambda span, r=row, e=dead: not span.counts[r, e].any()) if in_training else None
        where = [f"no token in {_steps(now)}"] if in_training else []
        where += [f"none in all of val ({_ids(on_val)})"] if on_val else []
        found.append(Finding(
            "dead_experts",
            f"layer {layer}: {len(dead)} of {run.experts} experts dead ({_ids(dead)}): {', '.join(where)}",
            "an expert without tokens has no gradient and cannot come back by itself: its parameters are paid for and unused, "
            "and a ranked run may have none" if in_training else
            "an expert that learned in training and serves nothing that is scored is paid for and unused, and a ranked run may "
            "have none",
            (layer,), since, {"experts": dead, "in_training": in_training, "on_val": on_val},
            spread_the_load(run) if in_training else settle_for_val(run),
        ))  # fmt: skip
    return found


def hot_expert(run: Patient) -> list[Finding]:
    """An expert far above its share, the same or another one, in two health windows in a row, and not yet dominant."""
    found = []
    bound = (run.experts / run.top_k) ** HOT.value
    if len(run.health_windows) < 2 or run.top_k >= run.experts:
        return []
    before, now = run.health_windows[-2:]
    for row, layer in enumerate(run.moe_layers):
        expert = int(now.share[row].argmax())
        earlier = int(before.share[row].argmax())
        times = [float(span.share[row].max() * run.experts) for span in (before, now)]
        if min(times) < bound or now.share[row, expert] * run.top_k >= DOMINANT.value:
            continue
        since = _since(run, lambda span, r=row: span.share[r].max() * run.experts >= bound)
        other = "" if earlier == expert else f" expert {earlier},"
        found.append(Finding(
            "hot_expert",
            f"layer {layer}: expert {expert} gets {times[1]:.1f} times its share ({_steps(now)};{other} {times[0]:.1f} "
            f"times in {_steps(before)}): in {times[1] * run.top_k / run.experts:.0%} of all top-{run.top_k} sets, even would "
            f"be {run.top_k / run.experts:.1%}",
            "an expert that serves everything specializes in nothing, learns faster than the others and so attracts still "
            "more; where experts are spread over devices the step waits for it",
            (layer,), since, {"expert": expert, "times_its_share": times, "bound": bound}, spread_the_load(run),
        ))  # fmt: skip
    return found


def collapse(run: Patient) -> list[Finding]:
    """Layers whose load narrows: few effective experts now, or fewer in each of three health windows."""
    spans = run.health_windows
    now = spans[-1]
    first_narrow: dict[int, int] = {}  # row of counts: where it began
    for row in range(len(run.moe_layers)):
        last = [float(span.effective[row]) for span in spans[-4:]]
        falls = len(last) == 4 and all(b < a for a, b in zip(last, last[1:])) and last[0] - last[-1] >= FALLING.value
        if last[-1] < SPREAD.value:
            first_narrow[row] = _since(run, lambda span, r=row: span.effective[r] < SPREAD.value)
        elif falls:
            first_narrow[row] = spans[-3].first
    if not first_narrow:
        return []
    rows = sorted(first_narrow, key=lambda row: (first_narrow[row], row))
    course = [
        f"layer {run.moe_layers[row]} from step {first_narrow[row]:,} "
        f"({' -> '.join(f'{span.effective[row] * run.experts:.1f}' for span in _thinned(spans))})"
        for row in rows
    ]
    return [Finding(
        "collapse",
        f"{len(rows)} of {len(run.moe_layers)} MoE layers collapse, as effective experts of {run.experts} by health window: "
        + "; ".join(course),
        "tokens crowd on ever fewer experts, the rest stop learning, and what goes wrong in one layer feeds the next: the "
        "first layer is where to look",
        tuple(run.moe_layers[row] for row in rows), min(first_narrow.values()),
        {"first_layer": run.moe_layers[rows[0]], "began": {str(run.moe_layers[row]): first_narrow[row] for row in rows},
         "effective_experts": {str(run.moe_layers[row]): float(now.effective[row] * run.experts) for row in rows}},
        spread_the_load(run),
    )]  # fmt: skip


def _since(run: Patient, holds: Callable[[Span], bool]) -> int:
    """The first step of the trouble: of the last health window, which has it, or of the unbroken row of windows before it
    that have it too."""
    since = run.health_windows[-1].first
    for span in reversed(run.spans):
        if span.first >= since:
            continue
        if not holds(span):
            break
        since = span.first
    return since


def _thinned(spans: list[Span], most: int = 5) -> list[Span]:
    """Evenly picked, first and last among them."""
    return [spans[i] for i in sorted({round(i) for i in np.linspace(0, len(spans) - 1, most)})]


def _steps(span: Span) -> str:
    return f"steps {span.first:,} to {span.last:,}"


def _ids(experts: list[int]) -> str:
    return ", ".join(map(str, experts[:8])) + (f" and {len(experts) - 8} more" if len(experts) > 8 else "")
