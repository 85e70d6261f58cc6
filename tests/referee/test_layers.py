"""Whole attention layers against transformers', loaded with their weights: Qwen3's full attention and its window, Qwen3-Next's
gated DeltaNet, GLM-5-Next's KDA and Kimi Linear's. Outputs and the gradients of what goes in.

GLM-5-Next bounds the decay of a channel as `kda` does. Kimi Linear's own gate has no bound: -e^a softplus(x W_1 W_2 + step).
Their chunks of 64 divide by decays that may pass fp32, and have no gradient then: sequences here are too short for that.
"""

import pytest
import torch
from torch.nn.functional import softplus
from transformers.masking_utils import sliding_window_causal_mask_function
from transformers.models.glm5_next.configuration_glm5_next import Glm5NextTextConfig
from transformers.models.glm5_next.modeling_glm5_next import Glm5NextTextLinearAttention
from transformers.models.kimi_linear.configuration_kimi_linear import KimiLinearConfig
from transformers.models.kimi_linear.modeling_kimi_linear import KimiLinearDeltaAttention
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention
from transformers.models.qwen3_next.configuration_qwen3_next import Qwen3NextConfig
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

from harness.model.attention.full import Full
from harness.model.attention.gated_delta import GatedDelta
from harness.model.attention.kda import KimiDelta
from harness.model.attention.window import Window
from harness.model.where import Cache, Where
from harness.plan.parts.attention import full, gated_delta, kda, window
from harness.plan.schema import Model
from kernels import Arithmetic

WIDTH, HEADS, HEAD, LENGTH = 64, 4, 16, 45  # no multiple of a chunk
MODEL = Model(
    width=WIDTH, layers=1, heads=HEADS, sequence_length=64, vocab_size=256, activation="relu2", ffn_width=64, qk_norm=True
)
FULL = Arithmetic.of("full")


@torch.no_grad()
def drawn(theirs):
    """All of their weights, so that none is at a value that hides what it does."""
    draws = torch.Generator().manual_seed(0)
    for name, p in theirs.named_parameters():
        if name.endswith("norm.weight"):
            p.copy_(1 + 0.3 * torch.randn(p.shape, generator=draws))
        else:
            p.copy_(torch.randn(p.shape, generator=draws) * (0.5 if p.ndim == 1 or p.shape[-1] < HEAD else p.shape[-1] ** -0.5))
    return theirs.eval()


def take(ours, **weights):
    """`weights`: output first, as they have them."""
    missing = dict(ours.named_parameters()).keys() - weights.keys()
    assert not missing, missing
    with torch.no_grad():
        for name, w in weights.items():
            p = getattr(ours, name)
            p.copy_(w.T.reshape(p.shape) if w.ndim == 2 else w.reshape(p.shape))
    return ours


def assert_same(ours, theirs, length=LENGTH):
    """`ours` and `theirs` are functions of x_BSD."""
    x = torch.randn(2, length, WIDTH, generator=torch.Generator().manual_seed(1))
    found = []
    for layer in (ours, theirs):
        given = x.clone().requires_grad_()
        y = layer(given)
        found.append((y.detach(), torch.autograd.grad(y.square().sum(), given)[0]))
    for one, other in zip(*found):
        assert float((one - other).norm()) <= 1e-5 * float(other.norm())


def where(x_BSD):
    return Where(torch.zeros(x_BSD.shape[:2], dtype=torch.int64))


def assert_same_in_pieces(ours, theirs):
    x, cache = torch.randn(2, 20, WIDTH, generator=torch.Generator().manual_seed(2)), Cache()
    with torch.no_grad():
        found = [ours(piece, where(piece)._replace(cache=cache)) for piece in x.split((7, 1, 1, 11), 1)]
        torch.testing.assert_close(torch.cat(found, 1), theirs(x), rtol=1e-4, atol=1e-5)


def of_glm(theirs):
    return {
        "query": theirs.q_proj.weight, "key": theirs.k_proj.weight, "value": theirs.v_proj.weight,
        "output": theirs.o_proj.weight, "taps": theirs.conv1d.weight.squeeze(1), "beta": theirs.b_proj.weight,
        "decay_in": theirs.forget_gate.f_a_proj.weight, "decay_out": theirs.forget_gate.f_b_proj.weight,
        "rate": theirs.forget_gate.A_log.flatten(), "step": theirs.forget_gate.dt_bias, "gate_in": theirs.g_a_proj.weight,
        "gate_out": theirs.g_b_proj.weight, "head_norm": theirs.o_norm.weight,
    }  # fmt: skip


DELTA = {
    "hidden_size": WIDTH, "linear_head_dim": HEAD, "linear_num_heads": HEADS, "linear_conv_kernel_dim": 4, "hidden_act": "silu",
    "rms_norm_eps": 1e-6, "num_hidden_layers": 1, "layer_types": ["linear_attention"],
}  # fmt: skip


def glm(least=-5.0):
    config = Glm5NextTextConfig(**DELTA, linear_lower_bound=least, mlp_layer_types=["dense"])
    return drawn(Glm5NextTextLinearAttention(config, layer_idx=0))


@pytest.mark.parametrize("least, length", [(-5.0, 21), (-1.5, LENGTH)])
def test_kda_is_glms_linear_attention(least, length):
    theirs = glm(least)
    ours = take(KimiDelta(MODEL, kda.Keys(least=least), FULL), **of_glm(theirs))
    assert_same(lambda x: ours(x, where(x)), theirs, length)


def test_kda_in_pieces_is_glms_linear_attention():
    theirs = glm()
    assert_same_in_pieces(take(KimiDelta(MODEL, kda.Keys(), FULL), **of_glm(theirs)), theirs)


class Unbounded(KimiDelta):
    def decay(self, x_BSD):
        found = self._low_rank(x_BSD, self.decay_in, self.decay_out) + self.step
        return -self.rate.exp().unsqueeze(-1) * softplus(found.unflatten(-1, (self.heads, self.head)))


def test_kda_with_kimis_own_gate_is_kimis_layer():
    """Its decays are kept above `least` here, by a rate that is small."""
    theirs = drawn(KimiLinearDeltaAttention(KimiLinearConfig(**DELTA, mlp_layer_types=["dense"]), layer_idx=0))
    with torch.no_grad():
        theirs.forget_gate.A_log.sub_(0.7)
    ours = take(Unbounded(MODEL, kda.Keys(), FULL), **of_glm(theirs))
    with torch.no_grad():
        assert -5 < float(ours.decay(torch.randn(2, 21, WIDTH, generator=torch.Generator().manual_seed(1))).min()) < -2
    assert_same(lambda x: ours(x, where(x)), theirs, 21)


def qwen_next():
    config = Qwen3NextConfig(
        hidden_size=WIDTH, linear_num_value_heads=HEADS, linear_num_key_heads=HEADS, linear_key_head_dim=HEAD,
        linear_value_head_dim=HEAD, linear_conv_kernel_dim=4, hidden_act="silu", rms_norm_eps=1e-6, num_hidden_layers=1,
        layer_types=["linear_attention"], num_attention_heads=HEADS, num_key_value_heads=HEADS,
    )  # fmt: skip
    return drawn(Qwen3NextGatedDeltaNet(config, layer_idx=0))


def of_qwen_next(theirs):
    """They keep what a head needs together: queries, keys, values and gates; beta and decay."""
    query, key, value, gate = theirs.in_proj_qkvz.weight.view(HEADS, 4, HEAD, WIDTH).unbind(1)
    beta, decay = theirs.in_proj_ba.weight.view(HEADS, 2, WIDTH).unbind(1)
    return {
        "query": query.flatten(0, 1), "key": key.flatten(0, 1), "value": value.flatten(0, 1), "gate_in": gate.flatten(0, 1),
        "output": theirs.out_proj.weight, "taps": theirs.conv1d.weight.squeeze(1), "beta": beta, "decay_in": decay,
        "rate": theirs.A_log, "step": theirs.dt_bias, "head_norm": theirs.norm.weight,
    }  # fmt: skip


def test_the_gated_delta_layer_is_qwens():
    theirs = qwen_next()
    ours = take(GatedDelta(MODEL, gated_delta.Keys(), FULL), **of_qwen_next(theirs))
    assert_same(lambda x: ours(x, where(x)), theirs)
    assert_same_in_pieces(ours, theirs)


@pytest.mark.parametrize("kind", ["full", "grouped", "window"])
def test_attention_with_normed_heads_is_qwen3s(kind):
    """Its norms of heads have weights, which start as 1 and stay so here."""
    groups = 2 if kind == "grouped" else HEADS
    config = Qwen3Config(
        hidden_size=WIDTH, num_attention_heads=HEADS, num_key_value_heads=groups, head_dim=HEAD, num_hidden_layers=1,
        rms_norm_eps=1e-6, max_position_embeddings=64, attention_bias=False, attn_implementation="eager",
    )  # fmt: skip
    theirs = drawn(Qwen3Attention(config, layer_idx=0))
    with torch.no_grad():
        theirs.q_norm.weight.fill_(1.0)
        theirs.k_norm.weight.fill_(1.0)
    weights = {"query": theirs.q_proj, "key": theirs.k_proj, "value": theirs.v_proj, "output": theirs.o_proj}
    keys = window.Keys(tokens=7) if kind == "window" else full.Keys(kv_heads=groups % HEADS)
    part = Window if kind == "window" else Full
    ours = take(part(MODEL, keys, FULL), **{name: it.weight for name, it in weights.items()})
    placed = where(torch.empty(2, LENGTH))
    placed = placed._replace(shared=part.shared(MODEL, keys)(placed))
    cos, sin = (torch.cat((t[:LENGTH], t[:LENGTH]), -1).expand(2, -1, -1) for t in placed.shared[:2])
    at = torch.arange(LENGTH)
    seen = sliding_window_causal_mask_function(7 if kind == "window" else LENGTH)(0, 0, at[:, None], at)
    mask = torch.zeros(LENGTH, LENGTH).masked_fill(~seen, -torch.inf)
    assert_same(lambda x: ours(x, placed), lambda x: theirs(x, (cos, sin), mask[None, None])[0])
