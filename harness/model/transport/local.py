"""Every process holds all experts and computes the rows of its own tokens."""

from torch import Tensor

from harness.model.transport import Transport
from kernels import moe_mlp


class Local(Transport):
    def experts(self, x_TD: Tensor, up_NDG: Tensor, down_NFD: Tensor, expert_TK: Tensor, weight_TK: Tensor, **how) -> Tensor:
        return moe_mlp(x_TD, up_NDG, down_NFD, expert_TK, weight_TK, **how)


PART = Local
