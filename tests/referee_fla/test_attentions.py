"""Attentions against the plain forms of flash-linear-attention's core: the parts of native sparse attention, both delta rules,
the bounded gate of decays of channels.
"""

import pytest
import torch
from fla.ops.gated_delta_rule.naive import naive_recurrent_gated_delta_rule
from fla.ops.kda.gate import naive_kda_lowerbound_gate
from fla.ops.kda.naive import naive_chunk_kda, naive_recurrent_kda
from fla.ops.nsa.naive import naive_nsa_compression, naive_nsa_selection, naive_nsa_topk
from torch.nn.functional import scaled_dot_product_attention

from harness.model.attention.kda import KimiDelta
from harness.model.attention.nsa import Sparse
from harness.model.delta_rule import chunked, recurrent
from harness.model.softmax_attention import in_heads
from harness.model.where import Where
from harness.plan.parts.attention import kda, nsa
from harness.plan.schema import Model
from kernels import Arithmetic

WIDTH, HEADS, HEAD = 64, 4, 16
MODEL = Model(
    width=WIDTH, layers=1, heads=HEADS, sequence_length=64, vocab_size=256, activation="relu2", ffn_width=64, qk_norm=True
)
FULL = Arithmetic.of("full")


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Published(Sparse):
    """Looks into the block before the token's own too, whatever it weighs, as the paper and flash-linear-attention do."""

    def _selected(self, weight_BSN, length):
        before_S = torch.arange(length)[:, None] // self.block - 1
        return super()._selected(weight_BSN.masked_fill(torch.arange(weight_BSN.shape[2]) == before_S, torch.inf), length)


def sparse(keys):
    """Its heads share one key and value: the choice is one for all heads here, and for the heads of a group there."""
    ours = Published(MODEL, keys, FULL)
    with torch.no_grad():
        for seed, (name, p) in enumerate(ours.named_parameters()):
            p.copy_(drawn(seed, *p.shape) * WIDTH**-0.5)
            if name in ("key", "value"):
                p.copy_(p[:, :HEAD].repeat(1, HEADS))
    return ours


def looks(ours, x, where):
    """(q_BSHA, k_BS1A, v_BS1A), and keys and values of blocks, the last one of what there is of it."""
    q, k, v = in_heads(x, (ours.query, ours.key, ours.value), HEADS, where, FULL, True, ())
    k, v = k[:, :, :1], v[:, :, :1]
    blocks = (torch.stack([part.mean(1) for part in t.split(ours.block, 1)], 1) for t in (k, v))
    return q, k, v, *blocks


def visible(index_BSGN, block, length):
    """bool (B, S, S), of the first group: the tokens of these blocks, up to each token."""
    chosen = index_BSGN[:, :, 0, :, None] * block + torch.arange(block)
    seen = torch.zeros(*chosen.shape[:2], length + block, dtype=torch.bool)
    flat = torch.where((index_BSGN[:, :, 0, :, None] >= 0) & (chosen < length), chosen, length).flatten(2)
    seen.scatter_(2, flat, True)
    return seen[..., :length] & torch.ones(length, length, dtype=torch.bool).tril()


@pytest.mark.parametrize("length", [48, 43])
@pytest.mark.parametrize("keys", [nsa.Keys(block=8, chosen=4, window=5), nsa.Keys(block=4, chosen=6, window=11)], ids=str)
def test_native_sparse_attention_is_flas(keys, length):
    """Whole layers, of their parts: what blocks are chosen, what the three looks say, and their gates."""
    ours, x = sparse(keys), drawn(9, 2, length, WIDTH)
    where = Where(torch.zeros(2, length, dtype=torch.int64))
    where = where._replace(shared=Sparse.shared(MODEL, keys)(where))
    with torch.no_grad():
        q, k, v, k_blocks, v_blocks = looks(ours, x, where)
        scale, block = HEAD**-0.5, keys.block
        compressed, _ = naive_nsa_compression(q, k_blocks, v_blocks, block, scale)
        index = naive_nsa_topk(q, k_blocks, keys.chosen, block, scale)
        by_head = (q.transpose(1, 2), *(t.transpose(1, 2).expand(-1, HEADS, -1, -1) for t in (k, v)))
        our_look, weight = ours._compressed(*by_head)
        torch.testing.assert_close(our_look.transpose(1, 2), compressed, rtol=1e-4, atol=1e-5)
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        assert torch.equal(ours._selected(weight, length) & causal, visible(index, block, length))
        selected = naive_nsa_selection(q, k, v, index, block, scale)
        at = torch.arange(length)
        mask = causal & (at[:, None] - at < keys.window)
        near = scaled_dot_product_attention(*by_head, attn_mask=mask).transpose(1, 2)
        gates = torch.sigmoid(x @ ours.gate).view(2, length, 3, HEADS, 1).unbind(2)
        mixed = sum(gate * look for gate, look in zip(gates, (compressed, selected, near)))
        torch.testing.assert_close(ours(x, where), mixed.flatten(2) @ ours.output, rtol=1e-4, atol=1e-5)


def test_without_the_block_before_some_tokens_choose_others():
    """What `nsa` does: the block before a token's own is in competition, and the window sees its last tokens anyway."""
    keys = nsa.Keys(block=8, chosen=3, window=5)
    published, x = sparse(keys), drawn(9, 2, 48, WIDTH)
    where = Where(torch.zeros(2, 48, dtype=torch.int64))
    where = where._replace(shared=Sparse.shared(MODEL, keys)(where))
    with torch.no_grad():
        q, k, v, *_ = looks(published, x, where)
        _, weight = published._compressed(*(t.transpose(1, 2).expand(-1, HEADS, -1, -1) for t in (q, k, v)))
        ours, theirs = (kind._selected(published, weight, 48) for kind in (Sparse, Published))
    assert ours.sum() == theirs.sum() and not torch.equal(ours, theirs)


def of_channels(q, k, v, g, beta, **state):
    return naive_recurrent_kda(q, k, v, g, beta, **state)


def of_channels_in_chunks(q, k, v, g, beta, **state):
    return naive_chunk_kda(q, k, v, g, beta, chunk_size=16, **state)


def of_heads(q, k, v, g, beta, **state):
    return naive_recurrent_gated_delta_rule(q, k, v, beta, g.squeeze(-1), **state)


@pytest.mark.parametrize("theirs", [of_channels, of_channels_in_chunks, of_heads])
def test_the_delta_rule_is_flas(theirs):
    q, k, v = (drawn(seed, 2, 48, 3, HEAD) for seed in range(3))
    k = k / k.norm(dim=-1, keepdim=True)
    g = -5 * torch.sigmoid(drawn(3, 2, 48, 3, 1 if theirs is of_heads else HEAD))
    beta, state = torch.sigmoid(drawn(4, 2, 48, 3)), drawn(5, 2, 3, HEAD, HEAD)
    given = [t.transpose(1, 2) for t in (q * HEAD**-0.5, k, v, g, beta)]
    expected, last = theirs(q, k, v, g, beta, initial_state=state, output_final_state=True)
    for rule in (recurrent, lambda *words: chunked(*words, 16, -5.0)):
        o, found = rule(*given, state)
        torch.testing.assert_close(o.transpose(1, 2), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found, last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("least", [-5.0, -2.0])
def test_the_gate_of_decays_is_flas_with_a_lower_bound(least):
    ours, x = KimiDelta(MODEL, kda.Keys(least=least), FULL), drawn(9, 2, 7, WIDTH)
    with torch.no_grad():
        for seed, p in enumerate(ours.parameters()):
            p.copy_(drawn(seed, *p.shape) * 0.3)
        inner = (x @ ours.decay_in @ ours.decay_out).unflatten(-1, (HEADS, HEAD))
        expected = naive_kda_lowerbound_gate(inner, ours.rate, ours.step, lower_bound=least)
        torch.testing.assert_close(ours.decay(x), expected, rtol=1e-5, atol=1e-6)
