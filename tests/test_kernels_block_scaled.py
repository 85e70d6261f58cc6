"""Formats whose block scales tensor cores of compute capability 10.x take: layouts in the interpreter, instructions by the
assembler. None of it has run on a GPU."""

import pytest
import torch
from triton_output import output

from kernels import Quantization
from kernels.precision import assembles_block_scales
from kernels.precision import native as precision_native
from kernels.triton import kind
from kernels.triton.blockscaled import FORMATS, native

INTERPRETED, AHEAD = "triton_block_scaled.py", "triton_ahead_block_scaled.py"
PRODUCTS = ("up_kernel", "rows_kernel", "dh_kernel", "weight_gradient_kernel")
INSTRUCTION = {"nvfp4": "mxf4nvf4", "mxfp4": "mxf4", "mxfp8": "mxf8f6f4"}


@pytest.mark.process
@pytest.mark.parametrize("format", FORMATS)
def test_products_of_packed_codes_and_scales_are_those_of_the_same_codes_unpacked(format):
    """Sums differ in their order: a code of the hidden gradient may flip, as in any other two orders."""
    found = {name: errors for name, errors in output(INTERPRETED).items() if name.startswith(f"{format}, ")}
    assert found and {name: n for name, errors in found.items() for n, e in errors.items() if e > 1e-5} == {}


@pytest.mark.process
@pytest.mark.parametrize("format", FORMATS)
def test_packed_weights_are_the_codes_and_scales_of_kernels_quantize(format):
    assert [name for name, same in output(INTERPRETED)[f"operands, {format}"].items() if not same] == []


@pytest.mark.process
def test_a_listener_hears_of_packed_codes_what_it_hears_of_others():
    assert output(INTERPRETED)["noted, nvfp4"] is True


@pytest.mark.process
@pytest.mark.parametrize("kernel", PRODUCTS)
@pytest.mark.parametrize("format", FORMATS)
def test_the_assembler_makes_block_scaled_instructions_of_the_right_kind(format, kernel):
    """Where the Triton at hand has none, nothing is said to be native."""
    if not assembles_block_scales():
        assert precision_native(format, (), (10, 0)) is False
        return
    for name, found in output(AHEAD)[f"{format} {kernel}, sm_100"].items():
        kinds = found["block scaled"]
        assert kinds and all(k.startswith(f"{INSTRUCTION[format]}.block_scale") for k in kinds), (name, kinds)
        assert (found["spill bytes"], found["float atomics"]) == (0, 0)
        assert found["shared bytes"] <= 227 * 1024


def test_only_a_gpu_of_capability_10_multiplies_natively_and_only_without_a_factor_in_bf16(monkeypatch):
    gpu, able = torch.device("cuda"), assembles_block_scales()
    for capability, expected in {(8, 9): False, (9, 0): False, (10, 0): True, (10, 3): True, (12, 0): False}.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert native(gpu, Quantization.recipe("nvfp4")) is (expected and able)
        assert native(gpu, Quantization("nvfp4", keep=("input",))) is False
        assert native(gpu, Quantization("nvfp4", keep=("weight_gradient",))) is (expected and able)
        assert native(gpu, Quantization.recipe("fp8")) is False and native(gpu, None) is False
    assert native(torch.device("cpu"), Quantization.recipe("nvfp4")) is False
    assert (kind("nvfp4", True), kind("nvfp4", False), kind("fp8", True), kind("", True)) == (
        "nvfp4 native",
        "nvfp4",
        "fp8",
        "",
    )


@pytest.mark.parametrize(
    "installed, able", [("3.5.1", False), ("3.6.0", False), ("3.7.0", True), ("3.10.2+git1", True), ("4.0", True)]
)
def test_a_triton_that_cannot_assemble_block_scales_leaves_the_emulation(monkeypatch, installed, able):
    monkeypatch.setattr("kernels.precision.version", lambda package: installed)
    assembles_block_scales.cache_clear()
    try:
        assert precision_native("mxfp4", (), (10, 3)) is able and precision_native("fp8", (), (10, 3)) is True
    finally:
        assembles_block_scales.cache_clear()
