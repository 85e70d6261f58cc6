"""nvfp4 with a tensor scale of every expert: each expert is quantized as if it were alone, on the CPU and in the oracle."""

from dataclasses import replace

import pytest
import torch
from expert_inputs import run
from quantized_moe import drawn, precision

from kernels import Arithmetic, Quantization
from kernels.cpu.operands import Quantizer

RECIPE = Quantization.recipe("nvfp4")
BY_EXPERT = replace(RECIPE, tensor_scale="expert")
NEAREST = replace(BY_EXPERT, stochastic_rounding=False)  # noise counts tokens and slots, which a part counts anew
BACKENDS = ("reference", "torch")
KEY_4 = torch.tensor([3, 5, 64, 1])
SHAPE = dict(tokens=75, experts=3, width=48, expert_width=32)


def outputs(tensors, dy_TD, dials, backend, arithmetic="full", activation="swiglu"):
    """y, dx, dw_up, dw_down, dweight."""
    words = dict(activation=activation, backend=backend, precision=precision(dials, arithmetic), key_4=KEY_4)
    return run(tensors, dy_TD, **words)


def uneven(top_k=1, **shape):
    """Token 0, which padding slots point to, is by far the largest, and experts differ in the size of all that they see."""
    (x, w_up, w_down, expert_TK, weight), dy_TD = drawn("swiglu", top_k=top_k, **(SHAPE | shape))
    expert_TK[0] = 0
    size_T1 = torch.tensor([1.0, 0.03, 5.0])[expert_TK[:, :1] % 3]
    size_T1[0] = 40.0
    w_up, w_down = (w * torch.tensor([0.2, 7.0, 1.0])[: len(w)].view(-1, 1, 1) for w in (w_up, w_down))
    return (x * size_T1, w_up, w_down, expert_TK, weight), dy_TD * size_T1


@pytest.mark.parametrize("backend, arithmetic", [("reference", "full"), ("torch", "full"), ("torch", "native")])
@pytest.mark.parametrize("hadamard", [True, False])
def test_every_expert_has_the_bits_that_it_has_alone(backend, arithmetic, hadamard):
    dials = replace(NEAREST, hadamard=hadamard)
    (x, w_up, w_down, expert_TK, weight), dy_TD = uneven()
    together = outputs((x, w_up, w_down, expert_TK, weight), dy_TD, dials, backend, arithmetic)
    layer = outputs((x, w_up, w_down, expert_TK, weight), dy_TD, replace(dials, tensor_scale="layer"), backend, arithmetic)
    for expert in range(3):
        of = torch.nonzero(expert_TK[:, 0] == expert).view(-1)
        part = (x[of], w_up[[expert]], w_down[[expert]], torch.zeros(len(of), 1, dtype=torch.int64), weight[of])
        alone = outputs(part, dy_TD[of], replace(dials, tensor_scale="layer"), backend, arithmetic)
        for places, found, whole, expected in zip((of, of, [expert], [expert], of), together, layer, alone):
            assert torch.equal(found[places], expected)
            assert expert == 0 or not torch.equal(whole[places], expected)  # and not so under the layer's scale


@pytest.mark.parametrize("arithmetic", ["full", "emulated", "native"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("top_k, kind", [(1, "distinct"), (2, "duplicates")])
def test_one_expert_has_the_bits_of_the_layers_scale_noise_included(top_k, kind, backend, arithmetic):
    tensors, dy_TD = uneven(top_k, experts=1, kind=kind)
    found, expected = (outputs(tensors, dy_TD, dials, backend, arithmetic) for dials in (BY_EXPERT, RECIPE))
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_other_experts_see_reaches_no_token(backend):
    """In nvfp4 a token shares a scale with the rows of its own experts alone; dropped rows are nobody's."""
    (x, w_up, w_down, expert_TK, weight), dy_TD = uneven()
    expert_TK[7] = -1
    before = outputs((x, w_up, w_down, expert_TK, weight), dy_TD, NEAREST, backend)
    there = (expert_TK[:, 0] == 0) | (expert_TK[:, 0] == -1)
    x, dy_TD = (torch.where(there.unsqueeze(1), t * 100, t) for t in (x, dy_TD))
    w_up, w_down = (torch.cat([w[:1] * 9, w[1:]]) for w in (w_up, w_down))
    after = outputs((x, w_up, w_down, expert_TK, weight), dy_TD, NEAREST, backend)
    kept = (~there, ~there, slice(1, None), slice(1, None), ~there)
    assert all(torch.equal(a[where], b[where]) for where, a, b in zip(kept, before, after))
    assert not torch.equal(before[0][there], after[0][there])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tokens", [0, 20])
def test_an_expert_without_rows_has_a_gradient_of_zeros_and_changes_no_bit(backend, tokens):
    (x, w_up, w_down, expert_TK, weight), dy_TD = uneven(tokens=max(tokens, 1))
    x, expert_TK, weight, dy_TD = (t[:tokens] for t in (x, expert_TK, weight, dy_TD))
    expert_TK = torch.where(expert_TK == 1, 2, expert_TK)
    found = outputs((x, w_up, w_down, expert_TK, weight), dy_TD, BY_EXPERT, backend)
    assert all(bool(t.isfinite().all()) for t in found) and not found[2][1].any() and not found[3][1].any()
    left = [0, 2]
    expected = outputs((x, w_up[left], w_down[left], expert_TK // 2, weight), dy_TD, BY_EXPERT, backend)
    assert all(torch.equal(a, b) for a, b in zip((found[0], found[1], found[2][left], found[3][left], found[4]), expected))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_expert_of_tiny_weights_keeps_them_where_the_layers_scale_makes_them_zeros(backend):
    (x, w_up, w_down, expert_TK, weight), dy_TD = uneven()
    w_up[1] *= 1e-7
    by_layer, by_expert = (
        outputs((x, w_up, w_down, expert_TK, weight), dy_TD, dials, backend, activation="swiglu")[0]
        for dials in (RECIPE, BY_EXPERT)
    )
    of_it = expert_TK[:, 0] == 1
    assert not by_layer[of_it].any() and bool(by_expert[of_it].any(1).all())


@pytest.mark.slow
def test_fused_rows_have_the_values_of_unfused_ones():
    slots_E = torch.tensor([32, 0, 48])
    makes = (Quantizer(BY_EXPERT, Arithmetic.of("full"), KEY_4, fused, slots_E) for fused in (True, False))
    x_PD = torch.randn(80, 64, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0] * 32 + [30.0] * 48)[:, None]
    fused, plain = (make.rows(x_PD, "input", "input") for make in makes)
    assert torch.equal(fused.values, plain.values) and torch.equal(fused.divisor, plain.divisor)
    assert fused.divisor[1] == 1 and len(set(fused.divisor.tolist())) == 3
