"""QK-clip: scores are bounded by the weights after a step, per head; what it leaves alone, and where it is refused."""

import micro
import pytest
import torch
from reading import tokens

from harness.errors import UserError
from harness.model.build import build_model
from harness.model.init import initialize
from harness.model.where import Where
from harness.optim.qk_clip import clip_scores
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash

FULL = ("model.qk_norm=false",)
KINDS = {
    "full": FULL,
    "grouped": (*FULL, "model.heads=4", "attention.full.kv_heads=2", "attention.full.gain=1.5", "attention.full.rotated=4"),
    "mla": ("model.attention=mla", "attention.mla.rank=8", "attention.mla.rotary=4"),
}
EVERY = pytest.mark.parametrize("kind", KINDS)


def model_of(*words):
    plan = compose([*micro.MOE, "unranked=true", *words]).plan
    model = build_model(plan, "full")
    plan.init.zero_output = False
    initialize(model, plan.init, 1)
    with torch.no_grad():  # one head of layer 0 shouts
        attention = model.blocks[0].attention
        attention.query.view(32, attention.heads, -1)[:, 1] *= 30
    return model


def scores(attention, x_BSD, where):
    """(B, H, S, T) in fp64, by hand."""
    if hasattr(attention, "key_up"):
        q_n, q_r, c, k_r = (t.double() for t in attention._made(x_BSD, where))
        k_n = (c @ attention.key_up.double()).view(*c.shape[:2], attention.heads, -1)
        q = torch.cat((q_n, q_r), -1)
        k = torch.cat((k_n, k_r.unsqueeze(2).expand(-1, -1, attention.heads, -1)), -1)
    else:
        q, k, _ = (t.double() for t in attention._operands(x_BSD, where))
        k = k.repeat_interleave(q.shape[2] // k.shape[2], 2)
    return torch.einsum("bsha,btha->bhst", q, k) / q.shape[-1] ** 0.5


def inputs(model, token_BS, **where):
    where = Where(token_BS, **where)
    where = where._replace(shared=model.shared[model.shape.attentions[0]](where))
    return torch.randn(*token_BS.shape, 32, generator=torch.Generator().manual_seed(1)), where


@EVERY
def test_peaks_are_the_largest_scores_of_tokens_that_see_each_other(kind):
    model = model_of(*KINDS[kind])
    attention, document_BS = model.blocks[0].attention, torch.tensor([[0] * 9 + [1] * 15] * 2)
    for document in (None, document_BS):
        x_BSD, where = inputs(model, tokens(2, 24), document_BS=document)
        seen = torch.ones(24, 24, dtype=torch.bool).tril()
        seen = seen if document is None else seen & (document[0][:, None] == document[0])
        expected = scores(attention, x_BSD, where).abs().masked_fill(~seen, 0).amax((0, 2, 3))
        torch.testing.assert_close(attention.peaks(x_BSD, where).double(), expected, rtol=1e-5, atol=1e-5)


@EVERY
def test_a_head_above_the_bound_meets_it_and_no_other_is_touched(kind):
    model = model_of(*KINDS[kind], "optim.qk_clip=10")
    attention = model.blocks[0].attention
    x_BSD, where = inputs(model, tokens(2, 24))
    before, was = attention.peaks(x_BSD, where), scores(attention, x_BSD, where)
    assert bool((before > 10).any()) and bool((before < 10).any())
    others = [p.detach().clone() for name, p in model.named_parameters() if "blocks.0.attention" not in name]
    peak_LH = torch.stack([before, torch.full_like(before, 1.0)])
    clip_scores(model, peak_LH, 10.0)
    factor_H = (10 / before.clamp(min=10)).double()
    if kind == "grouped":  # two heads share their keys
        factor_H = factor_H.view(2, 2).amin(1).repeat_interleave(2)
    expected = was * factor_H.view(1, -1, 1, 1)
    torch.testing.assert_close(scores(attention, x_BSD, where), expected, rtol=1e-4, atol=1e-4)
    left = [p for name, p in model.named_parameters() if "blocks.0.attention" not in name]
    assert all(torch.equal(a, b) for a, b in zip(others, left, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("compile", ["off", "on"])
def test_the_dial_moves_bits(compile):
    said = {}
    for words in ((), ("optim.qk_clip=0.02",)):
        torch._dynamo.reset()
        session = micro.session(*FULL, "model.layers=1", f"kernels.compile={compile}", *words, lane=micro.DENSE)
        said[words] = [float(session.step(index).loss) for index in range(6)]
    off, on = said.values()
    assert off[:2] == on[:2] and off[2:] != on[2:]  # what starts at zero says nothing of the first step's clipping


def test_peaks_of_a_step_are_those_of_all_its_micro_batches():
    found = []
    for words in ((), ("parallel.micro_batch_tokens=64",)):
        session = micro.session(*FULL, "optim.qk_clip=5", *words)
        found.append(session._gradients(0, *session.batches.batch(0), False)[3])
    assert found[0].shape == (2, 2)
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=0)


def test_scoring_computes_no_peaks_and_training_does():
    model = model_of(*FULL, "optim.qk_clip=5")
    with torch.no_grad():
        assert model(Where(tokens(1, 8)), tokens(1, 8)).peak_LH.shape == (0, 0)
    assert model(Where(tokens(1, 8)), tokens(1, 8)).peak_LH.shape == (2, 2)


def test_off_is_no_part_of_the_hash():
    plain, off, on = (compose([*micro.MOE, *FULL, *word]).plan for word in ((), ("optim.qk_clip=0",), ("optim.qk_clip=9",)))
    assert plan_hash(plain) == plan_hash(off) != plan_hash(on)


BAD = {
    ("optim.qk_clip=100",): "is a no-op under model.qk_norm=true",
    ("optim.qk_clip=100", "model.attention=window"): "is a no-op under model.qk_norm=true with the attention window",
    ("optim.qk_clip=100", "model.attention=kda", "attention.kda.chunk=8"): "with the attention kda",
    ("optim.qk_clip=-1", *FULL): "optim.qk_clip=-1",
}


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_where_it_does_nothing_it_is_refused(words):
    with pytest.raises(UserError, match=BAD[words]):
        compose([*micro.MOE, *words])
