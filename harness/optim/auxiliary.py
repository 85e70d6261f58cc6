"""The auxiliary losses of routers: added to the cross-entropy for the gradient, and reported beside it, never in it.

Letters: L MoE layers, E experts, K top-k. Each is a sum over MoE layers times its coefficient; what is reported is the mean
over layers without it. All are losses of the whole step, whatever its micro-batches and ranks:

- `aux_loss` (Switch, arXiv 2101.03961, equations 4 to 6): E sum_e f_e P_e over all tokens of the step. f_e is the share of all
  T*K rows that the expert got, P_e its mean share of the scores. 1 in balance, E/K where K experts get everything.
- `sequence_loss` (DeepSeek-V3, arXiv 2412.19437, equations 17 to 20): the same within a sequence, mean over sequences.
- `z_loss` (ST-MoE, arXiv 2202.08906, equation 5): mean of logsumexp(logits)^2 over tokens.

The f_e of the Switch loss has no gradient, but every token's gradient depends on it. With one micro-batch to a rank it is
summed over ranks between forward and backward; with several, a first forward pass over all of them counts it (`Session`).
"""

import torch
from torch import Tensor

from harness.model.auxiliary import wanted
from harness.plan.schema import Plan


class AuxiliaryLosses:
    def __init__(self, plan: Plan):
        self.shape = plan.model
        self.coefficients = {name: getattr(plan.balance, f"{name}_coef") for name in wanted(plan.balance)}

    @property
    def needs_load(self) -> bool:
        return "aux_loss" in self.coefficients

    def shares(self, terms: dict[str, Tensor], load_LE: Tensor | None, tokens: int) -> dict[str, Tensor]:
        """By loss, fp32 (L,): what a micro-batch with the model's `terms` has of the loss of a step of `tokens` tokens.
        `load_LE`: int64 rows of each expert in the whole step, where `needs_load`."""
        m = self.shape
        factors = {
            "aux_loss": m.num_experts / (tokens * tokens * max(m.top_k, 1)),
            "sequence_loss": m.sequence_length / tokens,
            "z_loss": 1 / tokens,
        }
        found = dict(terms)
        if self.needs_load:
            found["aux_loss"] = (load_LE.float() * terms["aux_loss"]).sum(1)
        return {name: found[name] * factors[name] for name in self.coefficients}

    def objective(self, shares_L: dict[str, Tensor]) -> Tensor:
        """fp32 scalar: what the gradient is taken of beside the cross-entropy."""
        return torch.stack([c * shares_L[name].sum() for name, c in self.coefficients.items()]).sum()
