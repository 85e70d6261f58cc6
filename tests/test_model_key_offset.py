"""Keys that have half of their channels without positions from the token before: what moves, what it sees, what it refuses."""

import micro
import pytest
import torch
from reading import saying, tokens
from small_tokens import documents, everywhere, own_cache_fixture, small_track  # noqa: F401

from harness.errors import UserError
from harness.evaluate.own_model import OwnModel
from harness.model.attention.full import Full
from harness.model.build import build_model, count_plan
from harness.model.key_offset import KeyOffset
from harness.model.where import Cache, Where
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash

ROTATED = "attention.full.rotated=4"  # of a head width of 16: 12 channels without positions, 6 of which are moved
OFFSET = "attention.full.key_offset=true"


def model_of(*words, seed=1):
    return saying(compose([*micro.MOE, ROTATED, *words]).plan, seed)


def test_half_of_the_channels_without_positions_are_those_of_the_token_before():
    attention, k_BSGA = model_of(OFFSET).blocks[0].attention, torch.randn(2, 5, 2, 16)
    document_BS = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]])
    for document in (None, document_BS):
        found = attention.offset(k_BSGA, Where(tokens(2, 5), document_BS=document))
        for row in range(2):
            for at in range(5):
                begins = at == 0 or (document is not None and document[row, at] != document[row, at - 1])
                expected = k_BSGA[row, at].clone()
                expected[:, 10:] = 0.0 if begins else k_BSGA[row, at - 1, :, 10:]
                assert torch.equal(found[row, at], expected)


def test_attention_by_hand():
    """Softmax of scores in fp64, of keys that are moved before."""
    model, token_BS = model_of(OFFSET), tokens(2, 9)
    attention: Full = model.blocks[0].attention
    x_BSD = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(4))
    where = Where(token_BS)
    where = where._replace(shared=model.shared["full"](where))
    x = x_BSD.double()
    q, k, v = ((x @ w.double()).view(2, 9, 2, 16) for w in (attention.query, attention.key, attention.value))
    q, k = (t * torch.rsqrt(t.square().mean(-1, keepdim=True) + 1e-6) for t in (q, k))
    angle = torch.arange(9, dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(0, 4, 2, dtype=torch.float64) / 4)
    for t in (q, k):
        for pair in range(2):
            a, b = t[..., pair].clone(), t[..., 2 + pair].clone()
            cos, sin = angle[:, pair].cos()[None, :, None], angle[:, pair].sin()[None, :, None]
            t[..., pair], t[..., 2 + pair] = a * cos - b * sin, b * cos + a * sin
    k[:, 1:, :, 10:], k[:, :1, :, 10:] = k[:, :-1, :, 10:].clone(), 0.0
    score = torch.einsum("bshc,bthc->bhst", q, k) / 4
    share = score.masked_fill(torch.ones(9, 9, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
    expected = torch.einsum("bhst,bthc->bshc", share, v).reshape(2, 9, 32) @ attention.output.double()
    with torch.no_grad():
        torch.testing.assert_close(attention(x_BSD, where).double(), expected, rtol=1e-4, atol=1e-5)


def test_no_token_reaches_an_earlier_one_by_a_bit():
    model, token_BS = model_of(OFFSET), tokens(2, 32)
    with torch.no_grad():
        before = model.logits(token_BS)
        for at in (0, 7, 20, 31):
            changed = token_BS.clone()
            changed[:, at] = (changed[:, at] + 1) % 256
            assert torch.equal(before[:, :at], model.logits(changed)[:, :at])


@pytest.mark.parametrize("words", [(), ("attention.full.kv_heads=1", "attention.full.gain=1.5")])
@pytest.mark.parametrize("parts", [(1,) * 24, (5, 1, 1, 9, 8), (23, 1)])
def test_decoding_with_a_cache_says_what_reading_says(parts, words):
    model, token_BS, cache = model_of(OFFSET, *words), tokens(2, 24), Cache()
    with torch.no_grad():
        whole = model.logits(token_BS)
        found = torch.cat([model.logits(part, cache) for part in token_BS.split(parts, 1)], 1)
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=2e-5)
    heads = 1 if words else 2
    of_tokens = 24 * sum(block.attention.cache_values() for block in model.blocks)
    assert cache.bytes == 4 * 2 * (of_tokens + 2 * heads * 6)  # fp32, two rows; 6 channels of each head and layer


def test_within_documents_each_is_read_alone():
    model, token_BS, document_BS = model_of(OFFSET), tokens(1, 24), torch.tensor([[0] * 10 + [1] * 14])
    with torch.no_grad():
        packed = model.head.logits(model.trunk(Where(token_BS, document_BS=document_BS))[0])
        first, second = model.logits(token_BS[:, :10]), model.logits(token_BS[:, 10:])
        across = model.logits(token_BS)[:, 10:]
    torch.testing.assert_close(packed[:, :10], first, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed[:, 10:], second, rtol=1e-4, atol=2e-5)
    assert not torch.allclose(across, second, rtol=1e-2)


def test_training_within_documents_takes_it(own_cache, monkeypatch):
    track = small_track(own_cache / "mirror", [documents(1, 90, 9)], documents(3, 30, 9))
    everywhere(monkeypatch, track)
    plan = compose(["lane=wiki-s-moe-64e", "unranked=true", "data.document_mask=true", "attention.full.rotated=8", OFFSET]).plan
    with torch.device("meta"):
        assert build_model(plan, "full").blocks[0].attention.offset is not None


def test_packed_rows_are_left_to_models_without_it():
    """An evaluator then reads one sequence a row."""
    assert OwnModel(model_of()).packs and not OwnModel(model_of(OFFSET)).packs
    model, token_BS = model_of(OFFSET), tokens(1, 6)
    with pytest.raises(AssertionError, match="packed row"):
        model.trunk(Where(token_BS, visible_BSS=torch.ones(1, 6, 6, dtype=torch.bool).tril()))


def test_it_costs_no_parameter_and_no_flops_and_is_of_the_lane():
    words = ["lane=tiny-moe-16e", "unranked=true", "attention.full.rotated=32"]
    plain, moved = (compose([*words, *more]).plan for more in ((), (OFFSET,)))
    assert count_plan(plain) == count_plan(moved) and plan_hash(plain) != plan_hash(moved)
    assert plan_hash(compose([*words, "attention.full.key_offset=false"]).plan) == plan_hash(plain)
    with pytest.raises(UserError, match="attention.full.key_offset"):
        compose(["lane=tiny-moe-16e", OFFSET])


@pytest.mark.parametrize("rotated", [0, 16])
def test_a_head_without_channels_to_move_is_refused(rotated):
    with pytest.raises(UserError) as error:
        compose([*micro.MOE, OFFSET, f"attention.full.rotated={rotated}"])
    assert f"attention.full.rotated={rotated}: every channel" in error.value.problem and "below" in error.value.remedy


@pytest.mark.slow
def test_compiled_it_turns_too():
    """Without it the same weights say what lies beyond the bound, so that they need no compilation."""
    torch._dynamo.reset()
    attention, plain = (model_of(*words).blocks[0].attention for words in ((OFFSET,), ()))
    where = Where(tokens(1, 16))
    where = where._replace(shared=model_of().shared["full"](where))
    x_BSD = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        found = torch.compile(attention, fullgraph=True, dynamic=False)(x_BSD, where)
        torch.testing.assert_close(found, attention(x_BSD, where), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(found, plain(x_BSD, where), rtol=1e-2, atol=1e-3)


def test_gradients_go_to_the_token_before():
    offset, k_BSGA = KeyOffset(1), torch.zeros(1, 3, 1, 2, requires_grad=True)
    offset(k_BSGA, Where(tokens(1, 3)))[0, 2].sum().backward()
    assert k_BSGA.grad[0, :, 0].tolist() == [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
