"""The decoder: embedding, pre-norm blocks of attention and feed-forward, norm, head.

Letters: B batch, S sequence, T = B*S tokens, D width, V vocabulary, L MoE layers, E experts. The residual stream is fp32;
products take their operands in the arithmetic's dtype. Forward is pure: routing counts and the terms of auxiliary losses come
back as values, never as changed state, so they are right under gradient accumulation and activation checkpointing.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, log_softmax, nll_loss
from torch.utils.checkpoint import checkpoint

from harness.errors import UserError
from harness.model.attention import Attention
from harness.model.feedforward import Dense, Experts, Routed
from harness.model.memory import InBlock, Memory
from harness.model.norm import Norm
from harness.model.part import Own, Part
from harness.model.precision import Precisions
from harness.model.product import product
from harness.model.residual import Residual
from harness.model.transport import Transport
from harness.model.where import Cache, Where
from harness.plan import parts
from harness.plan.schema import Gains, Model, Parallel, Plan
from harness.ranks import ALONE, Ranks
from harness.targets import IGNORED
from kernels import Arithmetic

# fp32 logits that exist at a time, by kind of device: 512 MiB on a CPU, with their gradient twice that. A GPU's memory holds
# the 6.6 GB of 32,768 tokens x 50,304, and in chunks it would compute each logit twice, in a graph of 13 heads.
LOGITS_AT_ONCE = {"cpu": 1 << 27, "cuda": 1 << 31}


class Output(NamedTuple):
    nats_BS: Tensor  # fp32 cross-entropy of each target, 0 of what is IGNORED
    count_LE: Tensor  # int64 rows routed to each expert, MoE layers only
    margin_L: Tensor  # fp32 mean gap between the k-th and (k+1)-th selection score
    dropped_LE: Tensor  # int64 rows beyond each expert's capacity; (0, 0) without a capacity
    ahead_K: Tensor  # fp32 sums of the nats of targets further ahead: see harness/model/ahead.py; (0) without any
    peak_LH: Tensor  # fp32 largest scores of heads, of all layers, where they are clipped; (0, 0) where they are not
    terms: dict[str, Tensor]  # by auxiliary loss that is on, of all MoE layers: see harness/model/auxiliary.py


class Block(nn.Module):
    def __init__(
        self, model: Model, attention: Attention, feedforward: nn.Module, around: tuple[Residual, Residual],
        memories: dict[str, InBlock],
    ):  # fmt: skip
        super().__init__()
        self.attention_norm = Norm(model.width, model.norm_weight)
        self.attention = attention
        self.feedforward_norm = Norm(model.width, model.norm_weight)
        self.feedforward = feedforward
        self.around_attention, self.around_feedforward = around
        self.memories = nn.ModuleDict(memories)
        attention.memories = tuple(memories.values())
        if (dense := feedforward if isinstance(feedforward, Dense) else feedforward.shared) is not None:
            dense.memories = attention.memories

    def forward(self, stream: Any, where: Where) -> tuple[Any, Routed | None, Tensor | None]:
        """Returns the new residual stream, of a MoE block what its routing was, and where scores are clipped their peaks."""
        memories = self.memories.values()
        for memory in memories:
            if (said_BSD := memory.says(self.around_attention.leave(stream), where)) is not None:
                stream = self.around_attention.add(stream, said_BSD)
        x_BSD, noted = self.around_attention.read(stream)
        x_BSD = self.attention_norm(x_BSD)
        for memory in memories:
            x_BSD = memory.attention_input(x_BSD, where)
        peak_H = None
        if self.attention.clipped and torch.is_grad_enabled():  # in training alone
            with torch.no_grad():
                peak_H = self.attention.peaks(x_BSD, where)
        stream = self.around_attention.write(stream, noted, self.attention(x_BSD, where))
        x_BSD, noted = self.around_feedforward.read(stream)
        x_BSD = self.feedforward_norm(x_BSD)
        for memory in memories:
            x_BSD = memory.feedforward_input(x_BSD, where)
        y_TD, routed = self.feedforward(x_BSD.flatten(0, 1), where)
        return self.around_feedforward.write(stream, noted, y_TD.view_as(x_BSD)), routed, peak_H


class Head(Part):
    """Final norm, logits and their cross-entropy. It starts at zero: the first loss is ln V."""

    OWN = {"weight": Own("head", "zero")}

    def __init__(self, model: Model, arithmetic: Arithmetic, gains: Gains):
        super().__init__()
        self.arithmetic, self.gain, self.softcap = arithmetic, gains.logits, gains.softcap
        self.norm = Norm(model.width, model.norm_weight)
        self.weight = nn.Parameter(torch.empty(model.width, model.vocab_size))

    def logits(self, x_BSD: Tensor) -> Tensor:
        logits = product(self.norm(x_BSD), self.weight, self.arithmetic).float()
        logits = logits if self.gain == 1.0 else logits * self.gain
        return logits if self.softcap == 0.0 else self.softcap * torch.tanh(logits / self.softcap)

    def forward(self, x_BSD: Tensor, target_BS: Tensor) -> Tensor:
        """The nats of each target, of which a token has one (B, S) or several (K, B, S); 0 of a target that is IGNORED. Above
        LOGITS_AT_ONCE the tokens go in chunks, and the backward computes each chunk's logits again."""
        chunk = max(1, LOGITS_AT_ONCE[x_BSD.device.type] // self.weight.shape[1])
        x_TD, target_T = x_BSD.flatten(0, 1), target_BS.flatten(-2)
        if len(x_TD) <= chunk:
            return self._nats(x_TD, target_T).view_as(target_BS)
        parts = zip(x_TD.split(chunk), target_T.split(chunk, -1))
        nats = [checkpoint(self._nats, *part, use_reentrant=False) for part in parts]
        return torch.cat(nats, -1).view_as(target_BS)

    def _nats(self, x_TD: Tensor, target_T: Tensor) -> Tensor:
        if target_T.ndim == 1:
            return cross_entropy(self.logits(x_TD), target_T, reduction="none", ignore_index=IGNORED)
        share_TV = log_softmax(self.logits(x_TD), -1)  # of all K targets, as cross_entropy takes it of one
        return torch.stack([nll_loss(share_TV, one_T, reduction="none", ignore_index=IGNORED) for one_T in target_T])


class Transformer(Part):
    OWN = {"embedding": Own("embedding", "embedding")}

    def __init__(
        self, model: Model, precision: Precisions | Arithmetic, backend: str, activation_checkpointing: bool = False,
        debug: bool = False, gains: Gains | None = None, auxiliary: tuple[str, ...] = (), plan: Plan | None = None,
        attention_backend: str = "torch", ranks: Ranks = ALONE,
    ):  # fmt: skip
        """`precision`: an arithmetic alone quantizes nothing. `auxiliary`: the losses of `harness.model.auxiliary.TERMS` whose
        terms the output carries. `plan`: where parts with keys of their own find them. `ranks`: those that the experts are
        spread over; alone it has all of them."""
        super().__init__()
        p = Precisions(precision) if isinstance(precision, Arithmetic) else precision
        self.gains = gains or Gains()
        self.shape, self.activation_checkpointing = model, activation_checkpointing
        chosen = _Chosen(model, plan, ranks)
        self.residual, self.residual_keys = chosen.classes["residual"], chosen.keys["residual"]
        self.embedding = nn.Parameter(torch.empty(model.vocab_size, model.width))
        self.memories = nn.ModuleDict({name: chosen.memory(name) for name in model.memories})
        self.blocks = nn.ModuleList()
        for layer, name in enumerate(model.attentions):
            if layer in model.moe_layers:
                feedforward: nn.Module = Experts(
                    model, chosen.make("router"), chosen.transport(), p.of_layer(layer, routed=True),
                    p.of_layer(layer, routed=False), layer, backend, self.gains.expert_output, debug, auxiliary,
                )  # fmt: skip
            else:
                feedforward = Dense(model, model.ffn_width, p.of_layer(layer, routed=False), layer, backend)
            around = (chosen.make("residual"), chosen.make("residual"))
            attention = chosen.attention(name, p.arithmetic)
            attention.backend = "torch" if attention_backend == "flex" else attention_backend  # flex needs documents
            attention.clipped = bool(plan and plan.optim.qk_clip)
            made = {name: memory.in_block(layer, attention, feedforward) for name, memory in self.memories.items()}
            memories = {name: in_block for name, in_block in made.items() if in_block is not None}
            self.blocks.append(Block(model, attention, feedforward, around, memories))
        self.head = Head(model, p.arithmetic, self.gains)
        self.holds_operands = False
        self.quantizing = [m for m in self.blocks.modules() if getattr(m, "key_4", None) is not None]
        self.shared = nn.ModuleDict({name: chosen.shared(name) for name in dict.fromkeys(model.attentions)})
        for module in self.shared.values():
            module.backend = attention_backend

    @property
    def moe_layers(self) -> list[int]:
        return [i for i, block in enumerate(self.blocks) if isinstance(block.feedforward, Experts)]

    def hold_operands(self) -> None:
        """See `Experts.hold_operands`. Once the weights are where they stay."""
        self.holds_operands = True
        for layer in self.moe_layers:
            self.blocks[layer].feedforward.hold_operands()

    def quantize(self, on: bool, trains: bool = False) -> None:
        """From now on what quantizes does, or multiplies in bf16; weights are dithered where it `trains`, not to be scored."""
        for part in self.quantizing:
            wanted = (part.planned if trains else part.planned.still) if on else part.planned.plain
            if part.precision != wanted:
                part.precision = wanted
                if self.holds_operands and isinstance(part, Experts):
                    part.operands, part.versions = None, (-1, -1)
                    part.hold_operands()

    @torch.no_grad()
    def at(self, seed: int, step: int, first_token: int) -> None:
        """Tells every module that quantizes where training is; `first_token` of the micro-batch within the step's
        global batch."""
        for key_4 in (module.key_4 for module in self.quantizing):
            for part, value in zip(key_4, (seed, step, first_token)):
                part.fill_(value)  # a number, so that a GPU need not be waited for

    def trunk(self, where: Where) -> tuple[Tensor, list[Routed], list[Tensor]]:
        """The residual stream after the last block, routing of MoE layers, and peak_H of layers where scores are clipped."""
        assert where.visible_BSS is None or self.can("packed rows"), "a part of this model reads no packed row"
        assert where.document_BS is None or self.can("document masks"), "a part of this model sees no documents"
        for layer in self.moe_layers:
            self.blocks[layer].feedforward.refresh()
        x_BSD = embedding(where.token_BS, self.embedding)
        if self.gains.embedding != 1.0:
            x_BSD = x_BSD * self.gains.embedding
        found = {}
        for name, memory in self.memories.items():
            x_BSD, found[name] = memory(x_BSD, where)
        shared = {name: module(where) for name, module in self.shared.items()}
        stream, routed, peaks = self.residual.enter(x_BSD, self.shape, self.residual_keys), [], []
        for layer, (block, name) in enumerate(zip(self.blocks, self.shape.attentions)):
            recalled = {memory: it.of_layer(found[memory], layer) for memory, it in self.memories.items()}
            where = where._replace(shared=shared[name], recalled=recalled)
            if self.activation_checkpointing and torch.is_grad_enabled():
                stream, of_layer, peak_H = checkpoint(block, stream, where, use_reentrant=False)
            else:
                stream, of_layer, peak_H = block(stream, where)
            routed += [of_layer] if of_layer is not None else []
            peaks += [peak_H] if peak_H is not None else []
        return self.residual.leave(stream), routed, peaks

    def forward(self, where: Where, target_BS: Tensor, ahead_KBS: Tensor | None = None) -> Output:
        """`target_BS`, as `where.token_BS`, int64 in [0, V), some of them IGNORED; sequences of at most `sequence_length`.
        `ahead_KBS`: targets of the same logits that are further ahead, some of them IGNORED as well."""
        x_BSD, routed, peaks = self.trunk(where)
        if ahead_KBS is None:
            nats_BS, ahead_K = self.head(x_BSD, target_BS), x_BSD.new_zeros(0)
        else:
            nats_KBS = self.head(x_BSD, torch.cat((target_BS[None], ahead_KBS)))
            nats_BS, ahead_K = nats_KBS[0], nats_KBS[1:].sum((1, 2))
        none = nats_BS.new_zeros((0, 0), dtype=torch.int64)
        peak_LH = torch.stack(peaks) if peaks else nats_BS.new_zeros(0, 0)
        if not routed:
            return Output(nats_BS, none, nats_BS.new_zeros(0), none, ahead_K, peak_LH, {})
        dropped_LE = torch.stack([layer.dropped_E for layer in routed]) if where.capacity else none
        terms = {name: torch.stack([layer.terms[name] for layer in routed]) for name in routed[0].terms}
        counts, margins = torch.stack([layer.count_E for layer in routed]), torch.stack([layer.margin for layer in routed])
        return Output(nats_BS, counts, margins.detach(), dropped_LE, ahead_K, peak_LH, terms)

    def logits(self, token_BS: Tensor, cache: Cache | None = None) -> Tensor:
        """fp32 (B, S, V). With a cache, which grows by these tokens, of what follows the tokens that it has.

        Raises:
            UserError: more tokens than the model reads.
        """
        self.check_length(token_BS, cache)
        assert cache is None or cache.length or self.decodes, "a part of this model does not decode"
        logits = self.head.logits(self.trunk(Where(token_BS, cache=cache))[0])
        if cache is not None:
            cache.length += token_BS.shape[1]
        return logits

    def check_length(self, token_BS: Tensor, cache: Cache | None = None) -> None:
        """Raises: UserError: with those of the cache these are more tokens than the model reads."""
        length, most = token_BS.shape[1] + (cache.length if cache is not None else 0), self.shape.sequence_length
        if length > most:
            raise UserError(
                f"{length:,} tokens in a row, and the model reads model.sequence_length={most}",
                f"read the last {most:,} alone, with a new cache",
            )

    def can(self, what: str) -> bool:
        """Whether all of its parts support what some cannot (`Part.CANNOT`)."""
        return all(what not in module.CANNOT for module in self.modules() if isinstance(module, Part))

    @property
    def decodes(self) -> bool:
        """Whether `logits` takes a cache."""
        return self.can("decoding")


class _Chosen:
    """The parts that a model is made of, with their own keys."""

    def __init__(self, model: Model, plan: Plan | None, ranks: Ranks):
        names = {"residual": model.residual, "router": model.router}
        names["transport"] = parts.transport(plan.parallel if plan and ranks.world > 1 else Parallel())
        self.model, self.plan, self.ranks = model, plan, ranks
        self.classes = {kind: parts.part(kind, name) for kind, name in names.items()}
        self.keys = {kind: self._keys(kind, name) for kind, name in names.items()}

    def make(self, kind: str) -> Any:
        return self.classes[kind](self.model, self.keys[kind])

    def transport(self) -> Transport:
        return self.classes["transport"](self.model, self.keys["transport"], self.ranks)

    def attention(self, name: str, arithmetic: Arithmetic) -> Attention:
        return parts.part("attention", name)(self.model, self._keys("attention", name), arithmetic)

    def memory(self, name: str) -> Memory:
        return parts.part("memory", name)(self.model, self._keys("memory", name))

    def shared(self, name: str) -> nn.Module:
        return parts.part("attention", name).shared(self.model, self._keys("attention", name))

    def _keys(self, kind: str, name: str) -> Any:
        """The plan's, or as they usually are; None of a part without."""
        if self.plan is not None:
            return parts.keys_of(self.plan, kind, name)
        made = parts.keys(kind, name)
        return None if made is None else made()
