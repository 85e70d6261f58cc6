"""The Triton kernels below bf16 without a GPU: in the interpreter against the reference, and compiled ahead of time for sm_90.

Both need a process of their own; one run of each serves the tests here.
"""

import pytest
from test_kernels_triton import output
from triton_quantized_cases import CASES, DIALS, KERNELS, PRODUCTS

FORMATS = tuple(CASES)
INTERPRETED = "triton_quantized.py"


@pytest.mark.xdist_group("triton_quantized")
@pytest.mark.parametrize("format, case", [(format, case) for format, cases in CASES.items() for case in cases])
def test_the_interpreted_kernels_match_the_reference_and_repeat_their_bits(format, case):
    found = output(INTERPRETED)[f"{format}, {case}"]
    assert {n: e for n, e in found["errors"].items() if e > 1e-5} == {}
    assert found["same bits"]


@pytest.mark.xdist_group("triton_quantized")
@pytest.mark.parametrize("format, name", [(format, name) for format, dials in DIALS.items() for name in dials])
def test_every_dial_does_in_the_interpreted_kernels_what_it_does_in_the_reference(format, name):
    found = output(INTERPRETED)[f"{format}, {name}"]
    assert found["error"] <= 1e-5 < 1e-3 < found["moved"]


@pytest.mark.xdist_group("triton_quantized")
@pytest.mark.parametrize("format", FORMATS)
def test_rows_and_weights_are_quantized_to_the_codes_and_scales_of_kernels_quantize_bit_for_bit(format):
    assert [name for name, same in output(INTERPRETED)[f"operands, {format}"].items() if not same] == []


@pytest.mark.xdist_group("triton_quantized")
def test_factors_of_weight_gradients_are_quantized_in_blocks_of_16_rows_of_an_expert_bit_for_bit():
    assert [name for name, same in output(INTERPRETED)["slots"].items() if not same] == []


@pytest.mark.xdist_group("triton_quantized")
@pytest.mark.parametrize("format", FORMATS)
def test_rows_do_not_depend_on_the_batch_beyond_the_scale_of_a_tensor(format):
    assert output(INTERPRETED)[f"invariance, {format}"] is True


@pytest.mark.xdist_group("triton_quantized")
@pytest.mark.parametrize("format", FORMATS)
def test_a_value_that_is_not_finite_makes_no_output_finite_that_it_enters(format):
    assert [name for name, seen in output(INTERPRETED)[f"not finite, {format}"].items() if not seen] == []


@pytest.mark.xdist_group("triton_ahead_quantized")
@pytest.mark.parametrize("format, kernel", [(format, kernel) for format, kernels in KERNELS.items() for kernel in kernels])
def test_the_compiled_kernels_use_tensor_cores_without_spills_or_float_atomics(format, kernel):
    for kind, found in output("triton_ahead_quantized.py")[f"{format} {kernel}, sm_90"].items():
        assert (kind, found["spill bytes"], found["float atomics"], found["maxima that drop NaN"]) == (kind, 0, 0, 0)
        assert found["64-bit products"] > 0  # row offsets may pass 2^31
        assert found["shared bytes"] <= 227 * 1024
        if kernel in PRODUCTS:
            operand = "e4m3" if format == "fp8" else "f16"
            assert found["wgmma operands"] == [f"f32.{operand}.{operand}"]
