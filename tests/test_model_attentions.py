"""Every attention: causal to the bit, decoding as reading, chunks against the recurrence, patterns, what is refused; and that
each dial moves bits, compiled and not."""

import micro
import pytest
import torch
from reading import assert_causal, assert_decodes, tokens

from harness.errors import UserError
from harness.model.attention.mla import Latent
from harness.model.build import build_model, count_plan
from harness.model.delta_rule import chunked, recurrent
from harness.model.init import initialize
from harness.model.short_conv import short_conv
from harness.model.where import Cache, Where
from harness.plan import parts
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash

ATTENTIONS = parts.names("attention")
DECODING = [name for name in ATTENTIONS if "decoding" not in parts.part("attention", name).CANNOT]
TINY = [
    *micro.MOE, "unranked=true", "attention.mla.rank=8", "attention.mla.rotary=4", "attention.window.tokens=5",
    "attention.gated_delta.chunk=8", "attention.kda.chunk=8", "attention.nsa.block=4", "attention.nsa.chosen=3",
    "attention.nsa.window=3",
]  # fmt: skip
EVERY = pytest.mark.parametrize("name", ATTENTIONS)
DIALS = {
    "full": (
        "attention.full.kv_heads=1",
        "attention.full.gain=1.5",
        "attention.full.rotated=4",
        "attention.full.head_gate=true",
        "attention.full.positions=none",
        "attention.full.rotated=4 attention.full.key_offset=true",
    ),
    "mla": ("attention.mla.rank=6", "attention.mla.rotary=6"),
    "window": ("attention.window.tokens=9",),
    "gated_delta": ("attention.gated_delta.taps=2",),
    "kda": ("attention.kda.taps=2", "attention.kda.least=-2"),
    "nsa": ("attention.nsa.block=8", "attention.nsa.chosen=2", "attention.nsa.window=7"),
}


def planned(*words):
    return compose([*TINY, *words]).plan


def model_of(*words, seed=1, spread=True):
    """`spread`: outputs that start at zero are drawn, so that every layer says something."""
    plan = planned(*words)
    model = build_model(plan, "full")
    plan.init.zero_output = not spread
    initialize(model, plan.init, seed)
    with torch.no_grad():
        draws = torch.Generator().manual_seed(seed)
        for p in model.parameters():
            p.copy_(torch.where(p == 0, torch.randn(p.shape, generator=draws) * 0.1, p))
    return model.eval()


@EVERY
def test_no_token_reaches_an_earlier_one_by_a_bit(name):
    assert_causal(model_of(f"model.attention={name}"))


@EVERY
def test_lengths_that_are_no_multiple_of_a_block_or_chunk_say_what_the_whole_says(name):
    model, token_BS = model_of(f"model.attention={name}"), tokens(2, 32)
    with torch.no_grad():
        whole = model.logits(token_BS)
        for length in (1, 2, 5, 13, 31):
            torch.testing.assert_close(model.logits(token_BS[:, :length]), whole[:, :length], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DECODING)
@pytest.mark.parametrize("prompt", [1, 3, 9])
def test_decoding_with_a_cache_says_what_reading_says(name, prompt):
    extra = ["attention.full.kv_heads=1", "attention.full.rotated=4", "attention.full.head_gate=true"] if name == "full" else []
    cache = assert_decodes(model_of(f"model.attention={name}", *extra), prompt)
    assert cache.length == 24 and cache.bytes > 0


def test_a_cache_keeps_what_the_attention_says_it_keeps():
    for name, kept in (("full", 24 * 64), ("mla", 24 * 12), ("window", 5 * 64)):
        model, cache = model_of(f"model.attention={name}"), Cache()
        with torch.no_grad():
            for at in range(24):
                model.logits(tokens(1, 24)[:, at : at + 1], cache)
        assert cache.bytes == 4 * 2 * kept  # fp32, two layers of width 32
        of_a_token = model.blocks[0].attention.cache_values()
        assert of_a_token * (5 if name == "window" else 24) == kept


def rule_inputs(channels, tokens=37, seed=0, least=-5.0):
    draws = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 3, tokens, 8, dtype=torch.float64, generator=draws) for _ in range(3))
    k = k / k.norm(dim=-1, keepdim=True)
    g = least * torch.rand(2, 3, tokens, 8 if channels else 1, dtype=torch.float64, generator=draws)
    beta = torch.rand(2, 3, tokens, dtype=torch.float64, generator=draws)
    state = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=draws)
    return q, k, v, g, beta, state


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 16, 17, 64])
def test_chunks_are_the_recurrence(channels, chunk):
    if channels and chunk > 17:
        pytest.skip("decays of a longer chunk leave fp32, and the plan refuses it")
    given = rule_inputs(channels)
    (o, state), (expected_o, expected_state) = chunked(*given, chunk, -5.0), recurrent(*given)
    torch.testing.assert_close(o, expected_o, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state, expected_state, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("channels", [False, True])
def test_chunks_in_fp32_stay_near_fp64_with_identical_keys_full_corrections_and_the_least_decay(channels):
    q, k, v, g, beta, state = rule_inputs(channels, 64)
    k = k[:, :, :1].expand_as(k)
    for decay in (-5.0, 0.0):
        given = (q, k, v, torch.full_like(g, decay), torch.ones_like(beta), state)
        exact, _ = recurrent(*given)
        found, _ = chunked(*(t.float() for t in given), 16, -5.0)
        assert float((found.double() - exact).norm() / exact.norm()) < 1e-5


@pytest.mark.parametrize("channels", [False, True])
def test_gradients_of_chunks_are_those_of_the_recurrence_and_finite(channels):
    given = [t.requires_grad_() for t in rule_inputs(channels, 21)]
    pair = []
    for o, _ in (chunked(*given, 8, -5.0), recurrent(*given)):
        pair.append(torch.autograd.grad(o.square().sum(), given))
    for found, expected in zip(*pair):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_the_short_convolution_is_torchs():
    x, tap = torch.randn(2, 9, 6), torch.randn(4, 6)
    expected = torch.nn.functional.conv1d(torch.nn.functional.pad(x.mT, (3, 0)), tap.T.unsqueeze(1), groups=6).mT
    torch.testing.assert_close(short_conv(x, tap), expected)
    torch.testing.assert_close(short_conv(x[:, 5:], tap, x[:, 2:5]), expected[:, 5:])


def test_a_window_is_full_attention_under_its_mask():
    banded, full = (model_of(f"model.attention={name}") for name in ("window", "full"))
    full.load_state_dict(banded.state_dict())
    token_BS, at = tokens(2, 29), torch.arange(29)
    visible = ((at[:, None] >= at) & (at[:, None] - at < 5)).expand(2, -1, -1)
    with torch.no_grad():
        expected = full.head.logits(full.trunk(Where(token_BS, visible_BSS=visible))[0])
        torch.testing.assert_close(banded.logits(token_BS), expected, rtol=1e-4, atol=1e-5)


def test_grouped_heads_are_full_attention_with_heads_repeated():
    grouped, full = model_of("attention.full.kv_heads=2", "model.heads=4"), model_of("model.heads=4")
    weights = grouped.state_dict()
    for name in weights:
        if name.endswith((".key", ".value")):
            weights[name] = weights[name].view(32, 2, 8).repeat_interleave(2, 1).reshape(32, 32)
    full.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(grouped.logits(tokens(2, 20)), full.logits(tokens(2, 20)), rtol=1e-5, atol=1e-6)


def test_the_absorbed_form_is_taken_for_a_token_alone(monkeypatch):
    model, cache, taken = model_of("model.attention=mla"), Cache(), []
    absorbed = Latent._absorbed
    monkeypatch.setattr(Latent, "_absorbed", lambda self, *rest: taken.append(1) or absorbed(self, *rest))
    with torch.no_grad():
        model.logits(tokens(1, 6), cache)
        assert not taken
        model.logits(tokens(1, 1), cache)
    assert len(taken) == 2  # layers


def test_within_documents_window_and_latent_attention_read_each_alone():
    for name in ("full", "mla", "window"):
        model, token_BS = model_of(f"model.attention={name}"), tokens(1, 24)
        document_BS = torch.tensor([[0] * 10 + [1] * 14])
        with torch.no_grad():
            packed = model.head.logits(model.trunk(Where(token_BS, document_BS=document_BS))[0])
            first, second = model.logits(token_BS[:, :10]), model.logits(token_BS[:, 10:])
        torch.testing.assert_close(packed[:, :10], first, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(packed[:, 10:], second, rtol=1e-4, atol=2e-5)  # rotary scores know distances alone


@EVERY
def test_every_dial_moves_bits(name):
    losses = {}
    for word in ("", *DIALS.get(name, ())):
        session = micro.session(f"model.attention={name}", *TINY[len(micro.MOE) :], *word.split())
        losses[word] = [float(session.step(index).loss) for index in range(6)]
    assert len({tuple(found) for found in losses.values()}) == len(losses), losses
    assert all(found[-1] < found[0] for found in losses.values())


def says(attention, model, name, x_BSD):
    """What a layer's attention, compiled or not, says of one row's streams."""
    where = Where(tokens(1, x_BSD.shape[1]))
    return attention(x_BSD, where._replace(shared=model.shared[name](where)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "kda"])
def test_a_dial_that_is_turned_is_turned_compiled_too(name):
    """Some published dials silently did nothing under compilation: attributes become constants. Two, and compiled as turned
    alone, since compiling takes seconds: as it was, each says what lies far beyond the bound."""
    torch._dynamo.reset()
    turned, plain = (model_of(f"model.attention={name}", *words) for words in (DIALS[name][:1], ()))
    x_BSD = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        eager, otherwise = (says(model.blocks[0].attention, model, name, x_BSD) for model in (turned, plain))
        found = says(torch.compile(turned.blocks[0].attention, fullgraph=True, dynamic=False), turned, name, x_BSD)
    torch.testing.assert_close(found, eager, rtol=2e-2, atol=2e-2)
    assert not torch.allclose(otherwise, eager, rtol=2e-1, atol=2e-1)


def test_a_pattern_gives_each_layer_its_attention_and_counts_it():
    model = model_of("model.attention_pattern=[kda,full]")
    assert [type(block.attention).__name__ for block in model.blocks] == ["KimiDelta", "Full"]
    plain, kda, both = (
        count_plan(planned(f"model.attention_pattern=[{a},{b}]"))
        for a, b in (("full", "full"), ("kda", "kda"), ("kda", "full"))
    )
    assert 2 * both.params_total == plain.params_total + kda.params_total
    assert 2 * both.flops_per_token == plain.flops_per_token + kda.flops_per_token


@pytest.mark.parametrize(
    "words, said",
    [
        (["model.attention_pattern=[full]"], "model.attention_pattern names 1 layers of 2: full"),
        (["model.attention_pattern=[full,ful]"], "model.attention_pattern='ful'"),
        (["attention.full.kv_heads=3"], "attention.full.kv_heads=3 does not divide model.heads=4"),
        (["attention.full.rotated=3"], "attention.full.rotated=3 of a head width of 8"),
        (["model.attention=mla", "attention.mla.rotary=8"], "attention.mla.rotary=8 of a head width of 8"),
        (["model.attention=window", "attention.window.tokens=32"], "the window sees everything"),
        (["model.attention=kda", "attention.kda.chunk=32"], "decays of a chunk reach e^-155"),
        (["model.attention=gated_delta", "attention.gated_delta.chunk=64"], "model.sequence_length=32"),
        (["model.attention=nsa", "attention.nsa.block=5"], "attention.nsa.block=5 does not divide"),
        (["model.attention=nsa", "attention.nsa.chosen=9"], "attention.nsa.chosen=9 blocks"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_type(words, said):
    with pytest.raises(UserError) as error:
        planned("model.heads=4", *words)
    assert said in error.value.problem and error.value.remedy


def test_at_their_defaults_the_dials_change_no_hash_and_lanes_freeze_them():
    plain = plan_hash(compose(["lane=tiny-moe-16e"]).plan)
    assert plan_hash(compose(["lane=tiny-moe-16e", "unranked=true", "attention.full.gain=1.0"]).plan) == plain
    with pytest.raises(UserError, match="attention.full.gain"):
        compose(["lane=tiny-moe-16e", "attention.full.gain=1.5"])


def test_without_positions_one_layer_sees_a_set_of_tokens_and_with_them_an_order():
    """The last token's logits after two earlier ones change places."""
    token = torch.tensor([[3, 7, 11, 5, 2]])
    swapped = token[:, [1, 0, 2, 3, 4]]
    for word, same in (("attention.full.positions=none", True), ("attention.full.positions=rotary", False)):
        model = model_of("model.layers=1", word)
        assert torch.allclose(model.logits(token)[0, -1], model.logits(swapped)[0, -1], rtol=0, atol=1e-5) == same


def test_rotating_a_part_of_nothing_is_refused():
    with pytest.raises(UserError, match="rotates nothing"):
        planned("attention.full.positions=none", "attention.full.rotated=4")
