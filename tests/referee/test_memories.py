"""Engram against engram-peft's layer, hyper-connections against DeepSeek-V4's in transformers and hyper-connections' Sinkhorn.

Of Canon layers, smear, value embeddings, tables of bigrams and residual lambdas no package was found that others install: they
are held to their formulas in tests/test_model_memories.py.
"""

import sys
from importlib.metadata import files
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hyper_connections.manifold_constrained_hyper_connections import sinkhorn_knopps
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4HyperConnection

from harness.model.memory.engram import Engram, EngramInBlock
from harness.model.residual.hyper import Hyper, sinkhorn
from harness.model.where import Where
from harness.plan.parts.memory import engram
from harness.plan.parts.residual import hyper
from harness.plan.schema import Model

# Its package imports a trainer, which wants much that its layer does not: its files alone, as a package of the same name.
_bare = ModuleType("engram_peft")
_bare.__path__ = [str(next(it.locate().parent for it in files("engram-peft") if it.name == "layer.py"))]
sys.modules["engram_peft"] = _bare
from engram_peft.hashing import NgramHashMapping  # noqa: E402
from engram_peft.layer import ContextAwareGating, ShortConv  # noqa: E402

WIDTH, READ, LENGTH = 32, 24, 23
MODEL = Model(width=WIDTH, layers=2, heads=2, sequence_length=32, vocab_size=256, activation="relu2", ffn_width=32)


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("taps", [2, 4])
def test_engrams_gate_and_convolution_are_engram_pefts(taps):
    """Of one stream. Theirs has norms with weights, which are 1 as they start; their eps is ours."""
    ours = EngramInBlock(READ, WIDTH, taps)
    gating = ContextAwareGating(SimpleNamespace(enable_telemetry=False), READ, WIDTH, hc_mult=1)
    conv = ShortConv(WIDTH, taps, dilation=3, norm_eps=1e-6, hc_mult=1)
    for norm in (*gating.norm_h, *gating.norm_k):
        norm.eps = 1e-6
    with torch.no_grad():
        ours.key.copy_(drawn(1, READ, WIDTH))
        ours.value.copy_(drawn(2, READ, WIDTH))
        ours.conv.taps.copy_(drawn(3, taps, WIDTH))
        gating.w_k[0].weight.copy_(ours.key.T)
        gating.w_v.weight.copy_(ours.value.T)
        conv.conv.weight.copy_(ours.conv.taps.T.unsqueeze(1))
    found = []
    for says in (
        lambda x, e: ours.says(x, Where(torch.zeros(2, LENGTH, dtype=torch.int64), recalled={"engram": e})),
        lambda x, e: conv(gating(e, x.unsqueeze(2))).squeeze(2),
    ):
        given = [drawn(4, 2, LENGTH, WIDTH).requires_grad_(), drawn(5, 2, LENGTH, READ).requires_grad_()]
        said = says(*given)
        found.append((said, *torch.autograd.grad(said.square().sum(), given)))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order, heads, least", [(2, slice(0, 4), 64), (3, slice(4, 8), 80)])
def test_engrams_rows_are_engram_pefts_where_the_hash_is_theirs(order, heads, least):
    """Theirs has one odd number a place, counted from the oldest token and shared by the hashes of a layer, which their primes
    alone tell apart; a token goes in as itself, and before the row there is a token of its own. Ours has a number for each hash
    too, tokens before go in as one more than themselves, and nothing is before the row. With theirs put in, the same rows from
    where an n-gram is whole on. One order at a time: of several its shorter n-grams end a token too early."""
    ours = Engram(MODEL, engram.Keys(layers=[1], order=3, heads=4, rows=64, columns=2))
    theirs = NgramHashMapping(
        compressed_vocab_size=257, engram_vocab_size_per_ngram=[4 * least], ngram_sizes=[order], n_head_per_ngram=4,
        layer_ids=[1], pad_id=256,
    )  # fmt: skip
    assert ours.sizes[heads] == theirs.prime_tables[1][0]
    token_BS = torch.randint(1, 256, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours.factor_1[heads, :order] = torch.from_numpy(theirs.all_multipliers[1][:order][::-1].copy())
        ours.table_1.copy_(torch.arange(len(ours.table_1)).unsqueeze(1).expand(-1, 2))
        before = [torch.cat((token_BS[:, :back] * 0, token_BS[:, :-back]), 1) - 1 for back in (1, 2)]
        found = ours._looked_up(1, [token_BS, *before]).view(2, LENGTH, 8, 2)[..., heads, 0].long()
    first = torch.tensor([0, *ours.sizes]).cumsum(0)[:-1][heads]
    expected = torch.from_numpy(theirs.hash(token_BS)[1]) + first
    assert torch.equal(found[:, order - 1 :], expected[:, order - 1 :])


def connections(rounds, spread):
    """Ours and DeepSeek-V4's of the same maps. Theirs mixes by the transpose of its matrix."""
    n = 4
    theirs = DeepseekV4HyperConnection(
        SimpleNamespace(hc_mult=n, hc_sinkhorn_iters=rounds, hc_eps=0.0, rms_norm_eps=1e-6, hidden_size=WIDTH)
    )
    ours = Hyper(MODEL, hyper.Keys(streams=n, rounds=rounds))
    with torch.no_grad():
        theirs.fn.copy_(drawn(1, 24, n * WIDTH) * spread)
        theirs.base.copy_(drawn(2, 24) * 0.5)
        theirs.scale.copy_(torch.tensor([0.7, 1.3, 0.9]))
        turned = torch.cat((torch.arange(2 * n), 2 * n + torch.arange(n * n).view(n, n).T.flatten()))
        ours.phi.copy_(theirs.fn[turned].T)
        ours.offset.copy_(theirs.base[turned] - ours.start)
        ours.scale.copy_(theirs.scale)
    return ours, theirs


def test_hyper_connections_are_deepseeks_once_sinkhorn_has_settled():
    """A step of n streams, and its gradients."""
    ours, theirs = connections(rounds=60, spread=0.05)

    def our_step(streams, y):
        read, noted = ours.read(streams)
        return read, ours.write(streams, noted, y)

    def their_step(streams, y):  # as its decoder layer does
        post, comb, read = theirs(streams)
        return read, post.unsqueeze(-1) * y.unsqueeze(-2) + comb.mT @ streams

    found = []
    for step in (our_step, their_step):
        given = [drawn(3, 2, LENGTH, 4, WIDTH).requires_grad_(), drawn(4, 2, LENGTH, WIDTH).requires_grad_()]
        said = step(*given)
        found.append((*said, *torch.autograd.grad(sum(t.square().sum() for t in said), given)))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rounds", [1, 2, 20])
def test_sinkhorn_is_deepseeks_and_hyper_connections(rounds):
    """Rows first and columns last, as DeepSeek-V4's, which then takes the transpose: there a stream is an average of streams to
    the last bit, here what all streams hold together is kept. hyper-connections has columns first."""
    logits = drawn(5, 3, 4, 4) * 2
    _, theirs = connections(rounds, spread=0.0)
    for one in logits:
        with torch.no_grad():
            theirs.base[8:].copy_(one.flatten())
            comb = theirs(torch.ones(1, 1, 4, WIDTH))[1][0, 0]
        torch.testing.assert_close(sinkhorn(one, rounds), comb, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sinkhorn(logits, rounds), sinkhorn_knopps(logits.mT, rounds).mT, rtol=1e-5, atol=1e-6)
