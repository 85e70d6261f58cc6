"""Attentions against transformers: DeepSeek-V3's latent attention, the delta rules of Qwen3-Next and Kimi Linear.

Not in one environment with flash-linear-attention, whose kernels transformers would call.
"""

import torch
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention
from transformers.models.kimi_linear import modeling_kimi_linear as kimi
from transformers.models.qwen3_next import modeling_qwen3_next as qwen

from harness.model.attention.mla import Latent
from harness.model.delta_rule import chunked, recurrent
from harness.model.where import Where
from harness.plan.parts.attention.mla import Keys
from harness.plan.schema import Model
from kernels import Arithmetic


def inputs(tokens=37, channels=False):
    draws = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, tokens, 16, generator=draws) for _ in range(3))
    k, q = k / k.norm(dim=-1, keepdim=True), q / q.norm(dim=-1, keepdim=True)
    g = -5 * torch.rand(2, 3, tokens, 16 if channels else 1, generator=draws)
    return q, k, v, g, torch.rand(2, 3, tokens, generator=draws), torch.zeros(2, 3, 16, 16)


def assert_same_rule(given, theirs):
    q, k, v, g, beta, state = given
    for rule in (lambda *words: chunked(*words, 16, -5.0), recurrent):
        o, last = rule(q * 16**-0.5, k, v, g, beta, state)
        for their_o, their_last in theirs:
            torch.testing.assert_close(o.transpose(1, 2), their_o, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(last, their_last, rtol=1e-4, atol=1e-5)


def test_the_delta_rule_of_heads_is_qwens_by_chunks_and_token_by_token():
    q, k, v, g, beta, state = given = inputs()
    by_token = tuple(t.transpose(1, 2) for t in (q, k, v, g.squeeze(-1), beta))
    by_chunks = qwen.torch_chunk_gated_delta_rule(*by_token, chunk_size=16, output_final_state=True)
    one_by_one = qwen.torch_recurrent_gated_delta_rule(*by_token, initial_state=state, output_final_state=True)
    assert_same_rule(given, (by_chunks, one_by_one))


def test_the_delta_rule_of_channels_is_kimis_token_by_token():
    q, k, v, g, beta, state = given = inputs(channels=True)
    by_token = tuple(t.transpose(1, 2) for t in (q, k, v, g, beta))
    assert_same_rule(given, (kimi.recurrent_kimi_delta_attention(*by_token, state, True),))


def test_latent_attention_is_deepseeks():
    heads, head, rotary, rank, width, length = 4, 16, 8, 12, 64, 21
    config = DeepseekV3Config(
        hidden_size=width, num_attention_heads=heads, num_key_value_heads=heads, q_lora_rank=None, kv_lora_rank=rank,
        qk_rope_head_dim=rotary, qk_nope_head_dim=head - rotary, v_head_dim=head, rope_interleave=False, attention_bias=False,
        num_hidden_layers=1, rms_norm_eps=1e-6, max_position_embeddings=64, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = DeepseekV3Attention(config, layer_idx=0).eval()
    model = Model(
        width=width, layers=1, heads=heads, sequence_length=64, vocab_size=256, activation="relu2", ffn_width=64, qk_norm=False
    )
    ours = Latent(model, Keys(rank=rank, rotary=rotary), Arithmetic.of("full"))
    where = Where(torch.zeros(2, length, dtype=torch.int64))
    where = where._replace(shared=Latent.shared(model, Keys(rank=rank, rotary=rotary))(where))
    with torch.no_grad():
        ours.query.copy_(theirs.q_proj.weight.T)
        ours.down.copy_(theirs.kv_a_proj_with_mqa.weight.T)
        up = theirs.kv_b_proj.weight.T.view(rank, heads, -1)
        ours.key_up.copy_(up[..., : head - rotary].reshape(rank, -1))
        ours.value_up.copy_(up[..., head - rotary :].reshape(rank, -1))
        ours.output.copy_(theirs.o_proj.weight.T)
        x_BSD = torch.randn(2, length, width)
        cos, sin = (torch.cat((t[:length], t[:length]), -1).expand(2, -1, -1) for t in where.shared[:2])
        later = torch.full((length, length), -torch.inf).triu(1)[None, None]
        expected = theirs(x_BSD, position_embeddings=(cos, sin), attention_mask=later)[0]
        torch.testing.assert_close(ours(x_BSD, where), expected, rtol=1e-4, atol=1e-5)
