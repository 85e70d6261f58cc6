"""Whether a router is told anything: its gradient beside the smallest step of the format, how far it moves, and what the
assignment that it learned is worth. All of it is of windows that close in the second half of training, unless said
otherwise."""

from statistics import fmean, median

from harness.plan.study import Study
from harness.report.study.trials import Trial

ROUTER = "router"


def over_training(trial: Trial) -> list[tuple[int, float]]:
    """(tokens, RMS of the gradient of all routers) of the steps that close a window."""
    return [(row["tokens"], row["groups"][ROUTER]["grad_rms"]) for row in trial.windows if ROUTER in row["groups"]]


def gradient(trial: Trial) -> float | None:
    """Median of `over_training`."""
    late = [value for tokens, value in over_training(trial) if tokens > trial.plan["budget"]["tokens"] / 2]
    return median(late) if late else None


def floor(trial: Trial) -> float | None:
    """The smallest magnitude that the format tells apart from 0 in the gradients of the layers with routers, their median; None
    in bf16."""
    late = [window["smallest_step"] for window in _late(trial) if window.get("smallest_step")]
    return median(value for of_layer in late for value in of_layer.values()) if late else None


def below(trial: Trial) -> float | None:
    """The share of routers and steps whose gradient's RMS is below the smallest step of their layer."""
    pairs = [
        (rms, window["smallest_step"][layer])
        for window in _late(trial)
        for layer, rms in (window.get("router_grad_rms") or {}).items()
        if layer in (window.get("smallest_step") or {})
    ]
    return fmean(rms < step for rms, step in pairs) if pairs else None


def moved(trial: Trial) -> float | None:
    """RMS of the router's update over RMS of its weights, median of the second quarter of the budget."""
    return trial.updates.get(ROUTER)


def worth(trial: Trial) -> float | None:
    """Bits of the slice that are lost where the experts of a token are given to another one."""
    if not trial.record or trial.record.metrics.slice_bpb_shuffled_routing is None:
        return None
    return trial.record.metrics.slice_bpb_shuffled_routing - trial.record.metrics.slice_bpb


def dial_of(study: Study, case: str) -> tuple[str, str]:
    """(family, dial); the dial of a family's own case is empty."""
    family = study.family_of(case)
    return family, case.removeprefix(family).removeprefix("-")


def _late(trial: Trial) -> list[dict]:
    half = trial.plan["budget"]["tokens"] / 2
    return [row["precision"] for row in trial.windows if row["tokens"] > half and row.get("precision")]
