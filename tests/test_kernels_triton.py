"""The Triton kernels without a GPU: in the interpreter against the reference, and compiled ahead of time for three GPUs.

Both need a process of their own; one run of each serves the tests here, and later ones (`triton_output.py`).
"""

import pytest
import torch
from expert_inputs import inputs, relative_error, run
from triton_output import output
from triton_shapes import HOPPER, KERNELS, SHAPE_NAMES, TARGETS

from kernels import Precision, moe_mlp

ACTIVATIONS = ("relu2", "swiglu")


@pytest.mark.process
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", SHAPE_NAMES)
def test_the_interpreted_kernels_match_the_reference_and_repeat_their_bits(name, activation):
    found = output("triton_interpreted.py")[f"{name}, {activation}"]
    assert {n: e for n, e in found["errors"].items() if e > 1e-5} == {}
    assert found["same bits"]


@pytest.mark.process
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("what", ["invariance", "strided"])
def test_the_interpreted_kernels_do_not_depend_on_the_batch_or_on_strides(what, activation):
    assert output("triton_interpreted.py")[f"{what}, {activation}"] is True


@pytest.mark.process
def test_the_interpreted_kernels_match_the_reference_on_any_shape_and_routing():
    assert output("triton_interpreted.py")["on_any_shape"] == ""


@pytest.mark.process
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_interpreted_kernels_leave_out_dropped_rows(activation):
    found = output("triton_interpreted.py")[f"dropped, {activation}"]
    assert {n: e for n, e in found["errors"].items() if e > 1e-5} == {}
    assert found["zeros"]


@pytest.mark.process
def test_the_interpreted_router_chooses_what_sorted_keys_choose_with_the_same_bits_and_gradients():
    found = output("triton_interpreted.py")["selection"]
    assert len(found) == 5 and all(found.values()), found


@pytest.mark.process
def test_a_routers_product_and_its_gradients_are_those_of_fp64_to_fp32s_rounding():
    found = output("triton_interpreted.py")["thin products"]
    assert len(found) == 12 and {name: error for name, error in found.items() if not error < 2e-6} == {}


@pytest.mark.process
@pytest.mark.parametrize("target", [80, 90, 100])
@pytest.mark.parametrize("product", ["logits", "dx", "dw"])
def test_a_routers_product_is_of_tensor_cores_in_three_parts_without_spills(product, target):
    found = output("triton_ahead.py")["router"][f"{product}, sm_{target}"]
    assert (found["spill bytes"], found["float atomics"]) == (0, 0) and found["tensor core instructions"] >= 3
    assert found["shared bytes"] <= 99 * 1024


@pytest.mark.process
def test_offsets_beyond_two_billion_elements_are_right():
    assert output("triton_interpreted.py")["beyond_two_billion"] is True


@pytest.mark.process
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_backward_is_left_x_and_the_pre_activation_and_nothing_else(activation):
    found = output("triton_interpreted.py")[f"saved_bytes, {activation}"]
    assert found["found"] == found["expected"]


@pytest.mark.process
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_compiled_kernels_use_tensor_cores_without_spills_or_float_atomics(kernel, target):
    found = output("triton_ahead.py")[f"{kernel}, sm_{target}"]
    assert found["spill bytes"] == 0
    assert found["float atomics"] == 0
    assert found["maxima that drop NaN"] == 0
    if kernel != "combine":
        assert found["tensor core instructions"] > 0
    if target == 90 and kernel != "combine":
        assert found["wgmma"] > 0
    assert found["64-bit products"] > 0  # row offsets may pass 2^31
    assert found["shared bytes"] <= {80: 163, 90: 227, 100: 227}[target] * 1024


@pytest.mark.process
@pytest.mark.parametrize("shape", HOPPER)
def test_the_defaults_of_hopper_neither_spill_nor_let_products_wait_for_each_other(shape):
    found = {name: kernel for name, kernel in output("triton_ahead.py")["hopper"].items() if name.endswith(shape)}
    assert len(found) == 11
    for name, kernel in found.items():
        assert kernel["spill bytes"] == kernel["float atomics"] == kernel["wgmma serialized"] == 0, name
        assert kernel["shared bytes"] <= 227 * 1024, name
        assert (kernel["wgmma"] > 0) == (not name.startswith("combine")), name


@pytest.mark.process
def test_what_chooses_experts_and_orders_rows_compiles_without_spills_or_float_atomics():
    found = output("triton_ahead.py")["routing"]
    assert len(found) == 3 * 2 * 2
    assert {name: k for name, k in found.items() if k["spill bytes"] or k["float atomics"]} == {}


def test_triton_on_a_cpu_is_refused_with_what_to_use():
    *tensors, expert_TK, weight_TK = inputs(5, 8, 4, 3, 2, "swiglu")
    with pytest.raises(ValueError, match="x is on cpu.*needs a CUDA device.*use backend='torch'"):
        moe_mlp(*tensors, expert_TK, weight_TK, activation="swiglu", backend="triton")


def test_triton_refuses_emulated_bf16():
    *tensors, expert_TK, weight_TK = inputs(5, 8, 4, 3, 2, "swiglu")
    with pytest.raises(ValueError, match="triton.*emulated.*native"):
        moe_mlp(*tensors, expert_TK, weight_TK, activation="swiglu", backend="triton", precision=Precision.of("emulated"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_4096_experts_and_offsets_beyond_two_billion_match_the_reference_on_some_tokens():
    tokens, width, expert_width, experts, top_k = 1 << 19, 256, 1024, 4096, 4  # pre-activations: 2^21 rows x 2048 = 2^32
    draws = torch.Generator(device="cuda").manual_seed(0)
    x_TD = torch.randn(tokens, width, generator=draws, device="cuda", dtype=torch.bfloat16)
    w_up = torch.randn(experts, width, 2 * expert_width, generator=draws, device="cuda", dtype=torch.bfloat16) / width**0.5
    w_down = torch.randn(experts, expert_width, width, generator=draws, device="cuda", dtype=torch.bfloat16) / expert_width**0.5
    expert_TK = torch.randint(experts, (tokens, top_k), generator=draws, device="cuda")
    weight_TK = torch.rand(tokens, top_k, generator=draws, device="cuda")
    options = dict(activation="swiglu", backend="triton", precision=Precision.of("native"))
    y_TD = moe_mlp(x_TD, w_up, w_down, expert_TK, weight_TK, **options)
    for t in (0, 12345, tokens - 1):
        expected = torch.zeros(width, device="cuda")
        for k in range(top_k):
            gate, value = (x_TD[t].float() @ w_up[expert_TK[t, k]].float()).chunk(2)
            expected += weight_TK[t, k] * (torch.nn.functional.silu(gate) * value) @ w_down[expert_TK[t, k]].float()
        assert relative_error(y_TD[t], expected) <= 1e-2  # one row: a sum of four roundings


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("precision, bound", [("full", 1e-5), ("native", 5e-3)])
def test_on_a_gpu_the_kernels_match_fp32_and_repeat_their_bits(activation, precision, bound):
    x, w_up, w_down, expert_TK, weight = inputs(1000, 256, 128, 16, 4, activation)
    dtype = torch.bfloat16 if precision == "native" else torch.float32
    rounded = [t.to(dtype).float() for t in (x, w_up, w_down)]
    dy_TD = torch.randn(1000, 256, generator=torch.Generator().manual_seed(1)).to(dtype).float()
    expected = run((*rounded, expert_TK, weight), dy_TD, activation=activation, backend="reference")
    there = [t.cuda() for t in (*rounded, expert_TK, weight)]
    found, again = (run(there, dy_TD.cuda(), activation=activation, backend="triton", precision=precision) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(found, again))
    assert [relative_error(a.cpu(), b) <= bound for a, b in zip(found, expected)] == [True] * 5
