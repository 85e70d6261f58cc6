"""What bf16 costs the expert MLP, and that the oracle's gradients are those of its equation."""

import pytest
import torch

from kernels import Arithmetic, Precision, moe_mlp
from kernels.reference import moe_mlp_reference


def inputs(tokens, width, expert_width, experts, top_k, activation, dtype=torch.float32):
    draws = torch.Generator().manual_seed(3)
    fan = 2 if activation == "swiglu" else 1
    x_TD = torch.randn(tokens, width, generator=draws)
    w_up_EDG = torch.randn(experts, width, expert_width * fan, generator=draws) / width**0.5
    w_down_EFD = torch.randn(experts, expert_width, width, generator=draws) / expert_width**0.5
    expert_TK = torch.rand(tokens, experts, generator=draws).argsort(1)[:, :top_k]
    weight_TK = torch.rand(tokens, top_k, generator=draws).softmax(1)
    return [t.to(dtype).requires_grad_() for t in (x_TD, w_up_EDG, w_down_EFD)], expert_TK, weight_TK.to(dtype).requires_grad_()


def rms_error(found, expected):
    return float((found.double() - expected.double()).detach().norm() / expected.double().detach().norm())


def calc_diff(found, expected):
    """1 - 2<a,b> / (|a|^2 + |b|^2): a cosine distance that also sees a wrong scale."""
    a, b = found.double(), expected.double()
    return float(1 - 2 * (a * b).sum() / (a.square().sum() + b.square().sum()))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["as auto chooses", "reference"])
@pytest.mark.parametrize("activation", ["relu2", "swiglu"])
@pytest.mark.parametrize(
    "precision, shape, rms_bound, diff_bound",
    [
        ("emulated", (64, 128, 64, 4, 2), 5e-3, 1e-5),
        # bf16 products return bf16: pre-activations, da and the rows before the combine are rounded too
        ("native", (256, 64, 32, 4, 2), 5e-3, 1e-5),
    ],
)
def test_bf16_stays_within_its_error_of_fp32_on_the_same_bf16_inputs(
    precision, shape, rms_bound, diff_bound, activation, backend
):
    tensors, expert_TK, weight_TK = inputs(*shape, activation)
    tensors = [t.detach().bfloat16().float().requires_grad_() for t in tensors]
    leaves = [*tensors, weight_TK]
    dy_TD = torch.randn(shape[0], shape[1], generator=torch.Generator().manual_seed(4)).bfloat16().float()
    results = []
    fast = "inductor" if precision == "native" else "torch"
    for name, who in ((precision, fast if backend != "reference" else backend), ("full", "reference")):
        y_TD = moe_mlp(*tensors, expert_TK, weight_TK, activation=activation, backend=who, precision=Precision.of(name))
        results.append([y_TD.detach(), *torch.autograd.grad(y_TD, leaves, dy_TD)])
    names = ("y", "dx", "dw_up", "dw_down", "dweight")
    errors = {name: (rms_error(a, b), calc_diff(a, b)) for name, a, b in zip(names, *results)}
    assert {name: e for name, e in errors.items() if e[0] > rms_bound or e[1] >= diff_bound} == {}


@pytest.mark.parametrize("precision", ["emulated", "native"])
def test_bf16_really_rounds(precision):
    tensors, expert_TK, weight_TK = inputs(32, 64, 32, 4, 2, "relu2")
    words = dict(expert_TK=expert_TK, weight_TK=weight_TK, activation="relu2")
    full, rounded = (moe_mlp(*tensors, **words, precision=Precision.of(p)) for p in ("full", precision))
    assert rms_error(rounded, full) > 5e-4  # bf16 keeps 8 bits: a single rounding is off by about 1e-3


def test_emulated_products_see_only_bf16_values():
    """An input perturbed below bf16 resolution gives the same bits."""
    tensors, expert_TK, weight_TK = inputs(32, 64, 32, 4, 2, "relu2")
    rounded = [t.detach().bfloat16().float() for t in tensors]
    nudged = [t * (1 + 2**-12) for t in rounded]
    words = dict(expert_TK=expert_TK, weight_TK=weight_TK, activation="relu2", precision=Precision.of("emulated"))
    a, b = (moe_mlp(*t, **words) for t in (rounded, nudged))
    assert torch.equal(a, b)


@pytest.mark.parametrize("activation", ["relu2", "swiglu"])
def test_the_oracles_gradients_are_those_of_its_equation(activation):
    tensors, expert_TK, weight_TK = inputs(4, 5, 3, 3, 2, activation, torch.float64)
    exact = Arithmetic("float64", torch.float64, rounds=False)

    def oracle(x_TD, w_up_EDG, w_down_EFD, weight_TK):
        return moe_mlp_reference(x_TD, w_up_EDG, w_down_EFD, expert_TK, weight_TK, activation, exact)

    assert torch.autograd.gradcheck(oracle, (*tensors, weight_TK))


def test_the_oracle_is_the_equation_written_out():
    (x, w_up, w_down), expert_TK, weight_TK = inputs(3, 5, 4, 3, 2, "swiglu")
    expected = torch.zeros(3, 5)
    for t in range(3):
        for k in range(2):
            e = int(expert_TK[t, k])
            gate, value = x[t] @ w_up[e][:, :4], x[t] @ w_up[e][:, 4:]
            expected[t] += weight_TK[t, k] * (gate / (1 + torch.exp(-gate)) * value) @ w_down[e]
    found = moe_mlp(x, w_up, w_down, expert_TK, weight_TK, activation="swiglu", backend="reference")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
