"""Precision as dials of a plan: contradictions, lanes below bf16, hashes, and what a recipe may set."""

import shutil
from functools import cache

import pytest
from omegaconf import OmegaConf
from plan_words import with_words

from harness.errors import UserError
from harness.plan import check_precision, lanes
from harness.plan.check import check
from harness.plan.compose import compose
from harness.plan.fingerprint import flat, plan_hash
from harness.plan.schema import FROZEN, LATER, UNHASHED
from kernels import precision as kernels_precision

LOW = [lane for lane in lanes.lane_names() if lane.endswith(("-fp8", "-nvfp4"))]
BF16 = [lane for lane in lanes.lane_names() if lane not in LOW]
MOE, DENSE = "lane=tiny-moe-16e", "lane=tiny-dense"  # width 256, 4 layers; 16 experts of 128, or a dense FFN
KEPT = "precision.high_precision_operands"


@cache
def plan_of(*words):
    return compose(list(words)).plan


def refusal(lane, *words):
    with pytest.raises(UserError) as error:
        check(with_words(plan_of(lane), words))
    return error.value


CONTRADICTIONS = [  # words, and the two names or values of the message
    (f"{MOE}-fp8 precision.hadamard=on", "precision.hadamard=on", "precision.format=fp8"),
    (f"{MOE}-nvfp4 precision.hadamard=on {KEPT}=[weight_gradient]", "precision.hadamard=on", KEPT),
    (f"{MOE}-nvfp4 precision.weight_blocks=1d {KEPT}=[weight]", "precision.weight_blocks=1d", KEPT),
    (f"{MOE}-fp8 precision.weight_blocks=2d {KEPT}=[weight]", "precision.weight_blocks=2d", KEPT),
    (f"{MOE}-fp8 precision.stochastic_rounding=on {KEPT}=[gradient]", "precision.stochastic_rounding=on", KEPT),
    (f"{MOE}-nvfp4 precision.stochastic_rounding=on {KEPT}=[gradient,weight_gradient]", "stochastic_rounding=on", KEPT),
    (f"{MOE}-fp8 {KEPT}=[input,weight,hidden,gradient]", KEPT, "precision.format=fp8"),
    (f"{MOE}-nvfp4 {KEPT}=[input,weight,hidden,gradient,weight_gradient]", KEPT, "precision.format=nvfp4"),
    (f"{DENSE}-nvfp4 precision.scope=routed", "precision.scope=routed", "model.num_experts=0"),
    (f"{MOE}-nvfp4 precision.high_precision_layers=[0,1,2,3]", "precision.high_precision_layers", "precision.format=nvfp4"),
    (
        f"{MOE}-nvfp4 model.leading_dense_layers=1 model.ffn_width=512 precision.scope=routed "
        "precision.high_precision_layers=[1,2,3]",
        "precision.high_precision_layers", "precision.format=nvfp4",
    ),
    (f"{MOE}-fp8 precision.weight_gradients=quantized {KEPT}=[weight_gradient]", "precision.weight_gradients=quantized", KEPT),
    (f"{MOE}-nvfp4 precision.weight_gradients=quantized {KEPT}=[weight_gradient]", "weight_gradients=quantized", KEPT),
    (f"{MOE}-fp8 precision.tensor_scale=expert", "precision.tensor_scale=expert", "precision.format=fp8"),
    (f"{MOE}-fp8 precision.tensor_scale=layer", "precision.tensor_scale=layer", "precision.format=fp8"),
    (f"{DENSE}-nvfp4 precision.tensor_scale=expert", "precision.tensor_scale=expert", "model.num_experts=0"),
    (f"{MOE}-nvfp4 precision.high_precision_layers=[4]", "names layer 4", "0..3"),
    (f"{MOE}-nvfp4 precision.high_precision_layers=[-1]", "names layer -1", "0..3"),
    (f"{MOE}-nvfp4 {KEPT}=[weights]", "'weights'", "weight"),
    (f"{MOE}-fp8 model.width=192", "model.width=192", "precision.format=fp8"),
    (f"{MOE}-fp8 model.expert_width=64", "model.expert_width=64", "128"),
    (f"{DENSE}-fp8 model.ffn_width=320", "model.ffn_width=320", "128"),
    (f"{MOE}-nvfp4 model.expert_width=40", "model.expert_width=40", "16"),
    (f"{MOE}-fp8 model.leading_dense_layers=1 model.ffn_width=64", "model.ffn_width=64", "128"),
]  # fmt: skip


@pytest.mark.parametrize("words, first, second", CONTRADICTIONS, ids=[case[0] for case in CONTRADICTIONS])
def test_contradictory_dials_are_refused_by_both_names(words, first, second):
    error = refusal(*words.split())
    assert first in str(error) and second in str(error) and error.remedy


DIALS = (
    "stochastic_rounding=on", "hadamard=off", "weight_blocks=1d", "clip=0.9", "high_precision_operands=[input]",
    "tensor_scale=expert", "weight_gradients=quantized",
)  # fmt: skip


@pytest.mark.parametrize("dial", [*DIALS, "scope=routed", "high_precision_layers=[1]"])
@pytest.mark.parametrize("format", ["bf16", "fp32"])
def test_a_dial_without_a_format_that_it_turns_is_refused_by_both_names(format, dial):
    error = refusal(MOE, f"precision.format={format}", f"precision.{dial}")
    assert f"precision.{dial.partition('=')[0]}=" in str(error) and f"precision.format={format}" in str(error)
    assert "-fp8 or -nvfp4" in error.remedy


@pytest.mark.parametrize(
    "words",
    [
        "clip=0",
        "clip=1.5",
        "scope=experts",
        "hadamard=yes",
        "weight_blocks=3d",
        "format=fp4",
        "tensor_scale=token",
        "weight_gradients=bf16",
    ],
)
def test_a_value_that_a_dial_does_not_have_is_refused(words):
    assert f"precision.{words.partition('=')[0]}" in str(refusal(f"{MOE}-nvfp4", f"precision.{words}"))


@pytest.mark.parametrize(
    "words",
    [
        f"{MOE}-nvfp4 precision.hadamard=off {KEPT}=[weight_gradient]",
        f"{MOE}-nvfp4 precision.stochastic_rounding=on {KEPT}=[gradient]",  # weight gradients still round
        f"{MOE}-fp8 precision.stochastic_rounding=on precision.weight_blocks=1d precision.clip=0.9",
        f"{MOE}-nvfp4 precision.scope=routed precision.high_precision_layers=[0,3]",
        f"{MOE}-fp8 precision.scope=routed model.leading_dense_layers=1 model.ffn_width=64",
        f"{MOE}-nvfp4 precision.tensor_scale=expert precision.stochastic_rounding=off model.leading_dense_layers=1 "
        "model.ffn_width=512",
        f"{DENSE}-nvfp4 precision.tensor_scale=layer",
        f"{DENSE}-fp8 precision.weight_gradients=quantized precision.stochastic_rounding=on {KEPT}=[gradient]",
        f"{MOE}-fp8 precision.weight_gradients=quantized {KEPT}=[input,weight,hidden,gradient]",
        f"{MOE}-nvfp4 precision.weight_gradients=quantized precision.hadamard=on",
    ],
)
def test_dials_that_do_not_contradict_each_other_compose(words):
    lane, *dials = words.split()
    check(with_words(plan_of(lane), dials))


def test_the_plan_knows_the_blocks_and_operands_of_the_kernels():
    assert check_precision.BLOCK == kernels_precision.FORMATS
    assert check_precision.OPERANDS == kernels_precision.OPERANDS


def test_the_lanes_of_every_bf16_lane_below_it_are_there():
    assert {lane.rpartition("-")[0] for lane in LOW} <= set(BF16)
    fixed = [lane for lane in BF16 if not lane.endswith("open")]  # an open lane leaves the format to a plan
    without = {lane for lane in fixed if f"{lane}-fp8" not in LOW or f"{lane}-nvfp4" not in LOW}
    assert without == {
        "physics-dense", "physics-moe-16e", "renderings-dense", "renderings-moe-16e", "sotu-moe-256e", "wikitext-dense",
        "wikitext-moe-64e", "xl-dense", "xl-moe-8e",
    }  # fmt: skip


@pytest.mark.parametrize("lane", LOW)
def test_a_lane_below_bf16_differs_from_its_bf16_lane_in_its_format_only_and_names_it_as_twin(lane):
    base, _, format = lane.rpartition("-")
    ours, theirs = (OmegaConf.to_container(lanes.read(lanes.lane_file(name))) for name in (lane, base))
    assert ours.pop("precision") == {"format": format} and "precision" not in theirs
    name, twin = ours["lane"].pop("name"), ours["lane"].pop("twin")
    assert (name, twin) == (lane, base)
    theirs["lane"] = {key: value for key, value in theirs["lane"].items() if key not in ("name", "twin")}
    assert ours == theirs


@pytest.mark.parametrize("lane", ["tiny-moe-16e", "tiny-dense"])
def test_a_composed_plan_differs_from_its_bf16_plan_in_nothing_else_and_has_its_own_hash(lane):
    plans = {format: plan_of(f"lane={lane}{format}") for format in ("", "-fp8", "-nvfp4")}
    base = flat(plans[""])
    for format in ("-fp8", "-nvfp4"):
        ours = flat(plans[format])
        assert {key for key in ours if ours[key] != base[key]} == {"lane.name", "lane.twin", "precision.format"}
    renamed = with_words(plans["-fp8"], [f"lane.name={lane}"])  # the format is hashed, not the name alone
    assert len({plan_hash(plan) for plan in (*plans.values(), renamed)}) == 4


DEFAULTS = [
    "precision.stochastic_rounding=auto", "precision.hadamard=auto", "precision.weight_blocks=auto", "precision.clip=1",
    "precision.tensor_scale=auto", "precision.weight_gradients=auto",
    f"{KEPT}=[]", "gains.embedding=1", "gains.logits=1", "gains.expert_output=1", "precision.require_native=true",
]  # fmt: skip


@pytest.mark.parametrize("lane", ["tiny-moe-16e", "tiny-moe-16e-nvfp4"])
def test_dials_and_gains_at_their_default_leave_the_plan_hash_alone(lane):
    assert plan_hash(plan_of(f"lane={lane}", *DEFAULTS)) == plan_hash(plan_of(f"lane={lane}"))
    dials = {key for key in flat(plan_of(f"lane={lane}")) if key.startswith(("precision.", "gains."))}
    assert dials - {"precision.format"} == {key for key in dials if key in LATER or key in UNHASHED}


@pytest.mark.parametrize("word", [*(f"precision.{dial}" for dial in DIALS if dial[:2] != "st"), "gains.logits=0.125"])
def test_a_turned_dial_changes_the_plan_hash_and_breaks_nothing_that_the_lane_fixes(word):
    plan = plan_of(f"{MOE}-nvfp4")
    assert plan_hash(with_words(plan, [word])) != plan_hash(plan) and word.partition("=")[0] not in FROZEN


@pytest.mark.parametrize("word", ["precision.scope=routed", "precision.high_precision_layers=[0]", "precision.format=fp8"])
def test_format_scope_and_high_precision_layers_are_the_lanes(word):
    with pytest.raises(UserError, match="lane tiny-moe-16e-nvfp4 freezes precision"):
        compose([f"{MOE}-nvfp4", word])


@pytest.fixture
def recipes(monkeypatch, tmp_path):
    """A copy of the recipes that a test may add to."""
    shutil.copytree(lanes.RECIPES, tmp_path / "recipes")
    monkeypatch.setattr(lanes, "RECIPES", tmp_path / "recipes")
    return tmp_path / "recipes"


def test_a_recipe_may_set_free_dials_and_gains(recipes):
    text = "# @package _global_\nprecision: {clip: 0.9, weight_blocks: 1d}\ngains: {embedding: 10.667}\n"
    (recipes / "optim" / "mine.yaml").write_text(text)
    composed = compose([f"{MOE}-nvfp4", "optim=mine"])
    p = composed.plan.precision
    assert (p.clip, p.weight_blocks, composed.plan.gains.embedding, composed.broken) == (0.9, "1d", 10.667, {})


@pytest.mark.parametrize("key, value", [("format", "fp8"), ("scope", "routed"), ("high_precision_layers", "[0]")])
def test_a_recipe_may_not_set_what_the_lane_fixes_of_precision(recipes, key, value):
    (recipes / "optim" / "mine.yaml").write_text(f"# @package _global_\nprecision: {{{key}: {value}}}\n")
    assert f"precision.{key}" in FROZEN
    with pytest.raises(UserError, match=f"sets precision.{key}, which the lane freezes"):
        compose([f"{MOE}-nvfp4", "optim=mine"])
