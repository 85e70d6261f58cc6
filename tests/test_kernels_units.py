"""Rows of several units at the owner of their experts: the fold of weight gradients, and one call on a GPU for all units.

What Triton's interpreter and compiler find comes from a process of their own each (`triton_output.py`).
"""

from dataclasses import replace

import pytest
import torch
from expert_inputs import BF16, IN_BRGEMM, inputs
from triton_output import output
from triton_shapes import UNITS
from units_of_rows import NAMES, Owned, other_bytes, owned, passes, same_bytes, totals_before

from kernels import Precision, Quantization, moe_mlp
from kernels.activation import ACTIVATIONS
from kernels.backends import OPERATORS, operands_of
from kernels.triton import configuration
from kernels.triton.units import Pooled, _tiles, starts
from kernels.units import BySource, Layer, of_units, pools

NATIVE = Precision.of("native")
FEW = [[3, 0, 2], [0, 0, 0], [1, 4, 0]]
WAYS = [("torch", p) for p in ("full", "emulated", *(["native"] if BF16 else []))]
COMPILED = [pytest.param("brgemm", p, marks=pytest.mark.slow) for p in IN_BRGEMM]


def of_unit(unit, held, activation, seed):
    """(x_TD, both weights, expert_TK, weight_TK, dy_TD) of one micro-batch; the second sends nothing to `held`, and none sends
    anything to its second expert."""
    x, w_up, w_down, expert_TK, weight = inputs(24, 32, 32, 8, 3, activation, seed=seed)
    away = expert_TK == held[1]
    if unit == 1:
        away |= (expert_TK >= held.start) & (expert_TK < held.stop)
    return (
        x,
        w_up,
        w_down,
        torch.where(away, 0, expert_TK),
        weight,
        torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)),
    )


def sent(units, held, precision, activation) -> Owned:
    """The rows of `units` for the experts `held`, by (unit, expert, token, slot), with the first unit's weights."""
    parts = []
    for x, _, _, expert_TK, weight, dy in units:
        id_R = expert_TK.reshape(-1)
        row_R = torch.cat([torch.nonzero(id_R == expert).view(-1) for expert in held])
        token_R = row_R // expert_TK.shape[1]
        parts.append(
            (x[token_R], torch.bincount(id_R, minlength=8)[held.start : held.stop], weight.view(-1)[row_R], dy[token_R])
        )
    x_RD, count_PN, weight_R, dy_RD = zip(*parts)
    w_up, w_down = (w[held.start : held.stop] for w in units[0][1:3])
    layer = Layer(ACTIVATIONS[activation], precision, None, 8, 3)
    return Owned(torch.cat(x_RD), w_up, w_down, torch.stack(count_PN), torch.cat(weight_R), torch.cat(dy_RD), layer)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("backend, precision", [*WAYS, *COMPILED])
def test_an_owners_fold_has_the_bytes_of_one_process_that_accumulates_its_micro_batches(backend, precision, activation):
    held, known = range(2, 5), Precision.of(precision)
    units = [of_unit(unit, held, activation, seed=10 + unit) for unit in range(3)]
    w_up, w_down = (w.clone().requires_grad_() for w in units[0][1:3])
    for x, _, _, expert_TK, weight, dy in units:
        moe_mlp(x, w_up, w_down, expert_TK, weight, activation=activation, backend=backend, precision=known).backward(dy)
    it, to = sent(units, held, known, activation), OPERATORS[backend]
    up, down = operands_of(to, known, (it.w_up_NDG, it.w_down_NFD), (None, None))
    dy_RD = it.dy_RD if to.takes_masters else known.arithmetic.operand(it.dy_RD)
    it = it._replace(x_RD=known.arithmetic.operand(it.x_RD), w_up_NDG=up, w_down_NFD=down, dy_RD=dy_RD)
    assert [int(n) for n in it.count_PN.sum(1)][1] == int(it.count_PN[:, 1].sum()) == 0 < len(it.x_RD)
    found = passes(of_units(backend, known), it, None)
    for name, w in (("up", w_up), ("down", w_down)):
        assert same_bytes(found[name], w.grad[held.start : held.stop]), name


class Negative:
    """A backend whose weight gradients are -0.0."""

    def forward(self, x_SD, w_up, w_down, *_, beside=None):
        return x_SD.float(), x_SD.new_zeros(len(x_SD), w_up.shape[2])

    def backward(self, dy_SD, x_SD, w_up, w_down, expert_S1, weight_S1, *_, beside=None):
        return dy_SD.float(), *(torch.full(w.shape, -0.0) for w in (w_up, w_down)), weight_S1

    def saved_rows(self, rows, experts):
        return rows

    def kept(self, tokens, top_k, experts):
        return ()


@pytest.mark.parametrize("counts, sign", [([[2]], True), ([[2], [1]], True), ([[2], [0]], False), ([[0], [2]], False)])
def test_the_first_part_is_kept_as_it_is_and_a_unit_without_rows_adds_zeros(counts, sign):
    found = passes(BySource(Negative()), owned(counts, 4, 4, "relu2"), None)
    for name in ("up", "down"):
        assert not found[name].any() and bool(found[name].signbit().all()) == sign, name


def test_rows_come_back_in_the_order_in_which_they_came():
    it = owned([[3, 1], [0, 2], [4, 0]], 8, 8, "swiglu")
    whole = passes(BySource(OPERATORS["torch"]), it, None)
    expert_R = torch.tensor([0] * 3 + [1] + [1] * 2 + [0] * 4)
    for r in range(len(it.x_RD)):
        count_PN = torch.nn.functional.one_hot(expert_R[r : r + 1], 2)
        parts = (t[r : r + 1] for t in (it.x_RD, it.weight_R, it.dy_RD))
        x_RD, weight_R, dy_RD = parts
        alone = passes(
            BySource(OPERATORS["torch"]), it._replace(x_RD=x_RD, weight_R=weight_R, dy_RD=dy_RD, count_PN=count_PN), None
        )
        for name in NAMES[:3]:
            assert torch.allclose(alone[name][0], whole[name][r], rtol=1e-5, atol=1e-6), (r, name)


@pytest.mark.parametrize("precision", ["full", "native"])
def test_no_rows_at_all_make_zeros_of_the_right_shapes(precision):
    found = passes(BySource(OPERATORS["torch"]), owned([[0, 0]], 8, 6, "swiglu", Precision.of(precision)), None)
    assert [tuple(found[name].shape) for name in NAMES] == [(0, 8), (0, 8), (0,), (2, 8, 12), (2, 6, 8)]
    assert all(t.dtype == torch.float32 and not t.any() for t in found.values())


def quantized(format, **dials):
    return Precision(Precision.of("native").arithmetic, replace(Quantization.recipe(format), **dials))


@pytest.mark.parametrize("precision", [NATIVE, quantized("fp8"), quantized("mxfp8", keep=("weight_gradient",))], ids=str)
def test_a_gpu_makes_one_call_where_neither_rows_nor_factors_see_other_rows(precision):
    assert pools(precision) and isinstance(of_units("triton", precision), Pooled)
    assert isinstance(of_units("torch", precision), BySource)


APART = [
    quantized("nvfp4"), quantized("nvfp4", stochastic_rounding=False, keep=("weight_gradient",)), quantized("mxfp8"),
    quantized("nvfp4", stochastic_rounding=False, tensor_scale="expert", keep=("weight_gradient",)),
    quantized("mxfp4"), quantized("fp8", fp8_weight_gradients=True), quantized("fp8", stochastic_rounding=True),
]  # fmt: skip


@pytest.mark.parametrize("precision", APART, ids=str)
def test_a_gpu_makes_a_call_for_each_unit_where_a_scale_or_a_draw_looks_at_other_rows(precision):
    assert not pools(precision) and isinstance(of_units("triton", precision), BySource)


def test_each_experts_rows_begin_by_unit():
    assert starts(torch.tensor(FEW), torch.device("cpu")).tolist() == [0, 3, 3, 4, 4, 4, 8, 10, 10, 10]


def test_tiles_are_those_of_the_whole_layer_however_few_experts_are_held(monkeypatch):
    it = owned([[2, 1]], 16, 16, "relu2")
    safe = configuration.SAFE[torch.float32]
    tuned = {
        configuration.Key.of("", "", torch.float32, 16, 16, experts, top_k, False): replace(safe, rows=rows)
        for experts, top_k, rows in ((64, 6, 64), (2, 1, 16))
    }
    monkeypatch.setattr(configuration, "read", lambda _=None: tuned)
    assert _tiles(it.x_RD, it.w_down_NFD, it.layer._replace(experts=64, top_k=6)).rows == 64


@pytest.mark.process
@pytest.mark.parametrize("totals", ["added", "first"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", UNITS)
def test_one_interpreted_call_for_all_units_has_the_bytes_of_a_call_for_each(name, activation, totals):
    assert output("triton_units.py")[f"{name}, {activation}, {totals}"] == []


@pytest.mark.process
def test_one_interpreted_call_has_these_bytes_for_any_counts_and_widths():
    assert output("triton_units.py")["on_any_counts"] == ""


@pytest.mark.process
@pytest.mark.parametrize("format", ["fp8", "mxfp8"])
def test_one_interpreted_call_has_these_bytes_where_rows_are_quantized(format):
    assert output("triton_units.py")[format] == []


@pytest.mark.process
def test_the_interpreted_fold_adds_zeros_for_an_expert_without_rows_and_nothing_else():
    assert output("triton_units.py")["zeros"] == {"signs": 0, "numbers": 0, "others": []}


@pytest.mark.process
def test_units_in_another_order_would_have_other_bytes():
    assert output("triton_units.py")["order"] is True


@pytest.mark.process
@pytest.mark.parametrize("target", [80, 90, 100])
@pytest.mark.parametrize("kernel", ["fold_up", "fold_down", "fold_up first", "fold_down first"])
def test_the_compiled_fold_adds_each_units_sums_and_not_their_terms(kernel, target):
    """The product of a unit begins with zeros: were the total its accumulator, no sum would be added."""
    found, plain = (output("triton_ahead.py")[f"{name}, sm_{target}"] for name in (kernel, "dw_" + kernel.split()[0][5:]))
    assert found["fp32 additions"] - plain["fp32 additions"] >= SUMS_OF_A_THREAD


SUMS_OF_A_THREAD = 128 * 64 // (4 * 32)  # of the safe tile in bf16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("width, expert_width", [(768, 384), (2048, 768), (96, 40)])
@pytest.mark.parametrize("precision", [NATIVE, quantized("fp8"), Precision.of("full")], ids=str)
def test_on_a_gpu_one_call_for_all_units_has_the_bytes_of_a_call_for_each(width, expert_width, precision):
    if precision.quantization and width % 128:
        width, expert_width = 256, 128
    draws = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 300, (8, 12), generator=draws)
    counts[:, 3] = counts[2] = 0
    key_4 = torch.zeros(4, dtype=torch.int64, device="cuda") if precision.quantization else None
    it = owned(counts.tolist(), width, expert_width, "swiglu", precision).to("cuda")
    it = it._replace(layer=it.layer._replace(key_4=key_4))
    for before in (None, totals_before(it)):
        assert other_bytes(passes(Pooled(), it, before), passes(BySource(OPERATORS["triton"]), it, before)) == []
