"""Whose time a moment of a step was, by events as torch.profiler gives them, and the floors of the parts."""

from dataclasses import replace
from types import SimpleNamespace

import micro
import pytest

from harness.bench.profile import parts
from harness.bench.profile.events import STEP, _activity, spent
from harness.bench.profile.floors import floors
from harness.bench.profile.parts import (
    ATTENTION,
    DENSE,
    ELEMENTWISE,
    EXPERTS,
    GATHERS,
    HEAD,
    HOST,
    MARK,
    NORMS,
    NOWHERE,
    OPTIMIZER,
    OTHER,
    ROUTER,
    Place,
    Products,
    place,
)  # fmt: skip
from kernels.stages import EXCHANGE, STAGES

PRODUCTS = Products([(DENSE, (256, 256), False), (DENSE, (256, 512), False), (ROUTER, (256, 16), True)], experts=16)
TWO = ("c10::BFloat16", "c10::BFloat16")
MLP = ((16, 256, 128), (16, 128, 256))


def event(name, start, end, **other):
    """Microseconds, on the CPU and the first thread unless `other` says something else."""
    known = {"id": 0, "thread": 1, "input_shapes": [], "input_dtypes": [], "sequence_nr": -1, "activity_type": "cpu_op"}
    known |= {"linked_correlation_id": 0, "device_type": "DeviceType.CPU"} | other
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end), **known)


def kernel(name, start, end, **other):
    return event(name, start, end, device_type="DeviceType.CUDA", activity_type="kernel", **other)


def product(start, end, *shapes, kind="c10::BFloat16", **other):
    return event("aten::mm", start, end, input_shapes=shapes, input_dtypes=[kind] * len(shapes), **other)


@pytest.mark.parametrize(
    "name, part",
    [
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", ATTENTION),
        ("moe_speedrun::attention", ATTENTION),
        ("moe_speedrun::attention_backward", ATTENTION),
        ("moe_speedrun::polar", OPTIMIZER + "muon"),
        ("graph_0_cpp_fused__to_copy__unsafe_view_add_mean_mul_pow_rsqrt_split_sub_unsqueeze_view_2", ELEMENTWISE),
        ("graph_0_cpp_fused__to_copy_add_arange_bitwise_xor_isnan_lt_masked_fill_mul_rsub_sigmoid_sub_view_where_3", ROUTER),
        ("graph_0_cpp_fused__scaled_dot_product_flash_attention_for_cpu_backward_add_div_scatter_add_sum_view_0", ROUTER),
        ("triton_poi_fused_add_mul_0", ELEMENTWISE),
        ("triton_per_fused__to_copy_add_gather_mean_remainder_5", ROUTER),
        ("triton_poi_fused_add_fill_mul_sigmoid_silu_sub_7", ELEMENTWISE),
        ("aten::topk", ROUTER),
        ("aten::sort", GATHERS),
        ("aten::index_select", GATHERS),
        ("aten::_to_copy", ELEMENTWISE),
        ("aten::embedding_dense_backward", HEAD),
        ("aten::as_strided", HOST),
        ("## Call CompiledFxGraph f5hma3 ##", HOST),
        ("autograd::engine::evaluate_function: MulBackward0", HOST),
        ("MulBackward0", HOST),
        ("somebody::new_kernel", OTHER),
        ("aten::fft_r2c", OTHER),
        (MARK + NORMS, NORMS),
    ],
)
def test_an_operator_belongs_to_the_part_that_its_name_says(name, part):
    assert place(name, (), (), NOWHERE, PRODUCTS).part == part


@pytest.mark.parametrize(
    "shapes, kind, part",
    [
        (((4096, 256), (256, 512), (4096, 512)), "c10::BFloat16", DENSE),
        (((512, 4096), (4096, 256)), "c10::BFloat16", DENSE),  # a weight's gradient
        (((4096, 256), (256, 16)), "float", ROUTER),
        (((256, 4096), (4096, 16)), "float", ROUTER),
        (((4096, 256), (256, 16)), "c10::BFloat16", OTHER),
        (((4096, 100), (100, 3)), "c10::BFloat16", OTHER),
    ],
)
def test_a_product_belongs_to_the_part_whose_weight_it_has(shapes, kind, part):
    assert place("aten::mm", shapes, [kind] * len(shapes), NOWHERE, PRODUCTS).part == part
    added = "aten::addmm", (shapes[0], *shapes), ["float", *[kind] * len(shapes)]
    assert place(*added, NOWHERE, PRODUCTS).part == part


def test_an_expert_mlp_of_one_expert_is_a_dense_ffn_below_bf16():
    experts, dense = ((4096, 256), *MLP, (4096, 4)), ((4096, 256), (1, 256, 512), (1, 512, 256), (4096, 1))
    assert place("moe_speedrun::expert_mlp", experts, (), NOWHERE, PRODUCTS) == Place(EXPERTS)
    assert place("moe_speedrun::expert_mlp_backward", dense, (), NOWHERE, PRODUCTS) == Place(DENSE, whole=True)


def test_every_stage_of_an_expert_mlp_has_a_part():
    assert set(parts.STAGE) == {*STAGES, *EXCHANGE}


def test_a_router_of_a_products_shape_and_number_counts_as_dense_and_is_told():
    same = Products([(DENSE, (256, 256), True), (ROUTER, (256, 256), True)], experts=256)
    assert same.part(((4096, 256), (256, 256)), full=True) == DENSE and same.shared() == [(256, 256)]
    apart = Products([(DENSE, (256, 256), False), (ROUTER, (256, 256), True)], experts=256)
    assert apart.part(((4096, 256), (256, 256)), full=True) == ROUTER and apart.shared() == []


def test_own_times_add_up_to_the_step_and_what_is_unknown_is_kept_by_name():
    step = [
        event(STEP, 0, 100),
        event("## Call CompiledFxGraph ##", 10, 60),
        product(12, 20, (64, 256), (256, 256)),
        event("moe_speedrun::expert_mlp", 20, 50, input_shapes=((64, 256), *MLP)),
        event(MARK + parts.STAGE["up"], 22, 40),
        product(23, 39, (5, 256), (256, 128)),
        event("aten::copy_", 41, 44),
        event("somebody::inside", 45, 48),
        event("somebody::new_kernel", 70, 80),
        event("aten::add", 71, 75),
        event(MARK + OPTIMIZER + "muon", 80, 95),
        event("aten::bmm", 81, 90, input_shapes=((16, 256, 256), (16, 256, 256)), input_dtypes=TWO),
        event("aten::mul", 10, 20, thread=2),  # somebody else's
    ]
    found = spent(reversed(step), PRODUCTS, "cpu")
    assert found.wall == 100 == sum(found.parts.values())
    assert found.parts == {
        HOST: 12 + 10 + 10 + 5, DENSE: 8, EXPERTS: 30 - 3, ELEMENTWISE: 3 + 4, OTHER: 6, OPTIMIZER + "muon": 15,
    }  # fmt: skip
    assert found.operators[OTHER] == {"somebody::new_kernel": 6} and found.operators[EXPERTS]["somebody::inside"] == 3
    assert found.operators[DENSE] == {"aten::mm 64x256 256x256": 8}


def test_the_backward_of_the_head_is_found_by_the_numbers_of_its_forward():
    evaluate = "autograd::engine::evaluate_function: CompiledFunctionBackward"
    step = [
        event(STEP, 0, 100),
        event("CompiledFunction", 0, 10, sequence_nr=7),
        event(MARK + HEAD, 10, 20),
        event("CompiledFunction", 11, 19, sequence_nr=8),
        event(evaluate, 30, 50, sequence_nr=8),
        product(31, 49, (64, 256), (256, 256)),
        event(evaluate, 50, 60, sequence_nr=7),
        product(51, 59, (64, 256), (256, 256)),
    ]
    assert spent(step, PRODUCTS, "cpu").parts == {HEAD: 30, DENSE: 8, HOST: 62}


def test_on_a_gpu_a_kernel_belongs_where_it_was_launched_and_the_rest_is_the_hosts():
    runtime = {"activity_type": "cuda_runtime"}
    step = [
        event(STEP, 0, 100),
        event(MARK + HEAD, 1, 9),
        event("CompiledFunction", 2, 8, sequence_nr=8, id=1),
        event("cudaLaunchKernel", 3, 4, id=101, **runtime),
        product(10, 20, (64, 256), (256, 256), id=101),  # operators and launches have numbers of their own
        event("cudaLaunchKernel", 12, 14, id=102, linked_correlation_id=101, **runtime),
        event("## Call CompiledFxGraph ##", 20, 30, id=3),
        event("cuLaunchKernel", 21, 22, id=103, activity_type="cuda_driver"),
        event("cuLaunchKernel", 23, 24, id=104, activity_type="cuda_driver"),
        event("autograd::engine::evaluate_function: X", 30, 40, sequence_nr=8, thread=2, id=4),
        event("cudaLaunchKernel", 31, 32, id=105, thread=2, **runtime),
        event("moe_speedrun::expert_mlp_backward", 40, 60, input_shapes=((64, 256), (64, 256), *MLP), thread=2, id=102),
        event("cuLaunchKernel", 40, 41, id=106, thread=2, activity_type="cuda_driver"),
        event(MARK + GATHERS, 42, 50, thread=2, id=6),
        event("cuLaunchKernel", 43, 44, id=107, thread=2, activity_type="cuda_driver"),
        kernel("nll", 5, 7, id=101),
        kernel("ampere_gemm", 15, 25, id=102, linked_correlation_id=101),
        kernel("triton_poi_fused_add_0", 22, 30, id=103),  # on another stream: 3 of 8 are the product's
        kernel("mystery", 30, 31, id=104),
        kernel("nll_backward", 41, 43, id=105),
        kernel("dh_kernel", 50, 56, id=106),
        kernel("combine_kernel", 56, 60, id=107),
        event(MARK + HEAD, 5, 90, device_type="DeviceType.CUDA", activity_type="gpu_user_annotation"),
    ]
    found = spent(step, PRODUCTS, "cuda")
    assert found.parts == {
        HEAD: 2 + 2, DENSE: 10, ELEMENTWISE: 5, OTHER: 1, EXPERTS: 6, GATHERS: 4, HOST: 100 - 30,
    }  # fmt: skip
    assert found.operators[OTHER] == {"mystery": 1}


@pytest.mark.parametrize("lane", [micro.MOE, micro.DENSE], ids=["moe", "dense"])
def test_the_floors_of_a_models_products_are_all_of_its_counted_flops(lane):
    one = micro.session(lane=lane)
    found = floors(one, one.machine)
    assert all(row["floor_ms"] > 0 for row in found.values())
    products = sum(found[part]["flops"] for part in (ATTENTION, DENSE, EXPERTS, ROUTER, HEAD) if part in found)
    assert products == one.plan.batch.tokens_per_step * one.counts.flops_per_token
    assert (EXPERTS in found) == (ROUTER in found) == (GATHERS in found) == (lane is micro.MOE)


def test_a_floor_is_the_larger_of_its_flops_at_the_peak_and_its_bytes_at_the_bandwidth():
    one = micro.session()
    computing = floors(one, replace(one.machine, matmul_peak_flops=1e9, memory_bytes_per_s=1e30))[DENSE]
    assert computing["bound"] == "flops" and computing["floor_ms"] == pytest.approx(computing["flops"] / 1e6)
    moving = floors(one, replace(one.machine, matmul_peak_flops=1e30, memory_bytes_per_s=1e6))[DENSE]
    assert moving["bound"] == "bytes" and moving["floor_ms"] == pytest.approx(moving["bytes"] / 1e3)


def test_a_step_in_micro_batches_reads_its_weights_once_in_each():
    whole, halves = (micro.session(f"parallel.micro_batch_tokens={tokens}") for tokens in (256, 128))
    more = floors(halves, halves.machine)[DENSE]["bytes"] - floors(whole, whole.machine)[DENSE]["bytes"]
    operand = 2 if whole.machine.arithmetic == "native" else 4
    assert more == 3 * operand * 2 * 4 * 32 * 32  # of two layers the four projections
    assert floors(halves, halves.machine)[DENSE]["flops"] == floors(whole, whole.machine)[DENSE]["flops"]


def test_a_profiler_that_does_not_say_what_an_event_is_is_read_by_names_and_devices():
    """As before torch 2.12: kernels have their launch's number."""
    cases = [
        ("aten::mm", "cpu", False, "cpu_op"), ("cudaLaunchKernel", "cpu", False, "cuda_runtime"),
        ("cuLaunchKernelEx", "cpu", False, "cuda_runtime"), ("sgemm", "cuda", False, "kernel"),
        ("attention", "cuda", True, "user_annotation"),
    ]  # fmt: skip
    for name, device, annotated, expected in cases:
        device_type = f"DeviceType.{device.upper()}"
        assert _activity(SimpleNamespace(name=name, device_type=device_type, is_user_annotation=annotated)) == expected
