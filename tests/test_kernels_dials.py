"""A precision's dials: as text, as recipes, and what they quantize."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.precision import FACTORS, FORMATS, OPERANDS, Arithmetic, Precision, Quantization, native

DIALS = st.builds(
    Quantization,
    format=st.sampled_from(sorted(FORMATS)),
    stochastic_rounding=st.booleans(),
    hadamard=st.booleans(),
    weight_blocks=st.sampled_from(["1d", "2d"]),
    clip=st.floats(min_value=0, exclude_min=True, max_value=1),
    keep=st.lists(st.sampled_from(OPERANDS), unique=True).map(tuple),
    tensor_scale=st.sampled_from(["layer", "expert"]),
    fp8_weight_gradients=st.booleans(),
)


@given(arithmetic=st.sampled_from(["native", "emulated", "full"]), quantization=st.none() | DIALS)
def test_a_precision_survives_being_written_as_text(arithmetic, quantization):
    precision = Precision(Arithmetic.of(arithmetic), quantization)
    assert Precision.of(str(precision)) == precision


def test_recipes_are_the_published_ones_and_unknown_names_are_refused():
    assert Quantization.recipe("fp8") == Quantization("fp8", False, False, "2d", 1.0, (), "layer", False)
    assert Quantization.recipe("nvfp4") == Quantization("nvfp4", True, True, "2d", 1.0, (), "layer", False)
    assert Quantization.recipe("mxfp8") == Quantization("mxfp8", False, False, "1d", 1.0, (), "layer", False)
    assert Quantization.recipe("mxfp4") == replace(Quantization.recipe("nvfp4"), format="mxfp4")
    assert {format: Quantization.recipe(format).block for format in FORMATS} == {
        "fp8": 128,
        "nvfp4": 16,
        "mxfp8": 32,
        "mxfp4": 32,
    }
    with pytest.raises(ValueError, match="format='mxfp6': known are fp8, nvfp4, mxfp8, mxfp4"):
        Quantization.recipe("mxfp6")
    with pytest.raises(ValueError, match="arithmetic='half': known are native, emulated, full"):
        Precision.of("half")


@pytest.mark.parametrize("fp8_too", [False, True])
def test_what_is_quantized_is_what_is_not_kept_and_a_weight_gradient_in_fp8_where_it_is_asked_for(fp8_too):
    for format in FORMATS:
        for kept in OPERANDS:
            dials = Quantization(format, keep=(kept,), fp8_weight_gradients=fp8_too)
            expected = [o for o in OPERANDS if o != kept and (format != "fp8" or fp8_too or o != "weight_gradient")]
            assert [o for o in OPERANDS if dials.quantizes(o)] == expected


def test_formats_are_native_where_the_tensor_cores_multiply_their_codes():
    for capability, known in {(8, 0): set(), (8, 9): {"fp8"}, (9, 0): {"fp8"}, (10, 0): set(FORMATS), (12, 0): {"fp8"}}.items():
        assert {format for format in FORMATS if native(format, (), capability)} == known
    for kept in OPERANDS:  # a product with a factor in bf16 has nothing to scale
        assert native("nvfp4", (kept,), (10, 3)) is (kept not in FACTORS)
