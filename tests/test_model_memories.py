"""Memories and residual schemes: causal to the bit, decoding as reading, documents read alone, against what is computed slowly;
what is refused; and that each dial moves bits, compiled and not."""

import math

import micro
import numpy as np
import pytest
import torch
from reading import assert_causal, assert_decodes, tokens
from torch.utils.flop_counter import FlopCounterMode

from harness.errors import UserError
from harness.model.build import build_model, count_plan
from harness.model.counts import count
from harness.model.init import initialize
from harness.model.memory.engram import Engram
from harness.model.residual.hyper import sinkhorn
from harness.model.short_conv import ShortConv, short_conv
from harness.model.where import Where
from harness.plan import parts
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.parts.memory.engram import primes

SMALL = (
    "unranked=true", "memory.bigram.columns=8", "memory.engram.rows=61", "memory.engram.columns=4", "memory.engram.heads=2",
    "memory.smear.channels=5", "memory.value_embeddings.channels=5",
)  # fmt: skip
MEMORIES = parts.names("memory")
KINDS = [*(f"model.memories=[{name}]" for name in MEMORIES), "model.residual=lambdas", "model.residual=hyper"]
EVERY = pytest.mark.parametrize("kind", [*KINDS, f"model.memories=[{','.join(MEMORIES)}]"])
DIALS = {
    "bigram": ("memory.bigram.rows=1000", "memory.bigram.columns=0"),
    "canon": ("memory.canon.places=A", "memory.canon.places=B", "memory.canon.places=C", "memory.canon.taps=2"),
    "engram": ("memory.engram.layers=[0,1]", "memory.engram.order=2", "memory.engram.heads=1", "memory.engram.rows=97",
               "memory.engram.taps=2"),
    "smear": ("memory.smear.channels=2",),
    "value_embeddings": ("memory.value_embeddings.every=1", "memory.value_embeddings.channels=2"),
}  # fmt: skip


def model_of(*words, seed=1, lane=micro.MOE):
    """What starts at zero is drawn, so that every part says something."""
    plan = compose([*lane, *SMALL, *words]).plan
    model = build_model(plan, "full")
    plan.init.zero_output = False
    initialize(model, plan.init, seed)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.where(p == 0, torch.randn(p.shape, generator=draws) * 0.3, p))
    return model.eval()


@EVERY
def test_no_token_reaches_an_earlier_one_by_a_bit(kind):
    assert_causal(model_of(kind))


@EVERY
@pytest.mark.parametrize("prompt", [1, 2, 9])
def test_decoding_with_a_cache_says_what_reading_says(kind, prompt):
    assert_decodes(model_of(kind), prompt)


@EVERY
def test_documents_in_one_row_are_read_as_they_are_alone(kind):
    model, token_BS = model_of(kind), tokens(1, 24)
    document_BS = torch.tensor([[3] * 10 + [4] * 14])
    with torch.no_grad():
        packed = model.head.logits(model.trunk(Where(token_BS, document_BS=document_BS))[0])
        first, second = model.logits(token_BS[:, :10]), model.logits(token_BS[:, 10:])
    torch.testing.assert_close(packed[:, :10], first, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(packed[:, 10:], second, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "engram" not in kind])
def test_gradients_are_those_of_differences(kind):
    """In fp32, along each parameter's gradient. Engram's root of a score is too steep for it: the next test."""
    model, token_BS = model_of(kind, "model.width=16", "model.heads=2", lane=micro.DENSE), tokens(2, 12)
    draws = torch.Generator().manual_seed(3)
    weight_BSV = torch.randn(2, 12, 256, generator=draws)
    named = {name: p for name, p in model.named_parameters() if "memories" in name or "around" in name}
    assert named
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(model.head.weight.shape, generator=draws) * 0.1)

    def said():
        return (model.logits(token_BS).double() * weight_BSV).sum()

    gradients = dict(zip(named, torch.autograd.grad(said(), list(named.values()))))
    for name, p in named.items():
        direction = gradients[name] / (gradients[name].norm() + 1e-12)
        at, ends = p.detach().clone(), []
        with torch.no_grad():
            for sign in (1, -1):
                p.copy_(at + sign * 3e-3 * direction)
                ends.append(float(said()))
            p.copy_(at)
        assert (ends[0] - ends[1]) / 6e-3 == pytest.approx(float(gradients[name].norm()), rel=3e-2, abs=1e-3), name


def test_engrams_gradients_are_those_of_differences_in_fp64():
    in_block = model_of("model.memories=[engram]", "model.width=16", "model.heads=2").blocks[1].memories["engram"].double()
    draws, named = torch.Generator().manual_seed(5), dict(in_block.named_parameters())
    x, e = (torch.randn(1, 5, width, dtype=torch.float64, generator=draws).requires_grad_() for width in (16, 16))

    class Says(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = in_block

        def forward(self, x, e):
            return self.part.says(x, Where(tokens(1, 5), recalled={"engram": e}))

    def said(x, e, *weights):
        given = {f"part.{name}": w for name, w in zip(named, weights)}
        return torch.func.functional_call(Says(), given, (x, e))

    assert torch.autograd.gradcheck(said, (x, e, *named.values()), eps=1e-7, atol=1e-5)


def test_parts_at_their_start_leave_the_model_as_it_is():
    """Of weights as they are drawn: tables and numbers at 0, taps that pass on, streams whose mean is the plain one."""
    plain = compose([*micro.MOE, "unranked=true"]).plan
    token_BS, said = tokens(2, 24), []
    for kind in ("seed=1", *KINDS):
        plan = compose([*micro.MOE, *SMALL, kind]).plan
        model = build_model(plan, "full")
        initialize(model, plan.init, 1)
        with torch.no_grad():
            said.append(model.trunk(Where(token_BS))[0])
    assert plan_hash(compose([*micro.MOE, "unranked=true", "model.memories=[]"]).plan) == plan_hash(plain)
    for found in said[1:]:
        torch.testing.assert_close(found, said[0], rtol=1e-5, atol=1e-6)


def test_a_pair_of_bytes_has_a_row_of_its_own_and_the_first_has_none():
    model = model_of("model.memories=[bigram]", "memory.bigram.columns=0")
    memory, token_BS = model.memories["bigram"], tokens(2, 9)
    x_BSD, found = memory(torch.zeros(2, 9, 32), Where(token_BS))
    for b in range(2):
        assert not found[b, 0].any()
        for at in range(1, 9):
            assert torch.equal(found[b, at], memory.table[int(token_BS[b, at - 1]) * 256 + int(token_BS[b, at])])


def test_hashed_pairs_share_rows_by_the_published_hash():
    memory = model_of("model.memories=[bigram]", "memory.bigram.columns=0", "memory.bigram.rows=101").memories["bigram"]
    token_BS = tokens(1, 30)
    found = memory(torch.zeros(1, 30, 32), Where(token_BS))[1]
    for at in range(1, 30):
        before, token = int(token_BS[0, at - 1]), int(token_BS[0, at])
        assert torch.equal(found[0, at], memory.table[((36313 * token) ^ (27191 * before)) % 101])


def test_engram_looks_up_the_rows_of_every_hash_of_every_order():
    model = model_of("model.memories=[engram]", "memory.engram.layers=[0,1]")
    memory, token_BS = model.memories["engram"], tokens(1, 20)
    assert isinstance(memory, Engram) and primes(61, 8) == [61, 67, 71, 73, 79, 83, 89, 97]
    assert memory.rows == {0: primes(61, 8)[:4], 1: primes(61, 8)[4:]}
    found = memory(torch.zeros(1, 20, 32), Where(token_BS))[1]
    ids = [int(t) for t in token_BS[0]]
    for layer, sizes in memory.rows.items():
        factors, table = getattr(memory, f"factor_{layer}"), getattr(memory, f"table_{layer}")
        assert bool((factors % 2 == 1).all())
        for at in range(20):
            rows = []
            for head, (order, size) in enumerate(zip((2, 2, 3, 3), sizes)):
                mixed = ids[at] * int(factors[head, 0])
                for back in range(1, order):
                    mixed ^= (ids[at - back] + 1 if at >= back else 0) * int(factors[head, back])
                rows.append(table[sum(sizes[:head]) + mixed % size])
            assert torch.equal(found[layer][0, at], torch.cat(rows))


def test_engrams_gate_and_convolution_are_the_published_formulas():
    in_block = model_of("model.memories=[engram]").blocks[1].memories["engram"].double()
    draws = torch.Generator().manual_seed(5)
    x, e = (torch.randn(1, 11, width, dtype=torch.float64, generator=draws) for width in (32, 16))

    def normed(t):
        return t / (t.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    found = in_block.says(x, Where(tokens(1, 11), recalled={"engram": e}))
    score = (normed(e @ in_block.key) * normed(x)).sum(-1, keepdim=True) / math.sqrt(32)
    u = 1 / (1 + torch.exp(-torch.sign(score) * score.abs().sqrt())) * (e @ in_block.value)
    taps = in_block.conv.taps
    conv = torch.nn.functional.conv1d(
        torch.nn.functional.pad(normed(u).mT, (9, 0)), taps.T.unsqueeze(1), groups=32, dilation=3
    ).mT
    torch.testing.assert_close(found, u + conv * torch.sigmoid(conv), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dilation", [1, 3])
def test_a_short_convolution_within_documents_is_one_of_each(dilation):
    x, taps = torch.randn(1, 20, 6), torch.randn(4, 6)
    document_BS = torch.tensor([[7] * 8 + [2] * 12])
    found = short_conv(x, taps, dilation=dilation, document_BS=document_BS)
    alone = [short_conv(part, taps, dilation=dilation) for part in (x[:, :8], x[:, 8:])]
    torch.testing.assert_close(found, torch.cat(alone, 1), rtol=0, atol=0)


def test_canon_is_a_convolution_where_it_stands():
    """Against a block whose inputs were convolved by hand."""
    model = model_of("model.memories=[canon]", "memory.canon.places=ABCD", lane=micro.DENSE)
    block, where = model.blocks[0], Where(tokens(2, 16))
    where = where._replace(shared=model.shared["full"](where), recalled={})
    x, at = torch.randn(2, 16, 32), block.memories["canon"].at
    assert sorted(at) == ["A", "B", "C", "D"] and all(isinstance(conv, ShortConv) for conv in at.values())

    def conv(place, t):
        return torch.nn.functional.conv1d(
            torch.nn.functional.pad(t.mT, (3, 0)), at[place].taps.T.unsqueeze(1), groups=t.shape[-1]
        ).mT

    def normed(t):
        return t / (t.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    a, inputs = block.attention, conv("A", normed(x))
    joined = conv("B", torch.cat([inputs @ w for w in (a.query, a.key, a.value)], -1))
    q, k, v = (t.view(2, 16, a.heads, -1) for t in joined.chunk(3, -1))
    cos, sin = (t[:16].unsqueeze(1) for t in where.shared[:2])

    def rotated(t):
        one, two = normed(t).chunk(2, -1)
        return torch.cat((one * cos - two * sin, two * cos + one * sin), -1).transpose(1, 2)

    mixed = torch.nn.functional.scaled_dot_product_attention(rotated(q), rotated(k), v.transpose(1, 2), is_causal=True)
    x1 = x + mixed.transpose(1, 2).reshape(2, 16, -1) @ a.output
    hidden = conv("D", conv("C", normed(x1)) @ block.feedforward.up)
    expected = x1 + torch.relu(hidden).square() @ block.feedforward.down
    with torch.no_grad():
        torch.testing.assert_close(block(x, where)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [2, 4])
def test_the_streams_mixing_is_doubly_stochastic(n):
    h = sinkhorn(torch.randn(3, 5, n, n, generator=torch.Generator().manual_seed(2)), 100)
    assert bool((h > 0).all())
    torch.testing.assert_close(h.sum(-1), torch.ones(3, 5, n), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(h.sum(-2), torch.ones(3, 5, n), rtol=1e-5, atol=1e-5)


def test_hyper_connections_are_the_papers_formulas():
    around = model_of("model.residual=hyper", "residual.hyper.streams=3").blocks[0].around_attention.double()
    draws = torch.Generator().manual_seed(6)
    stream, y = (torch.randn(1, 4, *shape, dtype=torch.float64, generator=draws) for shape in ((3, 32), (32,)))
    read, noted = around.read(stream)
    written = around.write(stream, noted, y := y.float().double())
    for at in range(4):
        x = stream[0, at].reshape(-1)
        maps = (x / (x.square().mean() + 1e-6).sqrt()) @ around.phi
        base = around.offset + around.start
        pre, post, mixing = (
            a * m + b for a, m, b in zip(around.scale, maps.split([3, 3, 9]), base.split([3, 3, 9]), strict=True)
        )
        h = mixing.view(3, 3).exp()
        for _ in range(20):
            h = h / h.sum(1, keepdim=True)
            h = h / h.sum(0, keepdim=True)
        torch.testing.assert_close(read[0, at], torch.sigmoid(pre) @ stream[0, at], rtol=1e-9, atol=1e-9)
        expected = h @ stream[0, at] + torch.outer(2 * torch.sigmoid(post), y[0, at])
        torch.testing.assert_close(written[0, at], expected, rtol=1e-9, atol=1e-9)


def test_hyper_connections_start_with_the_mean_one_writing_and_a_stray_share():
    around = build_model(compose([*micro.MOE, "unranked=true", "model.residual=hyper"]).plan, "full").blocks[0].around_attention
    with torch.no_grad():
        for p in around.parameters():
            p.zero_()
        _, (post, mixing) = around.read(torch.randn(1, 2, 4, 32))
    torch.testing.assert_close(post, torch.ones(1, 2, 4))
    torch.testing.assert_close(mixing.diagonal(dim1=-2, dim2=-1), torch.full((1, 2, 4), 0.99))


@pytest.mark.parametrize("name", MEMORIES)
def test_every_dial_of_a_memory_moves_bits(name):
    losses = {}
    for word in ("", *DIALS[name]):
        chosen = f"model.memories=[{name}]"
        session = micro.session(chosen, *SMALL, *([word] if word else []))
        losses[word] = [float(session.step(index).loss) for index in range(8)]
    assert len({tuple(found) for found in losses.values()}) == len(losses), losses
    assert all(found[-1] < found[0] for found in losses.values())


def test_every_dial_of_a_residual_scheme_moves_bits():
    dials = ("plain", "lambdas", "hyper", "hyper streams=2", "hyper rounds=1", "hyper stray=0.3")
    losses = {}
    for dial in dials:
        name, *keys = dial.split()
        session = micro.session(f"model.residual={name}", "unranked=true", *(f"residual.{name}.{key}" for key in keys))
        losses[dial] = [float(session.step(index).loss) for index in range(8)]
    assert len({tuple(found) for found in losses.values()}) == len(dials), losses


@pytest.mark.slow
@pytest.mark.parametrize("words", [f"model.memories=[{','.join(MEMORIES)}]", "model.residual=hyper", "model.residual=lambdas"])
def test_compiled_blocks_say_what_eager_ones_say(words):
    """Some published dials silently did nothing under compilation."""
    said = {}
    for compile in ("off", "on"):
        torch._dynamo.reset()
        session = micro.session(words, *SMALL, f"kernels.compile={compile}")
        said[compile] = [float(session.step(index).loss) for index in range(4)]
        before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
        session.step(4)
        still = [name for name, p in session.model.named_parameters() if torch.equal(p, before[name])]
        assert not [name for name in still if "memories" in name or "around" in name], still
    np.testing.assert_allclose(said["on"], said["off"], rtol=2e-5)


def test_what_a_token_touches_of_tables_is_active_and_nothing_of_them_is_multiplied():
    plain, tabled = (count_plan(compose([*micro.MOE, *SMALL, word]).plan) for word in ("seed=1", "model.memories=[bigram]"))
    assert tabled.params_total - plain.params_total == 65536 * 8 + 8 * 32 + 2
    assert tabled.params_active - plain.params_active == 8 + 8 * 32 + 2
    assert tabled.flops_per_token - plain.flops_per_token == 6 * 8 * 32 + 6 * 32 * 2


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_that_torch_counts(kind):
    """Beside what is elementwise (taps, weighing by a number of a token or block), which torch does not count."""

    def counted(*words):
        model, token_BS = model_of(*words, lane=micro.DENSE), tokens(2, 32)
        with FlopCounterMode(display=False) as counter:
            model(Where(token_BS), token_BS).nats_BS.sum().backward()
        return counter.get_total_flops() / token_BS.numel(), count(model).flops_per_token

    (torchs, ours), (torchs_plain, ours_plain) = counted(kind), counted()
    width, layers = 32, 2
    elementwise = {
        "bigram": width * layers, "canon": layers * 4 * (2 * width + 3 * width), "engram": 4 * width,
        "smear": 5 + width, "value_embeddings": 0, "lambdas": 0, "hyper": 2 * layers * (2 * 4 + 16) * width,
    }  # fmt: skip
    beside = 6 * next(number for name, number in elementwise.items() if name in kind)
    assert ours - ours_plain - beside == torchs - torchs_plain


BAD = {
    ("model.memories=[engrams]",): "engrams",
    (
        "model.memories=[value_embeddings]",
        "model.attention=gated_delta",
    ): "the attention gated_delta, whose heads a memory does not reach",
    ("model.memories=[canon]", "model.attention_pattern=[kda,full]"): "the attention kda",
    ("model.memories=[canon]", "memory.canon.places=AE"): "memory.canon.places=AE",
    ("model.memories=[canon]", "memory.canon.places=AA"): "memory.canon.places=AA",
    ("model.memories=[canon]", "memory.canon.places=D"): "rows have no neighbours",
    ("model.memories=[canon]", "memory.canon.places=D", "model.shared_experts=1", "precision.format=fp8"): "is one kernel",
    ("model.memories=[smear]", "memory.smear.channels=99"): "memory.smear.channels=99 of model.width=32",
    (
        "model.memories=[value_embeddings]",
        "memory.value_embeddings.channels=99",
    ): "memory.value_embeddings.channels=99 of model.width=32",
    ("model.memories=[bigram]", "model.vocab_size=300"): "memory.bigram.rows=0 with model.vocab_size=300: 90,000 rows",
    ("model.memories=[bigram]", "memory.bigram.rows=70000"): "65,536 pairs",
    ("model.memories=[bigram]", "memory.bigram.columns=32"): "need no projection",
    ("model.memories=[engram]", "memory.engram.layers=[2]"): "memory.engram.layers=[2] of 2 layers",
    ("model.memories=[smear,smear]",): "names smear twice",
    ("model.residual=hyper", "residual.hyper.streams=1"): "residual.hyper.streams=1",
}


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_what_does_not_fit_is_named(words):
    with pytest.raises(UserError) as refused:
        compose([*micro.MOE, *SMALL, *words])
    assert BAD[words] in f"{refused.value.problem} {refused.value.remedy}"
