"""Where the rows of an expert are computed: between the router and the expert MLPs.

Letters: T tokens, D width, F expert width, G pre-activation width, E experts, N experts that this process holds, K top-k.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from harness.ranks import Ranks

if TYPE_CHECKING:
    from harness.plan.schema import Model


class Elsewhere(Exception):
    """Another rank has stopped in the middle of a step; it says why."""


class Transport:
    """`keys`: the part's own, None of a part without; `ranks`: those that the experts are spread over, this process among
    them. A layer has one."""

    spread = False  # whether other processes hold experts too

    def __init__(self, model: "Model", keys: Any, ranks: Ranks):
        self.num_experts, self.ranks = model.num_experts, ranks

    @property
    def held(self) -> range:
        """The experts whose weights this process holds."""
        return range(self.num_experts)

    def experts(self, x_TD: Tensor, up_NDG: Tensor, down_NFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, **how) -> Tensor:
        """fp32 (T, D): what `kernels.moe_mlp` says of the experts of all processes. `how`: its other arguments."""
        raise NotImplementedError

    def take_gradients(self) -> tuple[Tensor, Tensor]:
        """fp32, of both weights, summed over the units of a step in their order, where experts are spread: autograd has none of
        them. They are the caller's afterwards."""
        raise NotImplementedError

    def meet(self, count_PN: Tensor | None, stopped: bool = False) -> Tensor:
        """One exchange between ranks that experts are spread over: what each of them has for the others, and whether one of
        them has `stopped`."""
        raise NotImplementedError
