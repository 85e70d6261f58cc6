"""Parameters and FLOPs of built modules, against arithmetic done by hand."""

import pytest
import torch

from harness.model.counts import count
from harness.model.transformer import Transformer
from harness.plan.compose import compose
from harness.plan.schema import Model
from kernels import Arithmetic

PUBLISHED = dict(
    width=768, layers=12, heads=12, sequence_length=2048, vocab_size=50304, activation="swiglu",
    ffn_width=3072, qk_norm=False, norm_weight=True,
)  # fmt: skip


def counts_of(shape: Model):
    with torch.device("meta"):
        return count(Transformer(shape, Arithmetic.of("full"), "torch"))


@pytest.mark.parametrize(
    "experts, total, active",
    [
        ({}, 190_532_352, 190_532_352),
        (dict(num_experts=64, top_k=6, shared_experts=2, leading_dense_layers=1, expert_width=384), 755_534_592, 191_073_024),
        (dict(num_experts=256, top_k=7, shared_experts=1, expert_width=384), 2_836_482_816, 192_891_648),
    ],
)
def test_published_shapes_have_the_published_parameters(experts, total, active):
    counts = counts_of(Model(**PUBLISHED | experts))
    assert (counts.params_total, counts.params_active) == (total, active)


@pytest.mark.parametrize("track", ["tiny", "sotu"])
def test_dense_lanes_count_as_by_hand(track):
    counts = counts_of(compose([f"lane={track}-dense"]).plan.model)
    attention, feedforward, ends = 4 * 256 * 256, 2 * 256 * 512, 256 * 256
    assert counts.params_total == 4 * (attention + feedforward) + 2 * ends == 2_228_224
    assert counts.params_active == counts.params_total
    mixing = 4 * 256 * 256 * 6  # per layer: two products over S/2 keys on average, forward and twice backward
    assert counts.flops_per_token == 6 * (4 * (attention + feedforward) + ends) + mixing == 14_548_992


@pytest.mark.parametrize("track", ["tiny", "sotu"])
def test_moe_lanes_count_as_by_hand(track):
    counts = counts_of(compose([f"lane={track}-moe-16e"]).plan.model)
    attention, expert, router, ends = 4 * 256 * 256, 2 * 256 * 128, 256 * 16, 256 * 256
    assert counts.params_total == 4 * (attention + 16 * expert + router) + 2 * ends == 5_390_336
    assert counts.params_active == 4 * (attention + 4 * expert + router) + 2 * ends == 2_244_608
    mixing = 4 * 256 * 256 * 6
    assert counts.flops_per_token == 6 * (4 * (attention + 4 * expert + router) + ends) + mixing == 14_647_296


def test_every_nth_layer_counts_as_by_hand():
    """Of 5 layers the second and the fourth hold experts (2 of 12 parameters of width 8 -> 6 -> 8 active), three are dense."""
    shape = dict(width=8, layers=5, heads=2, sequence_length=4, vocab_size=16, ffn_width=10, num_experts=4, expert_width=6)
    model = Model(**shape, top_k=2, leading_dense_layers=1, moe_every=2)
    assert model.moe_layers == [1, 3]
    found, expert, router, trunk = counts_of(model), 2 * 8 * 6, 8 * 4, 5 * 4 * 64 + 3 * 2 * 80 + 2 * 128
    assert found.params_total == trunk + 2 * (4 * expert + router)
    assert found.params_active == trunk + 2 * (2 * expert + router)


def test_a_hash_router_has_no_parameters_and_costs_nothing():
    shape = dict(
        width=8, layers=2, heads=2, sequence_length=4, vocab_size=16, ffn_width=0, num_experts=4, expert_width=6, top_k=2
    )
    learned, hashed = (counts_of(Model(**shape, router=router)) for router in ("sigmoid_topk", "hash"))
    router = 2 * 8 * 4
    assert learned.params_total - hashed.params_total == learned.params_active - hashed.params_active == router
    assert learned.flops_per_token - hashed.flops_per_token == 6 * router


def test_the_routing_bias_is_a_buffer_that_checkpoints_keep():
    with torch.device("meta"):
        model = Transformer(Model(**PUBLISHED | dict(num_experts=4, top_k=2, expert_width=8)), Arithmetic.of("full"), "torch")
    assert [name for name, _ in model.named_parameters() if "bias" in name] == []
    assert sum(name.endswith("router.bias") for name in model.state_dict()) == 12
