"""When a run is stopped for its own good: non-finite numbers, divergence, a collapsed router.

Looks only at values that were logged anyway. Stopping keeps the last checkpoint, which was written before anything was wrong.
"""

import math
from pathlib import Path
from typing import Any

from harness.plan.bounds import RANKING
from harness.plan.schema import Health, Plan
from harness.record.load import dominance
from harness.record.ranking import collapses, diverges


class HealthStop(Exception):
    """`reason`: nan | divergence | collapse; `step`: where it was seen; `what`: a sentence; `remedy`: what to try; `counts`: of
    a collapse, the rows of each expert by MoE layer over the window that was judged, which the log does not hold any more."""

    def __init__(self, reason: str, step: int, what: str, remedy: str, counts: list[list[int]] | None = None):
        super().__init__(what)
        self.reason, self.step, self.what, self.remedy, self.counts = reason, step, what, remedy, counts
        self.folder: Path | None = None  # of the run, once stopped.json is in it


def not_finite(step: int, where: str) -> HealthStop:
    remedy = "try a lower learning rate (optim.muon.lr, optim.adamw.lr), optim.clip_norm=1, or fork from the last checkpoint"
    return HealthStop("nan", step, f"step {step}: {where} not finite", remedy)


def collapse_remedy(plan: Plan) -> str:
    """What to try against a router that collapsed, in the words of this plan."""
    balance, router = plan.balance, plan.model.router
    if router == "hash":
        return "a hash router has nothing to balance: fewer experts (model.num_experts), or a learned router"
    losses = [key for key in ("aux_loss_coef", "sequence_loss_coef") if getattr(balance, key)]
    if balance.rule == "bias":
        louder = f"turn balancing up (balance.rate={balance.rate:g} now)"
    elif losses:
        louder = f"turn balancing up (balance.{losses[0]}={getattr(balance, losses[0]):g} now)"
    else:
        louder = f"balance the load (balance={'bias' if router == 'sigmoid_topk' else 'switch'})"
    return f"{louder}, lower optim.multipliers.router, or fork from the last checkpoint"


class Monitor:
    """Fed every step in order. A window is `window_steps` steps; counts are summed over it per MoE layer. `remedy`: of a
    collapse."""

    def __init__(self, plan: Health, names: list[str], moe_layers: list[int], top_k: int, remedy: str):
        self.plan, self.names, self.moe_layers, self.top_k, self.remedy = plan, names, moe_layers, top_k, remedy
        self.best = math.inf
        self.losses: list[float] = []
        self.counts: list[list[int]] = []
        self.last_dead, self.last_dominance = 0, 0.0

    def see(self, step: int, loss: float, norms: list[float], counts: list[list[int]]) -> None:
        """Raises: HealthStop."""
        self._finite(step, loss, norms)
        self.losses.append(loss)
        self.counts = [[a + b for a, b in zip(x, y)] for x, y in zip(self.counts, counts)] if self.counts else counts
        if len(self.losses) == self.plan.window_steps:
            self._window(step)

    def _finite(self, step: int, loss: float, norms: list[float]) -> None:
        bad = [name for name, norm in zip(self.names, norms) if not math.isfinite(norm)]
        if math.isfinite(loss) and not bad:
            return
        where = (
            f"gradients of {', '.join(bad[:3])}" + (f" and {len(bad) - 3} more" if len(bad) > 3 else "") if bad else "the loss"
        )
        raise not_finite(step, f"{where} (loss {loss})")

    def _window(self, step: int) -> None:
        mean, best = sum(self.losses) / len(self.losses), self.best
        counts, self.counts, self.losses, self.best = self.counts, [], [], min(best, mean)
        self.last_dead = sum(count.count(0) for count in counts)
        self.last_dominance = max((dominance(count, self.top_k) for count in counts), default=0.0)
        if diverges(self.plan, mean, best):
            raise HealthStop(
                "divergence", step,
                f"step {step}: mean loss of the last {self.plan.window_steps} steps {mean:.3f}, best window {best:.3f}",
                "try a lower learning rate or a longer warmup (schedule.warmup_share)",
            )  # fmt: skip
        for what in collapses(self.plan, self.moe_layers, counts, self.top_k):
            raise HealthStop("collapse", step, f"step {step}, {what}", self.remedy, counts)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a resumed run judges windows as an untouched one does."""
        return {
            "best": self.best, "losses": self.losses, "counts": self.counts,
            "last_dead": self.last_dead, "last_dominance": self.last_dominance,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class RankingWatch:
    """What the bounds of ranking say of a run, whatever bounds its plan stops it by. Stops nothing: `breaches` holds the first
    sentence of each kind. A run under these very bounds is judged once, by the monitor that stops it."""

    def __init__(self, stops: Monitor):
        self.shared = stops.plan == RANKING
        self.monitor = stops if self.shared else Monitor(RANKING, stops.names, stops.moe_layers, stops.top_k, stops.remedy)
        self.breaches: dict[str, str] = {}

    def see(self, step: int, loss: float, norms: list[float], counts: list[list[int]]) -> None:
        """A step that the monitor which stops has seen and let pass."""
        if self.shared:
            return
        try:
            self.monitor.see(step, loss, norms, counts)
        except HealthStop as breach:
            self.breaches.setdefault(breach.reason, breach.what)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; of a shared monitor nothing, which is kept already."""
        return {} if self.shared else {"monitor": self.monitor.state(), "breaches": self.breaches}

    def restore(self, state: dict[str, Any]) -> None:
        if state:
            self.monitor.restore(state["monitor"])
            self.breaches = state["breaches"]
