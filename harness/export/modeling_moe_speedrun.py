"""A language model trained by moe-speedrun, as its run computes it in fp32: pre-norm blocks of causal attention and a
feed-forward part that is dense or routed to experts; memories of a few tokens, and the residual scheme, where the run had them.

These files need torch and transformers alone. Parameters have the names and shapes of the run: y = x @ w. There is no cache:
`generate` reads everything anew for each token.

Letters: B batch, S sequence, D width, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .layers_moe_speedrun import Attention, Dense, Experts, Latent, Norm, Where, parameter, product
from .memory_moe_speedrun import MEMORIES, InBlock
from .residual_moe_speedrun import SCHEMES


class MoeSpeedrunConfig(PretrainedConfig):
    """`attention_pattern`: "full", "window" or "mla" of each layer; the dials of attention but `window` and `mla` are of full
    layers. `rotated`: of a head's width. `moe_layers`: those with experts. `shared_width`: of the shared experts together.
    `memories`: the keys of each, its name among them, in the order in which they act; `residual` likewise."""

    model_type = "moe_speedrun"

    def __init__(
        self, vocab_size=256, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=256,
        rope_base=10000.0, norm_weight=False, embedding_gain=1.0, logits_gain=1.0, softcap=0.0, attention_pattern=("full",) * 4,
        qk_norm=True, num_key_value_heads=4, attention_gain=1.0, rotated=64, key_offset=False, head_gate=False, window=0,
        mla=None, memories=(), residual=None, activation="relu2", ffn_width=512, moe_layers=(), num_experts=0, expert_width=0,
        num_experts_per_tok=0, shared_width=0, router="sigmoid_topk", router_renormalize=True, expert_output_gain=1.0, **kwargs,
    ):  # fmt: skip
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.num_attention_heads, self.num_key_value_heads = num_attention_heads, num_key_value_heads
        self.max_position_embeddings, self.rope_base, self.norm_weight = max_position_embeddings, rope_base, norm_weight
        self.embedding_gain, self.logits_gain, self.expert_output_gain = embedding_gain, logits_gain, expert_output_gain
        self.attention_pattern, self.qk_norm, self.attention_gain = list(attention_pattern), qk_norm, attention_gain
        self.rotated, self.key_offset, self.head_gate, self.window, self.mla = rotated, key_offset, head_gate, window, mla
        self.softcap, self.memories, self.residual = softcap, list(memories), residual or {"name": "plain"}
        self.activation, self.ffn_width, self.moe_layers = activation, ffn_width, list(moe_layers)
        self.num_experts, self.num_experts_per_tok = num_experts, num_experts_per_tok
        self.expert_width, self.shared_width = expert_width, shared_width
        self.router, self.router_renormalize = router, router_renormalize
        super().__init__(**kwargs)


class Block(nn.Module):
    def __init__(self, config: MoeSpeedrunConfig, layer: int, memories: nn.ModuleDict):
        super().__init__()
        self.attention_norm, self.feedforward_norm = Norm(config), Norm(config)
        self.attention = Latent(config) if config.attention_pattern[layer] == "mla" else Attention(config, layer)
        self.feedforward = Experts(config) if layer in config.moe_layers else Dense(config, config.ffn_width)
        scheme = SCHEMES[config.residual["name"]]
        self.around_attention, self.around_feedforward = scheme(config), scheme(config)
        made = {name: memory.in_block(layer, self.attention, self.feedforward) for name, memory in memories.items()}
        self.memories = nn.ModuleDict({name: in_block for name, in_block in made.items() if in_block is not None})

    def forward(self, stream, where: Where, found: dict[str, Tensor | None]):
        """The residual stream after it. `found`: what the tables of each memory have for it."""
        memories: list[tuple[InBlock, Tensor | None]] = [(memory, found[name]) for name, memory in self.memories.items()]
        for memory, its in memories:
            if (said_BSD := memory.says(self.around_attention.leave(stream), its, where)) is not None:
                stream = self.around_attention.add(stream, said_BSD)
        x_BSD, noted = self.around_attention.read(stream)
        x_BSD = self.attention_norm(x_BSD)
        for memory, _ in memories:
            x_BSD = memory.attention_input(x_BSD, where)
        stream = self.around_attention.write(stream, noted, self.attention(x_BSD, where, memories))
        x_BSD, noted = self.around_feedforward.read(stream)
        x_BSD = self.feedforward_norm(x_BSD)
        for memory, _ in memories:
            x_BSD = memory.feedforward_input(x_BSD, where)
        return self.around_feedforward.write(stream, noted, self.feedforward(x_BSD, where, memories))


class Head(nn.Module):
    def __init__(self, config: MoeSpeedrunConfig):
        super().__init__()
        self.norm, self.gain, self.softcap = Norm(config), config.logits_gain, config.softcap
        self.weight = parameter(config.hidden_size, config.vocab_size)

    def forward(self, x_BSD: Tensor) -> Tensor:
        logits = product(self.norm(x_BSD), self.weight) * self.gain
        return self.softcap * torch.tanh(logits / self.softcap) if self.softcap else logits


class MoeSpeedrunForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = MoeSpeedrunConfig
    _supports_sdpa = True

    def __init__(self, config: MoeSpeedrunConfig):
        super().__init__(config)
        self.gain = config.embedding_gain
        self.embedding = parameter(config.vocab_size, config.hidden_size)
        self.memories = nn.ModuleDict({keys["name"]: MEMORIES[keys["name"]](config, keys) for keys in config.memories})
        self.blocks = nn.ModuleList(Block(config, layer, self.memories) for layer in range(config.num_hidden_layers))
        self.head = Head(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Weights come from the run."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None,
        labels: Tensor | None = None, logits_to_keep: int = 0, return_dict: bool | None = None, **_,
    ):  # fmt: skip
        """Logits in fp32. `attention_mask` (B, S): 0 where a token is padding, which no other token sees."""
        visible_BSS, there_BS, length = None, None, input_ids.shape[1]
        if attention_mask is not None and not attention_mask.all():
            there_BS = attention_mask.bool()
            causal_SS = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()
            visible_BSS = causal_SS & there_BS[:, None] | torch.eye(length, device=input_ids.device).bool()
        if position_ids is None:
            position_ids = torch.arange(length, device=input_ids.device)[None]
        where = Where(input_ids, position_ids, visible_BSS, there_BS)
        logits = self.head(self.trunk(where)[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        found = CausalLMOutput(loss=loss, logits=logits)
        return found if return_dict in (None, True) else found.to_tuple()

    def trunk(self, where: Where) -> Tensor:
        """What the head reads, fp32 (B, S, D)."""
        x_BSD, tables = embedding(where.token_BS, self.embedding).float() * self.gain, {}
        for name, memory in self.memories.items():
            x_BSD, tables[name] = memory(x_BSD, where)
        scheme = self.blocks[0].around_attention
        stream = scheme.enter(x_BSD)
        for layer, block in enumerate(self.blocks):
            stream = block(stream, where, {name: by_layer.get(layer) for name, by_layer in tables.items()})
        return scheme.leave(stream)

    def prepare_inputs_for_generation(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_):
        position_ids = None if attention_mask is None else (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        return {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
