"""As `sigmoid_topk`, but for the bias, which its scores are too small for."""

from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.plan.parts.router import sigmoid_topk

if TYPE_CHECKING:
    from harness.plan.schema import Plan


def check(plan: "Plan") -> None:
    sigmoid_topk.check(plan)
    if plan.balance.rule == "bias":
        raise UserError(
            f"balance.rule={plan.balance.rule} with model.router=softmax_topk: its scores shrink as 1/E, so that a bias of "
            "fixed steps soon decides alone",
            "use model.router=sigmoid_topk, or a loss: balance=switch",
        )
