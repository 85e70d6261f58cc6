"""A precision's dials: as text, as recipes, and what they quantize."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.precision import FORMATS, OPERANDS, Arithmetic, Precision, Quantization

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
    assert (Quantization.recipe("fp8").block, Quantization.recipe("nvfp4").block) == (128, 16)
    with pytest.raises(ValueError, match="format='mxfp8': known are fp8, nvfp4"):
        Quantization.recipe("mxfp8")
    with pytest.raises(ValueError, match="arithmetic='half': known are native, emulated, full"):
        Precision.of("half")


@pytest.mark.parametrize("fp8_too", [False, True])
def test_what_is_quantized_is_what_is_not_kept_and_a_weight_gradient_in_fp8_where_it_is_asked_for(fp8_too):
    for format in FORMATS:
        for kept in OPERANDS:
            dials = Quantization(format, keep=(kept,), fp8_weight_gradients=fp8_too)
            expected = [o for o in OPERANDS if o != kept and (format == "nvfp4" or fp8_too or o != "weight_gradient")]
            assert [o for o in OPERANDS if dials.quantizes(o)] == expected
