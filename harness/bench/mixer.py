"""One attention at one length of sequences: built as a run builds it, warm, counted, and its cache filled.

Letters: B batch, S sequence, D width.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from harness.bench.contestants import Prepared
from harness.bench.kernel_table import arithmetic_of
from harness.bench.measure import WARMUP, kept_bytes, once
from harness.errors import UserError
from harness.model.attention import Attention
from harness.model.counts import count
from harness.model.init import initialize
from harness.model.where import Cache, Where
from harness.plan import parts
from harness.plan.schema import Plan
from harness.train.backends import attention_backend
from harness.train.machine import Machine, is_out_of_memory
from harness.train.memory import GIB

PIECE = 512  # tokens that are read into a cache at once
PASS = 5  # times what is kept for the backward, with gradients and what runs: measured 2.1 of kda, 2.3 of nsa, 4.8 of full
REMEDY = "name shorter lengths: lengths=256,1024"


@dataclass(frozen=True)
class Mixer:
    """`dy_BSD`: the gradient that comes in. `saved_bytes`: what autograd keeps of a token beside weights; `cached_bytes`: of
    one sequence of the length, the part's own count where it does not decode (`counted`)."""

    prepared: Prepared
    dy_BSD: Tensor
    flops_per_token: float
    saved_bytes: float
    cached_bytes: float
    counted: bool


def mixer(plan: Plan, name: str, here: Machine, shape: tuple[int, int, int], limit: float) -> Mixer:
    """`name`: of the attention, in place of the plan's. `shape`: B, S, D of what it reads. `limit`: bytes that a pass may take.

    Raises:
        UserError: the part refuses the length; a pass takes more than `limit` by what it would keep, counted on tensors
            without memory, or more than there is.
    """
    batch, length, _ = shape
    plan = replace(plan, model=replace(plan.model, attention=name, attention_pattern=[], sequence_length=length))
    parts.check(plan)
    with FakeTensorMode():
        attention, shared = _built(plan, here)
        taken = PASS * _kept(attention, _prepared(attention, shared, torch.empty(shape, device=here.torch_device)))
    if taken > limit:
        raise UserError(f"a pass takes about {taken / GIB:,.1f} GiB, and {limit / GIB:,.1f} GiB may be used", REMEDY)
    attention, shared = _built(plan, here)
    initialize(attention, replace(plan.init, zero_output=False), plan.seed)
    draws = torch.Generator(here.device).manual_seed(0)
    x_BSD, dy_BSD = (torch.randn(shape, generator=draws, device=here.torch_device) for _ in range(2))
    dy_BSD = dy_BSD.to(arithmetic_of(here).dtype)
    decodes = "decoding" not in attention.CANNOT
    cached = _cached(attention, shared, x_BSD) if decodes else attention.cache_values() * length * dy_BSD.element_size()
    if plan.kernels.compile == "on":
        attention.compile(fullgraph=True, dynamic=False)
    prepared = _prepared(attention, shared, x_BSD)
    try:
        for _ in range(WARMUP):
            once(prepared, dy_BSD)
        saved = _kept(attention, prepared) / (batch * length)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"out of memory: {str(error).splitlines()[0]}", REMEDY) from error
    return Mixer(prepared, dy_BSD, count(attention).flops_per_token, saved, cached, not decodes)


def _built(plan: Plan, here: Machine) -> tuple[Attention, nn.Module]:
    """The attention, without weights, and what all layers share of it."""
    name, backend = plan.model.attention, attention_backend(plan, here)
    part, keys = parts.part("attention", name), parts.keys_of(plan, "attention", name)
    with here.torch_device:
        attention = part(plan.model, keys, arithmetic_of(here))
    attention.backend = "torch" if backend == "flex" else backend  # flex needs documents
    return attention, part.shared(plan.model, keys).to(here.torch_device)


def _prepared(attention: Attention, shared: nn.Module, x_BSD: Tensor) -> Prepared:
    x_BSD = x_BSD.detach().requires_grad_()
    where = Where(torch.zeros(x_BSD.shape[:2], dtype=torch.int64, device=x_BSD.device))
    where = where._replace(shared=shared(where))
    return Prepared(lambda: attention(x_BSD, where), [x_BSD, *attention.parameters()])


def _kept(attention: Attention, prepared: Prepared) -> int:
    return kept_bytes(prepared.run, list(attention.parameters()))


@torch.no_grad()
def _cached(attention: Attention, shared: nn.Module, x_BSD: Tensor) -> int:
    """Bytes of the cache once one sequence is read into it."""
    cache = Cache()
    for x_1SD in x_BSD[:1].split(PIECE, 1):
        where = Where(torch.zeros(x_1SD.shape[:2], dtype=torch.int64, device=x_1SD.device), cache=cache)
        attention(x_1SD, where._replace(shared=shared(where)))
        cache.length += x_1SD.shape[1]
    return cache.bytes
