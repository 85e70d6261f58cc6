"""What a fixed table cannot be combined with: it has no scores, and nothing to learn or to balance."""

from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.plan.schema import Plan


def check(plan: "Plan") -> None:
    b = plan.balance
    if not plan.model.router_renormalize:
        raise UserError(
            "model.router_renormalize=false with model.router=hash, whose weights are 1/K", "leave out model.router_renormalize"
        )
    if b.rule != "none":
        raise UserError(f"balance.rule={b.rule} with model.router=hash, which has nothing to balance", "use balance=none")
    for key, value in b.losses.items():
        raise UserError(f"balance.{key}={value} with model.router=hash, which has no scores to learn", f"use balance.{key}=0")
    if b.capacity_factor:
        raise UserError(
            f"balance.capacity_factor={b.capacity_factor} with model.router=hash, whose weights are all 1/K: none says which "
            "rows to drop",
            "use balance.capacity_factor=0",
        )
