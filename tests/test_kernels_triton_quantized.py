"""The Triton kernels below bf16 without a GPU: in the interpreter against the reference, and compiled ahead of time for sm_90.

Both need a process of their own; one run of each serves the tests here, and later ones (`triton_output.py`).
"""

import pytest
import torch
from expert_inputs import inputs, relative_error, run
from triton_output import output
from triton_quantized_cases import CASES, DIALLED, DIALS, KERNELS, PRODUCTS, WHOLE

from kernels import Arithmetic, Precision, Quantization, quantize
from kernels.backends import OPERATORS
from kernels.precision import MX
from kernels.quantize import ELEMENTS

FORMATS = tuple(CASES)
INTERPRETED = "triton_quantized.py"


@pytest.mark.process
@pytest.mark.parametrize("format, case", [(format, case) for format, cases in CASES.items() for case in cases])
def test_the_interpreted_kernels_match_the_reference(format, case):
    assert {n: e for n, e in output(INTERPRETED)[f"{format}, {case}"].items() if e > 1e-5} == {}


@pytest.mark.process
@pytest.mark.parametrize("format", WHOLE)
def test_two_runs_of_the_interpreted_kernels_have_the_same_bits(format):
    assert output(INTERPRETED)[f"repeats, {format}"] is True


@pytest.mark.process
@pytest.mark.parametrize("format, name", [(format, name) for format, dials in DIALS.items() for name in dials])
def test_every_dial_does_in_the_interpreted_kernels_what_it_does_in_the_reference(format, name):
    found = output(INTERPRETED)[f"{format}, {name}"]
    assert found["error"] <= 1e-5 < 1e-3 < found["moved"]


@pytest.mark.process
@pytest.mark.parametrize("format", FORMATS)
def test_rows_and_weights_are_quantized_to_the_codes_and_scales_of_kernels_quantize_bit_for_bit(format):
    assert [name for name, same in output(INTERPRETED)[f"operands, {format}"].items() if not same] == []


@pytest.mark.process
@pytest.mark.parametrize("format", ["nvfp4", *MX])
def test_factors_of_weight_gradients_are_quantized_in_blocks_of_rows_of_an_expert_bit_for_bit(format):
    assert [name for name, same in output(INTERPRETED)[f"slots, {format}"].items() if not same] == []


@pytest.mark.process
def test_factors_of_fp8_weight_gradients_are_quantized_in_blocks_of_128_rows_of_an_expert_bit_for_bit():
    assert [name for name, same in output(INTERPRETED)["fp8 weight gradients"].items() if not same] == []


@pytest.mark.process
def test_tensor_scales_of_experts_quantize_each_as_if_it_were_alone():
    assert [name for name, same in output(INTERPRETED)["by expert"].items() if not same] == []


@pytest.mark.process
@pytest.mark.parametrize("format", WHOLE)
def test_rows_do_not_depend_on_the_batch_beyond_the_scale_of_a_tensor(format):
    assert output(INTERPRETED)[f"invariance, {format}"] is True


@pytest.mark.process
@pytest.mark.parametrize("format", WHOLE)
def test_a_value_that_is_not_finite_makes_no_output_finite_that_it_enters(format):
    assert [name for name, seen in output(INTERPRETED)[f"not finite, {format}"].items() if not seen] == []


@pytest.mark.process
@pytest.mark.parametrize("format", WHOLE)
def test_dropped_rows_are_left_out_and_enter_no_scale(format):
    found = output(INTERPRETED)[f"dropped, {format}"]
    assert {n: e for n, e in found["errors"].items() if not e <= 1e-5} == {}
    assert found["zeros"]


@pytest.mark.process
@pytest.mark.parametrize("name", DIALLED)
def test_what_quantization_did_is_noted_as_on_a_cpu_and_listening_changes_no_bit(name):
    found = output(INTERPRETED)[f"telemetry, {name}"]
    noted = ["gradient", "hidden", "hidden_gradient", "input", "weight_down", "weight_up"]
    factors = ["wgrad_gradient", "wgrad_hidden", "wgrad_hidden_gradient", "wgrad_input"]
    assert found == {"as on a CPU": sorted(noted + ([] if name == "fp8" else factors)), "same bits": True}


@pytest.mark.process
@pytest.mark.parametrize("format, kernel", [(format, kernel) for format, kernels in KERNELS.items() for kernel in kernels])
def test_the_compiled_kernels_use_tensor_cores_without_spills_or_float_atomics(format, kernel):
    for kind, found in output("triton_ahead_quantized.py")[f"{format} {kernel}, sm_90"].items():
        assert (kind, found["spill bytes"], found["float atomics"], found["maxima that drop NaN"]) == (kind, 0, 0, 0)
        assert found["64-bit products"] > 0  # row offsets may pass 2^31
        assert found["shared bytes"] <= 227 * 1024
        if kernel in PRODUCTS:
            operand = "e4m3" if format.startswith("fp8") else "bf16" if format in MX else "f16"
            assert found["wgmma operands"] == [f"f32.{operand}.{operand}"]


def on_gpu(*tensors):
    return [t.cuda() for t in tensors]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("activation", ["relu2", "swiglu"])
def test_on_a_gpu_the_kernels_match_the_reference_and_repeat_their_bits(format, activation):
    """Against the reference in the same bf16: where the order of a sum moves a rounding, a code may move with it."""
    tensors = inputs(1000, 256, 128, 16, 4, activation)
    dy_TD = torch.randn(1000, 256, generator=torch.Generator().manual_seed(1))
    options = {"activation": activation, "precision": Precision(Arithmetic.of("native"), Quantization.recipe(format))}
    found, again = (run(on_gpu(*tensors), dy_TD.cuda(), backend="triton", **options) for _ in range(2))
    expected = run(tensors, dy_TD, backend="reference", **options)
    assert all(torch.equal(a, b) for a, b in zip(found, again))
    assert [relative_error(a.cpu(), b) <= 1e-2 for a, b in zip(found, expected)] == [True] * 5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("inner", [1, 2])
def test_on_a_gpu_codes_and_scales_are_those_of_a_cpu(format, inner):
    from kernels.triton.operands import Quantizer

    w_EIO = torch.randn(3, 256, 384, generator=torch.Generator().manual_seed(2))
    key_4 = torch.zeros(4, dtype=torch.int64)
    found = Quantizer(Quantization.recipe(format), torch.bfloat16, key_4.cuda()).weights(w_EIO.cuda(), "weight_up", inner)
    expected = quantize(w_EIO, format, inner, square=Quantization.recipe(format).weight_blocks == "2d")
    codes = ELEMENTS[format].decode(expected.codes)
    pairs = [(found.codes(), codes), (found.scale, expected.block_scale)]
    assert all(torch.equal(a.cpu().float(), (b.mT if inner == 1 else b).float()) for a, b in pairs)


def test_a_gpu_that_does_not_convert_e4m3_is_refused_with_what_to_use(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(ValueError, match="nvfp4.*8.9.*has 8.0.*use bf16"):
        OPERATORS["triton"].check(torch.device("cuda"), Precision(Arithmetic.of("native"), Quantization.recipe("nvfp4")))
