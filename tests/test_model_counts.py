"""Parameters and FLOPs of built modules, against arithmetic done by hand; FLOPs of attentions against torch's count."""

import micro
import pytest
import torch
from reading import tokens
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from harness.model.build import build_model
from harness.model.counts import count
from harness.model.transformer import Transformer
from harness.model.where import Where
from harness.plan import parts
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


class Seen(TorchFunctionMode):
    """Attention by its formula. `unseen`: the FLOPs of its products for keys that a mask leaves out, which torch counts."""

    unseen = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not scaled_dot_product_attention:
            return func(*args, **kwargs)
        q, k, v = args
        causal_ST = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        seen = (causal_ST if kwargs.get("is_causal") else kwargs["attn_mask"]).expand(*q.shape[:3], k.shape[-2])
        self.unseen += 2 * int((~seen).sum()) * (q.shape[-1] + v.shape[-1])
        score = (q @ k.mT) * q.shape[-1] ** -0.5
        return score.masked_fill(~seen, -torch.inf).softmax(-1) @ v


LENGTH, WIDTH, HEAD, BLOCK, CHUNK = 64, 32, 16, 4, 8
MIXED = [
    *micro.DENSE, f"model.sequence_length={LENGTH}", "attention.mla.rank=8", "attention.mla.rotary=4",
    "attention.window.tokens=16", f"attention.nsa.block={BLOCK}", "attention.nsa.chosen=3", "attention.nsa.window=7",
    f"attention.gated_delta.chunk={CHUNK}", f"attention.kda.chunk={CHUNK}",
]  # fmt: skip
DIALS = "attention.full.kv_heads=1 attention.full.rotated=4 attention.full.key_offset=true attention.full.head_gate=true"


def beyond(name):
    """A token's FLOPs forward that torch counts, and the part leaves out for a reason: of products whose masks are no masks of
    attention, the half that is masked; sums that are written as products with ones."""
    if name == "nsa":  # queries with the keys of blocks that are not past, and the mixing
        past = sum((at + 1) // BLOCK for at in range(LENGTH)) / LENGTH
        return 4 * WIDTH * (LENGTH / BLOCK - past)
    if name in ("gated_delta", "kda"):
        later = (CHUNK + 1) * WIDTH + 2 * (CHUNK - 1) * WIDTH  # keys with keys; queries with keys, and the mixing
        return later + 2 * CHUNK * (WIDTH if name == "kda" else WIDTH // HEAD)
    return 0


def solved(system, right, *_, out_shape=None, **__):
    """A unit triangle, row by row: torch counts no such system."""
    *batch, rows, columns = right
    return torch.Size(batch).numel() * rows * (rows - 1) * columns


@pytest.mark.parametrize("words", [*(f"model.attention={name}" for name in parts.names("attention")), DIALS])
def test_flops_of_an_attention_are_those_that_torch_counts_of_what_is_seen(words):
    """Forward, of one attention alone. What is elementwise is not in torch's count: taps of convolutions."""
    plan = compose([*MIXED, *words.split()]).plan
    model, where = build_model(plan, "full"), Where(tokens(2, LENGTH))
    (name,), attention = set(plan.model.attentions), model.blocks[0].attention
    where = where._replace(shared=model.shared[name](where))
    for p in attention.parameters():
        torch.nn.init.normal_(p, 0, 0.1)
    mapping = {torch.ops.aten.linalg_solve_triangular: solved}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=mapping) as counter, Seen() as seen:
        attention(torch.randn(2, LENGTH, WIDTH), where)
    found = (counter.get_total_flops() - seen.unseen) / where.token_BS.numel() - beyond(name)
    taps = sum(2 * p.numel() for leaf, p in attention.named_parameters() if leaf == "taps")
    assert count(attention).flops_per_token / 3 - taps == pytest.approx(found, rel=0.01)
    assert found > 2 * 3 * WIDTH * WIDTH
