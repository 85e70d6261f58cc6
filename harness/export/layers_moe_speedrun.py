"""The layers of a language model trained by moe-speedrun: norm, attentions, feed-forward parts; and what all files share.

Letters: B batch, S sequence, T = B*S tokens, D width, H heads, G heads of keys and values, A head width, N of it without
positions, R of it rotated, C rank, F width of a feed-forward part, E experts, K top-k.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu
from transformers import PretrainedConfig

EPS = 1e-6  # of every norm


class Where(NamedTuple):
    """Where the tokens of a forward pass are. `visible_BSS`: what each looks at; None: itself and all before it. `there_BS`:
    False of padding; None: there is none."""

    token_BS: Tensor
    position_BS: Tensor
    visible_BSS: Tensor | None
    there_BS: Tensor | None


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape))


def product(x: Tensor, w: Tensor) -> Tensor:
    """In the dtype of the weights, accumulated and returned in fp32."""
    return (x.to(w.dtype) @ w).float()


def rms_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


def before(x: Tensor, back: int, where: Where, absent: int = 0) -> Tensor:
    """(B, S, ...): what `x` is `back` tokens before; `absent` where the row has no such token, or it is padding."""
    moved = torch.full_like(x, absent)
    moved[:, back:] = x[:, : max(x.shape[1] - back, 0)]
    if where.there_BS is not None:
        padding_BS = ~before(where.there_BS, back, where._replace(there_BS=None))
        moved = moved.masked_fill(padding_BS.view(*padding_BS.shape, *[1] * (x.ndim - 2)), absent)
    return moved


class Norm(nn.Module):
    def __init__(self, config: PretrainedConfig):
        super().__init__()
        self.weight = parameter(config.hidden_size) if config.norm_weight else None

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x) if self.weight is None else rms_norm(x) * self.weight


def angles(position_BS: Tensor, rotated: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of position x base^(-2i/rotated), fp32, computed in fp64."""
    frequency = base ** (-torch.arange(0, rotated, 2, dtype=torch.float64) / rotated)
    angle = position_BS.cpu().double().unsqueeze(-1) * frequency
    return angle.cos().float().to(position_BS.device), angle.sin().float().to(position_BS.device)


def rotate(x_BSHA: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first parts of each head by these angles, (B or 1, S, rotated / 2) of a head's width; the rest stays."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    first, second, rest = x_BSHA.tensor_split((cos.shape[-1], 2 * cos.shape[-1]), -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), -1)


def attend(q_BSHA: Tensor, k_BSGA: Tensor, v_BSGA: Tensor, where: Where, dtype: torch.dtype, window: int = 0) -> Tensor:
    """o_BSHA, computed in `dtype`; H is a multiple of G, whose heads serve as many queries in turn. `window`: how many tokens
    each sees, itself among them; 0: all before it."""
    length, heads = q_BSHA.shape[1:3]
    if k_BSGA.shape[2] != heads:
        k_BSGA, v_BSGA = (t.repeat_interleave(heads // k_BSGA.shape[2], 2) for t in (k_BSGA, v_BSGA))
    visible_BSS = where.visible_BSS
    if 0 < window < length:
        near_SS = torch.ones(length, length, dtype=torch.bool, device=q_BSHA.device).tril().triu(1 - window)
        visible_BSS = near_SS[None] if visible_BSS is None else visible_BSS & near_SS
    mask = None if visible_BSS is None else visible_BSS.unsqueeze(1)
    q, k, v = (t.to(dtype).transpose(1, 2) for t in (q_BSHA, k_BSGA, v_BSGA))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None).transpose(1, 2)


class Attention(nn.Module):
    """Full or window attention. `memories` act on queries, keys and values before these are normed."""

    def __init__(self, config: PretrainedConfig, layer: int):
        super().__init__()
        width, self.heads, self.qk_norm = config.hidden_size, config.num_attention_heads, config.qk_norm
        full, head = config.attention_pattern[layer] == "full", width // self.heads
        served = head * config.num_key_value_heads if full else width
        self.gain, self.window = (config.attention_gain, 0) if full else (1.0, config.window)
        self.rotated, self.rope_base = config.rotated if full else head, config.rope_base
        self.offset = (head - self.rotated) // 2 if full and config.key_offset else 0
        self.query, self.key, self.value = parameter(width, width), parameter(width, served), parameter(width, served)
        self.output = parameter(width, width)
        self.gate = parameter(width, self.heads) if full and config.head_gate else None

    def forward(self, x_BSD: Tensor, where: Where, memories: list) -> Tensor:
        batch, length, width = x_BSD.shape
        q, k, v = (product(x_BSD, w).view(batch, length, -1, width // self.heads) for w in (self.query, self.key, self.value))
        for memory, found in memories:
            q, k, v = memory.heads(q, k, v, x_BSD, found, where)
        if self.qk_norm:
            q, k = rms_norm(q), rms_norm(k)
        cos, sin = angles(where.position_BS, self.rotated, self.rope_base)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.offset:  # the last channels of each key are those of the token before
            own, moved = k.split((k.shape[-1] - self.offset, self.offset), -1)
            k = torch.cat((own, before(moved, 1, where)), -1)
        if self.gain != 1.0:
            q = q * self.gain
        mixed = attend(q, k, v, where, self.value.dtype, self.window)
        if self.gate is not None:
            mixed = mixed * (2 * torch.sigmoid(x_BSD @ self.gate.float())).to(mixed.dtype).unsqueeze(-1)
        return product(mixed.reshape(batch, length, width), self.output)


class Latent(nn.Module):
    """Multi-head latent attention (DeepSeek-V2): keys and values of all heads are made of one normed vector a token, and each
    key ends with one rotated part that heads share. No memory reaches its heads."""

    def __init__(self, config: PretrainedConfig):
        super().__init__()
        width, self.heads, self.rope_base = config.hidden_size, config.num_attention_heads, config.rope_base
        self.rank, self.rotary, self.head = config.mla["rank"], config.mla["rotary"], width // self.heads
        self.query, self.down = parameter(width, width), parameter(width, self.rank + self.rotary)
        self.key_up = parameter(self.rank, self.heads * (self.head - self.rotary))
        self.value_up, self.output = parameter(self.rank, width), parameter(width, width)

    def forward(self, x_BSD: Tensor, where: Where, memories: list) -> Tensor:
        batch, length, width = x_BSD.shape
        cos, sin = angles(where.position_BS, self.rotary, self.rope_base)
        q_BSHA = product(x_BSD, self.query).view(batch, length, self.heads, self.head)
        q_n, q_r = q_BSHA.split((self.head - self.rotary, self.rotary), -1)
        c_BSC, k_r = product(x_BSD, self.down).split((self.rank, self.rotary), -1)
        c_BSC, k_BS1R = rms_norm(c_BSC), rotate(k_r.unsqueeze(2), cos, sin)
        k_n = product(c_BSC, self.key_up).view(batch, length, self.heads, -1)
        q, k = torch.cat((q_n, rotate(q_r, cos, sin)), -1), torch.cat((k_n, k_BS1R.expand(-1, -1, self.heads, -1)), -1)
        v = product(c_BSC, self.value_up).view(batch, length, self.heads, self.head)
        return product(attend(q, k, v, where, self.query.dtype).reshape(batch, length, width), self.output)


def activate(h: Tensor, activation: str) -> Tensor:
    if activation == "relu2":
        return torch.relu(h).square()
    gate, value = h.chunk(2, dim=-1)
    return silu(gate) * value


class Dense(nn.Module):
    """`memories` act on what it is before its activation."""

    def __init__(self, config: PretrainedConfig, width: int):
        super().__init__()
        self.activation = config.activation
        self.up = parameter(config.hidden_size, width * (2 if self.activation == "swiglu" else 1))
        self.down = parameter(width, config.hidden_size)

    def forward(self, x_BSD: Tensor, where: Where, memories: list) -> Tensor:
        h_BSF = product(x_BSD, self.up)
        for memory, _ in memories:
            h_BSF = memory.hidden(h_BSF, where)
        return product(activate(h_BSF, self.activation), self.down)


class Router(nn.Module):
    """The ids of K experts of each token, and their weights. Ties go to the lower id."""

    def __init__(self, config: PretrainedConfig):
        super().__init__()
        self.kind, self.top_k, self.renormalize = config.router, config.num_experts_per_tok, config.router_renormalize
        if self.kind == "hash":
            self.register_buffer("table_VK", torch.zeros(config.vocab_size, self.top_k, dtype=torch.int64))
            return
        self.weight = parameter(config.hidden_size, config.num_experts)
        if self.kind == "sigmoid_topk":
            self.register_buffer("bias", torch.zeros(config.num_experts))

    def forward(self, x_TD: Tensor, token_T: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "hash":
            expert_TK = self.table_VK[token_T]
            return expert_TK, torch.full(expert_TK.shape, 1.0 / self.top_k, device=x_TD.device)
        logit_TE = x_TD @ self.weight.float()
        score_TE = torch.sigmoid(logit_TE) if self.kind == "sigmoid_topk" else torch.softmax(logit_TE, 1)
        selection_TE = score_TE + self.bias.float() if self.kind == "sigmoid_topk" else score_TE
        expert_TK = selection_TE.sort(stable=True, dim=1, descending=True).indices[:, : self.top_k]
        weight_TK = score_TE.gather(1, expert_TK)
        if self.renormalize:
            weight_TK = weight_TK / (weight_TK.sum(1, keepdim=True) + 1e-20)
        return expert_TK, weight_TK


class Experts(nn.Module):
    """Routed experts, and shared ones beside them."""

    def __init__(self, config: PretrainedConfig):
        super().__init__()
        self.activation, self.gain, width = config.activation, config.expert_output_gain, config.expert_width
        self.router = Router(config)
        self.up = parameter(config.num_experts, config.hidden_size, width * (2 if self.activation == "swiglu" else 1))
        self.down = parameter(config.num_experts, width, config.hidden_size)
        self.shared = Dense(config, config.shared_width) if config.shared_width else None

    def forward(self, x_BSD: Tensor, where: Where, memories: list) -> Tensor:
        x_TD = x_BSD.flatten(0, 1)
        expert_TK, weight_TK = self.router(x_TD, where.token_BS.flatten())
        y_TKD = x_TD.new_zeros(*expert_TK.shape, x_TD.shape[1])
        for expert in expert_TK.unique().tolist():
            token_R, slot_R = torch.where(expert_TK == expert)
            a_RF = activate(product(x_TD[token_R], self.up[expert]), self.activation)
            y_TKD[token_R, slot_R] = product(a_RF * weight_TK[token_R, slot_R, None], self.down[expert])
        y_BSD = y_TKD.sum(1).view_as(x_BSD) * self.gain
        return y_BSD if self.shared is None else y_BSD + self.shared(x_BSD, where, memories)
