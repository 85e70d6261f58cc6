"""What the auxiliary losses need of one MoE layer: small sums over its tokens, differentiable in the router's logits.

Letters: T tokens, S sequence, B = T/S sequences, E experts, K top-k. A token's share of an expert is its score over the sum of
its scores (DeepSeek-V3, arXiv 2412.19437, equation 19), which of a softmax is the score itself. Sums, not means: they add up
over micro-batches and ranks, and `harness/optim/auxiliary.py` divides once.
"""

import torch
from torch import Tensor

from harness.model.routing import Routing, top_k_lower_id
from harness.plan.schema import Balance


def _share_sum(routing: Routing, sequence_length: int) -> Tensor:
    """fp32 (E,): each expert's shares summed over tokens. The Switch loss multiplies it by the load of the whole step."""
    return _share(routing).sum(0)


def _sequence_sum(routing: Routing, sequence_length: int) -> Tensor:
    """fp32 scalar: sum over sequences of sum_e f_e P_e (equations 17 to 20): P_e an expert's mean share in the sequence, f_e
    the tokens whose K largest scores hold it, times E/(K S). 1 for a sequence in balance. As in equation 18 the K largest are
    those of the scores alone, whatever a bias selects."""
    tokens, experts = routing.score_TE.shape
    top_k, sequences = routing.expert_TK.shape[1], tokens // sequence_length
    best_TK = top_k_lower_id(routing.score_TE.detach(), top_k)
    ids_BR = best_TK.view(sequences, sequence_length * top_k)
    count_BE = torch.zeros(sequences, experts, dtype=torch.int64, device=ids_BR.device)
    count_BE.scatter_add_(1, ids_BR, torch.ones_like(ids_BR))
    load_BE = count_BE.float() * (experts / (top_k * sequence_length))
    return (load_BE * _share(routing).view(sequences, sequence_length, experts).mean(1)).sum()


def _z_sum(routing: Routing, sequence_length: int) -> Tensor:
    """fp32 scalar: sum over tokens of logsumexp(logits)^2 (ST-MoE, arXiv 2202.08906, equation 5)."""
    return torch.logsumexp(routing.logit_TE, dim=1).square().sum()


def _share(routing: Routing) -> Tensor:
    return routing.score_TE / (routing.score_TE.sum(1, keepdim=True) + 1e-20)


TERMS = {"aux_loss": _share_sum, "sequence_loss": _sequence_sum, "z_loss": _z_sum}


def terms(names: tuple[str, ...], routing: Routing, sequence_length: int) -> dict[str, Tensor]:
    """The sums behind the losses of `names`, keys of TERMS."""
    return {name: TERMS[name](routing, sequence_length) for name in names}


def wanted(balance: Balance) -> tuple[str, ...]:
    """The losses that are on."""
    return tuple(name for name in TERMS if getattr(balance, f"{name}_coef"))
