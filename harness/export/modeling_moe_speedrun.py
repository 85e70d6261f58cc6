"""A language model trained by moe-speedrun, as its run computes it in fp32: pre-norm blocks of causal attention with rotary
positions and a feed-forward part that is dense or routed to experts.

This file needs torch and transformers alone. Parameters have the names and shapes of the run: y = x @ w. There is no cache:
`generate` reads everything anew for each token.

Letters: B batch, S sequence, T = B*S tokens, D width, V vocabulary, H heads, G heads of keys and values, A head width, F width
of a feed-forward part, E experts, K top-k.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, scaled_dot_product_attention, silu
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

EPS = 1e-6  # of every norm


class MoeSpeedrunConfig(PretrainedConfig):
    """`attention_pattern`: "full" or "window" of each layer; the dials of attention but `window` are of full layers. `rotated`:
    of a head's width. `moe_layers`: those with experts. `shared_width`: of the shared experts together."""

    model_type = "moe_speedrun"

    def __init__(
        self, vocab_size=256, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=256,
        rope_base=10000.0, norm_weight=False, embedding_gain=1.0, logits_gain=1.0, attention_pattern=("full",) * 4,
        qk_norm=True, num_key_value_heads=4, attention_gain=1.0, rotated=64, head_gate=False, window=0, activation="relu2",
        ffn_width=512, moe_layers=(), num_experts=0, expert_width=0, num_experts_per_tok=0, shared_width=0,
        router="sigmoid_topk", router_renormalize=True, expert_output_gain=1.0, **kwargs,
    ):  # fmt: skip
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.num_attention_heads, self.num_key_value_heads = num_attention_heads, num_key_value_heads
        self.max_position_embeddings, self.rope_base, self.norm_weight = max_position_embeddings, rope_base, norm_weight
        self.embedding_gain, self.logits_gain, self.expert_output_gain = embedding_gain, logits_gain, expert_output_gain
        self.attention_pattern, self.qk_norm, self.attention_gain = list(attention_pattern), qk_norm, attention_gain
        self.rotated, self.head_gate, self.window = rotated, head_gate, window
        self.activation, self.ffn_width, self.moe_layers = activation, ffn_width, list(moe_layers)
        self.num_experts, self.num_experts_per_tok = num_experts, num_experts_per_tok
        self.expert_width, self.shared_width = expert_width, shared_width
        self.router, self.router_renormalize = router, router_renormalize
        super().__init__(**kwargs)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape))


def product(x: Tensor, w: Tensor) -> Tensor:
    """In the dtype of the weights, accumulated and returned in fp32."""
    return (x.to(w.dtype) @ w).float()


def rms_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


def rotate(x_BSHA: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first parts of each head by these angles, (B or 1, S, rotated / 2) of a head's width; the rest stays."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    first, second, rest = x_BSHA.tensor_split((cos.shape[-1], 2 * cos.shape[-1]), -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), -1)


class Norm(nn.Module):
    def __init__(self, config: MoeSpeedrunConfig):
        super().__init__()
        self.weight = parameter(config.hidden_size) if config.norm_weight else None

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x) if self.weight is None else rms_norm(x) * self.weight


class Attention(nn.Module):
    def __init__(self, config: MoeSpeedrunConfig, layer: int):
        super().__init__()
        width, self.heads, self.qk_norm, self.rope_base = (
            config.hidden_size, config.num_attention_heads, config.qk_norm, config.rope_base,
        )  # fmt: skip
        full, head = config.attention_pattern[layer] == "full", width // self.heads
        served = head * config.num_key_value_heads if full else width
        self.gain, self.window = (config.attention_gain, 0) if full else (1.0, config.window)
        self.rotated = config.rotated if full else head
        self.query, self.key, self.value = parameter(width, width), parameter(width, served), parameter(width, served)
        self.output = parameter(width, width)
        self.gate = parameter(width, self.heads) if full and config.head_gate else None

    def forward(self, x_BSD: Tensor, position_BS: Tensor, visible_BSS: Tensor | None) -> Tensor:
        batch, length, width = x_BSD.shape
        q, k, v = (product(x_BSD, w).view(batch, length, -1, width // self.heads) for w in (self.query, self.key, self.value))
        if self.qk_norm:
            q, k = rms_norm(q), rms_norm(k)
        cos, sin = self.angles(position_BS)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.gain != 1.0:
            q = q * self.gain
        if k.shape[2] != self.heads:
            k, v = (t.repeat_interleave(self.heads // k.shape[2], 2) for t in (k, v))
        q, k, v = (t.to(self.value.dtype).transpose(1, 2) for t in (q, k, v))
        mask = self.mask(length, visible_BSS, q.device)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None).transpose(1, 2)
        if self.gate is not None:
            mixed = mixed * (2 * torch.sigmoid(x_BSD @ self.gate.float())).to(mixed.dtype).unsqueeze(-1)
        return product(mixed.reshape(batch, length, width), self.output)

    def angles(self, position_BS: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin of position x base^(-2i/rotated), fp32, computed in fp64."""
        frequency = self.rope_base ** (-torch.arange(0, self.rotated, 2, dtype=torch.float64) / self.rotated)
        angle = position_BS.cpu().double().unsqueeze(-1) * frequency
        return angle.cos().float().to(position_BS.device), angle.sin().float().to(position_BS.device)

    def mask(self, length: int, visible_BSS: Tensor | None, device: torch.device) -> Tensor | None:
        """None where a token sees itself and all before it."""
        if self.window and self.window < length:
            near_SS = torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - self.window)
            visible_BSS = near_SS[None] if visible_BSS is None else visible_BSS & near_SS
        return None if visible_BSS is None else visible_BSS.unsqueeze(1)


class Dense(nn.Module):
    def __init__(self, config: MoeSpeedrunConfig, width: int):
        super().__init__()
        self.activation = config.activation
        self.up = parameter(config.hidden_size, width * (2 if self.activation == "swiglu" else 1))
        self.down = parameter(width, config.hidden_size)

    def forward(self, x_TD: Tensor, token_T: Tensor) -> Tensor:
        return product(activate(product(x_TD, self.up), self.activation), self.down)


def activate(h: Tensor, activation: str) -> Tensor:
    if activation == "relu2":
        return torch.relu(h).square()
    gate, value = h.chunk(2, dim=-1)
    return silu(gate) * value


class Router(nn.Module):
    """The ids of K experts of each token, and their weights. Ties go to the lower id."""

    def __init__(self, config: MoeSpeedrunConfig):
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

    def __init__(self, config: MoeSpeedrunConfig):
        super().__init__()
        self.activation, self.gain, width = config.activation, config.expert_output_gain, config.expert_width
        self.router = Router(config)
        self.up = parameter(config.num_experts, config.hidden_size, width * (2 if self.activation == "swiglu" else 1))
        self.down = parameter(config.num_experts, width, config.hidden_size)
        self.shared = Dense(config, config.shared_width) if config.shared_width else None

    def forward(self, x_TD: Tensor, token_T: Tensor) -> Tensor:
        expert_TK, weight_TK = self.router(x_TD, token_T)
        y_TKD = x_TD.new_zeros(*expert_TK.shape, x_TD.shape[1])
        for expert in expert_TK.unique().tolist():
            token_R, slot_R = torch.where(expert_TK == expert)
            a_RF = activate(product(x_TD[token_R], self.up[expert]), self.activation)
            y_TKD[token_R, slot_R] = product(a_RF * weight_TK[token_R, slot_R, None], self.down[expert])
        y_TD = y_TKD.sum(1) * self.gain
        return y_TD if self.shared is None else y_TD + self.shared(x_TD, token_T)


class Block(nn.Module):
    def __init__(self, config: MoeSpeedrunConfig, layer: int):
        super().__init__()
        self.attention_norm, self.feedforward_norm = Norm(config), Norm(config)
        self.attention = Attention(config, layer)
        self.feedforward = Experts(config) if layer in config.moe_layers else Dense(config, config.ffn_width)

    def forward(self, x_BSD: Tensor, token_BS: Tensor, position_BS: Tensor, visible_BSS: Tensor | None) -> Tensor:
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), position_BS, visible_BSS)
        y_TD = self.feedforward(self.feedforward_norm(x_BSD).flatten(0, 1), token_BS.flatten())
        return x_BSD + y_TD.view_as(x_BSD)


class Head(nn.Module):
    def __init__(self, config: MoeSpeedrunConfig):
        super().__init__()
        self.norm, self.gain = Norm(config), config.logits_gain
        self.weight = parameter(config.hidden_size, config.vocab_size)

    def forward(self, x_BSD: Tensor) -> Tensor:
        return product(self.norm(x_BSD), self.weight) * self.gain


class MoeSpeedrunForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = MoeSpeedrunConfig
    _supports_sdpa = True

    def __init__(self, config: MoeSpeedrunConfig):
        super().__init__(config)
        self.gain = config.embedding_gain
        self.embedding = parameter(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.head = Head(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Weights come from the run."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None,
        labels: Tensor | None = None, logits_to_keep: int = 0, return_dict: bool | None = None, **_,
    ):  # fmt: skip
        """Logits in fp32. `attention_mask` (B, S): 0 where a token is padding, which no other token sees."""
        visible_BSS, length = None, input_ids.shape[1]
        if attention_mask is not None and not attention_mask.all():
            causal_SS = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()
            visible_BSS = causal_SS & attention_mask.bool()[:, None] | torch.eye(length, device=input_ids.device).bool()
        if position_ids is None:
            position_ids = torch.arange(length, device=input_ids.device)[None]
        x_BSD = embedding(input_ids, self.embedding).float() * self.gain
        for block in self.blocks:
            x_BSD = block(x_BSD, input_ids, position_ids, visible_BSS)
        logits = self.head(x_BSD[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        found = CausalLMOutput(loss=loss, logits=logits)
        return found if return_dict in (None, True) else found.to_tuple()

    def prepare_inputs_for_generation(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_):
        position_ids = None if attention_mask is None else (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        return {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
