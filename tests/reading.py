"""What every model must do with tokens: none reaches an earlier one, and with a cache they are read as without.

Letters: B batch, S sequence.
"""

import torch
from torch import Tensor

from harness.model.build import build_model
from harness.model.init import initialize
from harness.model.transformer import Transformer
from harness.model.where import Cache
from harness.plan.schema import Plan


@torch.no_grad()
def drawn(model: Transformer, plan: Plan, seed: int = 1) -> Transformer:
    """Initialized, and what starts at zero drawn too, so that every part says something."""
    initialize(model, plan.init, seed)
    draws = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.copy_(torch.where(p == 0, torch.randn(p.shape, generator=draws) * 0.3, p))
    return model.eval()


@torch.no_grad()
def saying(plan: Plan, seed: int = 1) -> Transformer:
    """A model of the plan whose outputs and head are not zero, so that every layer and expert says something."""
    model = build_model(plan, "full")
    plan.init.zero_output = False
    initialize(model, plan.init, seed)
    model.head.weight.normal_(0, 0.25, generator=torch.Generator().manual_seed(seed))
    return model.eval()


def tokens(batch: int, length: int, seed: int = 0) -> Tensor:
    """Bytes, int64 (B, S)."""
    return torch.randint(256, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def assert_causal(model: Transformer) -> None:
    """To the bit: earlier tokens say what they said, and the token that was changed does not."""
    token_BS = tokens(2, 32)
    before = model.logits(token_BS)
    for at in (0, 7, 20):
        changed = token_BS.clone()
        changed[:, at] = (changed[:, at] + 1) % 256
        after = model.logits(changed)
        assert torch.equal(before[:, :at], after[:, :at]) and not torch.equal(before[:, at], after[:, at])


@torch.no_grad()
def assert_decodes(model: Transformer, prompt: int) -> Cache:
    """The first `prompt` tokens at once and the others one by one; returns the cache."""
    token_BS, cache = tokens(2, 24), Cache()
    whole = model.logits(token_BS)
    found = [model.logits(token_BS[:, :prompt], cache)]
    found += [model.logits(token_BS[:, at : at + 1], cache) for at in range(prompt, 24)]
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-4, atol=2e-5)
    return cache
