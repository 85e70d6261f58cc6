"""What a router of learned scores must be able to learn from."""

from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.plan.schema import Plan


def check(plan: "Plan") -> None:
    m = plan.model
    if m.top_k == 1 and m.router_renormalize:
        raise UserError(
            f"model.router={m.router} with model.top_k=1: renormalized, the one weight is always 1 and the loss teaches the "
            "router nothing",
            "use model.router_renormalize=false",
        )
