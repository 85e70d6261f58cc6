"""Diagnoses of what the router learns: its gradient, its steps, its bias, and whether the learned routing means anything."""

from statistics import median
from typing import Any

from harness.doctor import tries
from harness.doctor.finding import Finding
from harness.doctor.patient import Patient
from harness.doctor.thresholds import BIAS_COUNTS, BIAS_GROWS, BIAS_RULES, MEANING, UNEVEN, ZERO_START, band_of

SETTLED = 0.1  # of the peak learning rate: below it, at the very end of a decay, a ratio says little
NOT_THE_ROUTER = ("model.router", "balance.", "seed", "run.", "unranked", "fork", "lane.", "health.", "kernels.debug")


def stopped_early(run: Patient) -> list[Finding]:
    """Whatever health stopped the run for, in its own words; the other diagnoses say more about a collapse."""
    if run.stop is None:
        return []
    reason = run.stop.reason
    why = {
        "nan": "one number that is not finite spreads to every weight in the next update",
        "divergence": "the loss left the course it was on and does not come back at this learning rate",
    }.get(reason, "the router sends everything to few experts; what is trained after that is another, smaller model")
    remedies = tries.spread_the_load(run) if reason == "collapse" else tries.calm_training(run)
    return [Finding(f"stopped_{reason}", run.stop.what, why, since=run.stop.step, tries=remedies)]


def router_gradient(run: Patient) -> list[Finding]:
    """The gradient that reaches the router is smaller than the smallest step of the experts' number format.

    Reads `precision` of a window row: {"smallest_step": {layer: RMS}, "router_grad_rms": {layer: RMS}}, the latter from the
    group's telemetry where it is missing. Without the key, as in bf16, there is nothing to ask.
    """
    rows = [row for row in run.windows if row.get("precision")]
    recent = rows[-max(1, len(rows) // 4) :]
    found = []
    for layer in recent[-1]["precision"].get("smallest_step", {}) if recent else ():
        pairs = [(_router_rms(row, layer), row["precision"]["smallest_step"].get(layer)) for row in recent]
        known = [(g, s) for g, s in pairs if g is not None and s]
        if not known or median(g / s for g, s in known) >= 1:
            continue
        gradient, step = median(g for g, _ in known), median(s for _, s in known)
        found.append(Finding(
            "router_gradient",
            f"layer {layer}: router gradient RMS {gradient:.1e}, the smallest step of the experts' format {step:.1e} "
            f"(medians of the last {len(known)} windows)",
            "the router learns from differences between expert outputs; differences below the format's step are rounding, so "
            "it follows noise",
            (int(layer),), None, {"router_grad_rms": gradient, "smallest_step": step}, tries.lift_the_router_gradient(run),
        ))  # fmt: skip
    return found


def _router_rms(row: dict[str, Any], layer: str) -> float | None:
    by_layer = row["precision"].get("router_grad_rms") or {}
    return by_layer.get(layer, row["groups"].get("router", {}).get("grad_rms"))


def settled_ratios(run: Patient) -> dict[str, list[tuple[int, float]]]:
    """{group: [(step, update RMS / parameter RMS at the peak learning rate)]} over the windows after warmup."""
    scale = {row["step"]: row["lr_scale"] for row in run.steps if "lr_scale" in row}
    warmup = run.settings["schedule.warmup_share"] * run.by_step.total
    ratios: dict[str, list[tuple[int, float]]] = {}
    for row in run.windows:
        rate = scale.get(row["step"], 1.0)
        if row["tokens"] <= warmup or rate < SETTLED:
            continue
        for group, rms in row["groups"].items():
            if rms["param_rms"] > 0:
                ratios.setdefault(group, []).append((row["step"], rms["update_rms"] / rms["param_rms"] / rate))
    return ratios


def update_ratio(run: Patient) -> list[Finding]:
    """A parameter group whose update, by the size of its parameters, is outside its band in most windows after warmup."""
    found = []
    for group, ratios in sorted(settled_ratios(run).items()):
        band = band_of(group, run.settings["optim.matrices"])
        at_start = 2.0 if group in ZERO_START else 0.0
        outside = sum(not band.low <= ratio <= max(band.high, at_start / step) for step, ratio in ratios)
        if outside * 2 <= len(ratios):
            continue
        ratio = median(ratio for _, ratio in ratios)
        wanted = (band.low * band.high) ** 0.5
        found.append(Finding(
            "update_ratio",
            f"group {group}: update RMS / parameter RMS is {ratio:.1e} at the peak learning rate (median), outside "
            f"{band.low:.1e} to {band.high:.1e} in {outside} of {len(ratios)} windows ({band.source})",
            "too small and the group stays where it was initialized, too large and every step forgets the one before",
            (), None, {"group": group, "ratio": ratio, "band": [band.low, band.high], "windows_outside": outside},
            tries.scale_updates(run, group, ratio, wanted),
        ))  # fmt: skip
    return found


def balancing_fights(run: Patient) -> list[Finding]:
    """A selection bias that outvotes every score, or that grows while the load gets no better."""
    found, spans = [], run.health_windows
    ranges = [(row["step"], row["bias_range"]) for row in run.windows if row["bias_range"]]
    if not ranges or run.settings["balance.rule"] != "bias":
        return []
    half = max((r for r in ranges if r[0] * 2 <= run.last_step), default=ranges[0])
    for row, layer in enumerate(run.moe_layers):
        now, then = ranges[-1][1][row], half[1][row]
        cv, cv_then = float(spans[-1].cv_percent[row]), float(_at(spans, half[0]).cv_percent[row])
        grows = len(spans) > 1 and now >= BIAS_COUNTS.value and now >= BIAS_GROWS.value * then
        rules = now >= BIAS_RULES.value
        if not rules and not (grows and cv >= UNEVEN.value and cv >= cv_then):
            continue
        since = next(step for step, values in ranges if values[row] >= (BIAS_RULES.value if rules else then))
        says = (
            f"the selection bias spans {now:.3g}, and scores lie in (0, 1): the bias decides, not the token"
            if rules
            else f"the bias range grew from {then:.2f} (step {half[0]:,}) to {now:.2f}, and the load got no more even "
            f"(cv {cv_then:.0f}% -> {cv:.0f}%)"
        )
        found.append(Finding(
            "balancing_fights", f"layer {layer}: {says}",
            "balance without meaning: experts take turns by the clock instead of by what they are good at, and entropy looks "
            "perfect all the while" if rules else "balancing and the router pull against each other, and neither wins",
            (layer,), since, {"bias_range": now, "bias_range_before": then, "cv_percent": cv, "cv_percent_before": cv_then},
            tries.calm_the_bias(run),
        ))  # fmt: skip
    return found


def _at(spans: list, step: int):
    """The health window that holds a step, else the first."""
    return next((span for span in spans if span.first <= step <= span.last), spans[0])


def no_better_than_hash(run: Patient, control: Patient | None) -> list[Finding]:
    """Shuffling who goes where costs nothing, or a hash-router twin scores as well."""
    found = []
    metrics = run.record.metrics if run.record else None
    shuffled, own = (metrics.slice_bpb_shuffled_routing, metrics.slice_bpb) if metrics else (None, None)
    why = "the experts are interchangeable: parameters and traffic of a mixture for what one dense layer would do"
    if shuffled is not None and shuffled - own < MEANING.value:
        found.append(Finding(
            "no_better_than_hash",
            f"routing shuffled among tokens costs {shuffled - own:+.4f} {run.measure} on the slice ({own:.4f} -> "
            f"{shuffled:.4f}), less than {MEANING.value:g} ({MEANING.reason})",
            why, (), None, {"slice_bpb": own, "slice_bpb_shuffled_routing": shuffled, "bound": MEANING.value},
            tries.give_routing_meaning(run, control is not None),
        ))  # fmt: skip
    if control is not None and (pair := common_point(run, control)):
        ours, theirs = pair
        gain = theirs["slice_bpb"] - ours["slice_bpb"]
        if gain < MEANING.value:
            found.append(Finding(
                "no_better_than_hash",
                f"the hash router of {control.folder} scores {theirs['slice_bpb']:.4f} at step {theirs['step']:,}, the "
                f"learned one {ours['slice_bpb']:.4f}: {gain:+.4f} {run.measure} gained, less than {MEANING.value:g} "
                f"({MEANING.reason})",
                "a fixed table that looks at nothing but the token's id does as well; this is one run each, and a claim "
                "takes three seeds",
                (), None, {"slice_bpb": ours["slice_bpb"], "control_slice_bpb": theirs["slice_bpb"], "step": ours["step"]},
                tries.give_routing_meaning(run, True),
            ))  # fmt: skip
    return found


def common_point(run: Patient, control: Patient) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The last validation that both have, at equal tokens."""
    theirs = {row["tokens"]: row for row in control.validations}
    shared = [row for row in run.validations if row["tokens"] in theirs]
    return (shared[-1], theirs[shared[-1]["tokens"]]) if shared else None


def unlike(run: Patient, control: Patient) -> list[str]:
    """Settings in which a control differs besides its router: with any of these it is no control."""
    return [
        f"{key}: {control.settings.get(key)} -> {value}"
        for key, value in run.settings.items()
        if not key.startswith(NOT_THE_ROUTER) and control.settings.get(key) != value
    ]
