"""Gradients of every attention, memory and residual scheme against differences, in fp64 and of whole models; and of what they
are made of."""

import micro
import pytest
import torch
from reading import drawn, tokens
from torch.autograd import gradcheck

from harness.model.delta_rule import chunked, recurrent
from harness.model.residual.hyper import sinkhorn
from harness.model.short_conv import short_conv
from harness.model.transformer import Transformer
from harness.model.where import Where
from harness.plan import parts
from harness.plan.compose import compose
from kernels import Arithmetic

SMALL = [
    *micro.DENSE, "model.width=8", "model.heads=2", "model.ffn_width=8", "attention.mla.rank=3", "attention.mla.rotary=2",
    "attention.window.tokens=5", "attention.gated_delta.chunk=4", "attention.kda.chunk=4", "attention.nsa.block=4",
    "attention.nsa.chosen=3", "attention.nsa.window=3", "memory.bigram.columns=4", "memory.bigram.rows=50",
    "memory.engram.rows=11", "memory.engram.columns=3", "memory.engram.heads=2", "memory.smear.channels=5",
    "memory.value_embeddings.channels=5",
]  # fmt: skip
KINDS = [
    *(f"model.attention={name}" for name in parts.names("attention")), "model.residual=hyper", "model.residual=lambdas",
    *(f"model.memories=[{name}]" for name in parts.names("memory")), "model.memories=[canon] memory.canon.places=ABCD",
    "model.qk_norm=false", "model.norm_weight=true",
    "attention.full.kv_heads=1 attention.full.head_gate=true attention.full.gain=1.5",
    "attention.full.rotated=2 attention.full.key_offset=true",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_model_are_those_of_differences(kind, monkeypatch):
    """Of all of its parameters, along drawn directions. What would be fp32 is fp64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    plan = compose([*SMALL, *kind.split()]).plan
    model = drawn(Transformer(plan.model, Arithmetic("full", torch.float64, rounds=False), "torch", plan=plan).double(), plan)
    token_BS, named = tokens(2, 11), dict(model.named_parameters())

    def nats(*weights):
        given = dict(zip(named, weights))
        return torch.func.functional_call(model, given, (Where(token_BS), token_BS.roll(-1, 1))).nats_BS

    assert all(p.dtype == torch.float64 for p in named.values()) and nats(*named.values()).dtype == torch.float64
    assert gradcheck(nats, tuple(named.values()), fast_mode=True, atol=1e-7, rtol=1e-5)


def leaves(*shapes):
    draws = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, dtype=torch.float64, generator=draws).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_of_the_delta_rule_are_those_of_differences(channels):
    """Chunk by chunk and token by token, of a length that is no multiple of the chunk, with a state before it."""
    q, k, v, g, beta, state = leaves((1, 2, 7, 3), (1, 2, 7, 3), (1, 2, 7, 2), (1, 2, 7, channels), (1, 2, 7), (1, 2, 3, 2))

    def given(q, k, v, g, beta, state):
        return q, k / k.norm(dim=-1, keepdim=True), v, -5 * torch.sigmoid(g), torch.sigmoid(beta), state

    assert gradcheck(lambda *words: chunked(*given(*words), 4, -5.0), (q, k, v, g, beta, state))
    assert gradcheck(lambda *words: recurrent(*given(*words)), (q, k, v, g, beta, state))


@pytest.mark.parametrize("decay", [0.0, -5.0])
def test_gradients_in_fp32_stay_near_fp64_with_identical_keys_full_corrections_and_either_end_of_the_decay(decay):
    q, k, v = leaves((1, 1, 37, 8), (1, 1, 1, 8), (1, 1, 37, 8))
    g = torch.full((1, 1, 37, 8), decay, dtype=torch.float64, requires_grad=True)
    beta = torch.ones(1, 1, 37, dtype=torch.float64, requires_grad=True)

    def gradients(dtype):
        words = (q, (k / k.norm()).expand_as(q), v, g, beta, torch.zeros(1, 1, 8, 8))
        o, _ = chunked(*(t.to(dtype) for t in words), 16, -5.0)
        return torch.autograd.grad(o.square().sum(), (q, k, v, g, beta))

    for exact, found in zip(gradients(torch.float64), gradients(torch.float32)):
        assert bool(found.isfinite().all()) and float((found - exact).norm()) <= 1e-4 * float(exact.norm())


@pytest.mark.parametrize("dilation", [1, 3])
def test_gradients_of_the_short_convolution_are_those_of_differences(dilation):
    x, taps, before = leaves((2, 6, 3), (3, 3), (2, 2 * dilation, 3))
    document_BS = torch.tensor([[0, 0, 1, 1, 1, 2], [5, 6, 7, 7, 7, 7]])
    assert gradcheck(lambda *words: short_conv(*words, dilation), (x, taps, before))
    assert gradcheck(lambda *words: short_conv(*words, None, dilation, document_BS), (x, taps))


def test_gradients_of_sinkhorn_are_those_of_differences():
    assert gradcheck(lambda logits: sinkhorn(logits, 7), leaves((2, 3, 3)))
