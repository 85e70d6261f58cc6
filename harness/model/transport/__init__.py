"""Where the rows of an expert are computed: between the router and the expert MLPs.

Letters: T tokens, D width, F expert width, G pre-activation width, E experts, N experts that this process holds, K top-k.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from harness.ranks import Ranks

if TYPE_CHECKING:
    from harness.plan.schema import Model


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
        them. Zeros where no unit had a backward pass. They are the caller's afterwards."""
        raise NotImplementedError
