"""config.json of an exported folder: what `modeling_moe_speedrun.py` is told of a plan's model.

The files beside it compute the published shapes of this repository, in fp32. What they have no code for is refused by name, and
so is a key of the plan that is not known here and has not its default: an export never leaves something out in silence.
"""

from collections.abc import Iterable
from dataclasses import MISSING, asdict, fields
from operator import attrgetter
from typing import Any

from harness.errors import UserError
from harness.plan import parts
from harness.plan.parts.memory.engram import factors_of, rows_of
from harness.plan.schema import Plan

CODE = "modeling_moe_speedrun"  # the name of the file that transformers asks for, without .py
FILES = (f"{CODE}.py", "layers_moe_speedrun.py", "memory_moe_speedrun.py", "residual_moe_speedrun.py")
ATTENTIONS, ROUTERS = ("full", "window", "mla"), ("sigmoid_topk", "softmax_topk", "hash")
MEMORIES, RESIDUALS = ("smear", "bigram", "value_embeddings", "canon", "engram"), ("plain", "lambdas", "hyper")
PLAIN = ("bf16", "fp32")  # formats whose forward quantizes nothing
ELSEWHERE = "`sample` and `evaluate` use every run as it is"
# The keys that config.json carries on, by section of the plan.
KNOWN = {
    "model": (
        "width", "layers", "heads", "sequence_length", "vocab_size", "activation", "ffn_width", "num_experts", "expert_width",
        "top_k", "shared_experts", "leading_dense_layers", "moe_every", "router", "router_renormalize", "attention",
        "attention_pattern", "residual", "memories", "qk_norm", "norm_weight", "rope_base",
    ),
    "gains": ("embedding", "logits", "expert_output", "softcap"),
    "attention.full": ("kv_heads", "gain", "rotated", "key_offset", "head_gate"),
    "attention.window": ("tokens",),
    "attention.mla": ("rank", "rotary"),
    "memory.smear": ("channels",),
    "memory.bigram": ("rows", "columns"),
    "memory.value_embeddings": ("every", "channels"),
    "memory.canon": ("places", "taps"),
    "memory.engram": ("layers", "order", "heads", "rows", "columns", "taps"),
    "residual.hyper": ("streams", "rounds", "stray"),
}  # fmt: skip


def configuration(plan: Plan) -> dict[str, Any]:
    """Raises: UserError as `check`."""
    check(plan)
    m, full, gains = plan.model, plan.attention.full, plan.gains
    head = m.width // m.heads
    return {
        "architectures": ["MoeSpeedrunForCausalLM"],
        "auto_map": {"AutoConfig": f"{CODE}.MoeSpeedrunConfig", "AutoModelForCausalLM": f"{CODE}.MoeSpeedrunForCausalLM"},
        "model_type": "moe_speedrun", "dtype": "float32", "use_cache": False, "tie_word_embeddings": False,
        "vocab_size": m.vocab_size, "hidden_size": m.width, "num_hidden_layers": m.layers, "num_attention_heads": m.heads,
        "num_key_value_heads": full.kv_heads or m.heads, "max_position_embeddings": m.sequence_length,
        "norm_weight": m.norm_weight, "attention_pattern": m.attentions, "qk_norm": m.qk_norm, "rope_base": m.rope_base,
        "rotated": full.rotated or head, "attention_gain": full.gain, "head_gate": full.head_gate,
        "key_offset": full.key_offset, "window": plan.attention.window.tokens if "window" in m.attentions else 0,
        "mla": asdict(plan.attention.mla) if "mla" in m.attentions else None,
        "memories": [_memory(plan, name) for name in m.memories], "residual": _keys(plan, "residual", m.residual),
        "activation": m.activation, "ffn_width": m.ffn_width, "moe_layers": m.moe_layers, "num_experts": m.num_experts,
        "expert_width": m.expert_width, "num_experts_per_tok": m.top_k, "shared_width": m.shared_experts * m.expert_width,
        "router": m.router, "router_renormalize": m.router_renormalize,
        "embedding_gain": gains.embedding, "logits_gain": gains.logits, "expert_output_gain": gains.expert_output,
        "softcap": gains.softcap,
    }  # fmt: skip


def _keys(plan: Plan, kind: str, name: str) -> dict[str, Any]:
    """A part's name and its own keys."""
    keys = parts.keys_of(plan, kind, name)
    return {"name": name} | ({} if keys is None else asdict(keys))


def _memory(plan: Plan, name: str) -> dict[str, Any]:
    found = _keys(plan, "memory", name)
    if name == "engram":
        own = plan.memory.engram
        found |= {"sizes": [rows_of(own, layer) for layer in own.layers]}
        found |= {"factors": [factors_of(own, layer) for layer in own.layers]}
    return found


def check(plan: Plan) -> None:
    """Raises: UserError where the plan's model has a part that an exported folder has no code for."""
    for name in dict.fromkeys(plan.model.attentions):
        _one_of("model.attention", name, ATTENTIONS)
    for name in plan.model.memories:
        _one_of("model.memories", name, MEMORIES)
    _one_of("model.residual", plan.model.residual, RESIDUALS)
    if plan.model.num_experts:
        _one_of("model.router", plan.model.router, ROUTERS)
    _one_of("precision.format", plan.precision.format, PLAIN)
    for section, known in KNOWN.items():
        _known(section, attrgetter(section)(plan), known)


def _one_of(key: str, found: str, known: Iterable[str]) -> None:
    if found not in known:
        raise UserError(
            f"{key}={found}: an exported folder has no code for it, its model would compute something else",
            f"export a run with {key}={' or '.join(known)}; {ELSEWHERE}",
        )


def _known(section: str, values: Any, known: Iterable[str]) -> None:
    for field in fields(values):
        usual = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name not in known and (found := getattr(values, field.name)) != usual:
            raise UserError(
                f"{section}.{field.name}={found}: an exported folder has no code for it",
                f"export a run with {section}.{field.name}={usual}; {ELSEWHERE}",
            )
