"""A run's model as a published architecture that transformers has: which one, its config.json, the weights under its names.

The mathematics is the run's, to the bit, but for one thing: the library computes the angles of rotary positions in fp32 and not
in fp64, an error that grows with the position (`make referee SET=tests/referee/test_export.py` prints what it comes to).

Suffixes: D width, F width of a feed-forward part, E experts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError
from harness.export.configuration import check
from harness.plan.schema import Plan

# (class, model_type, names of a block's two norms) by activation and QK-norm.
LLAMA_NORMS = ("input_layernorm", "post_attention_layernorm")
DENSE = {
    ("relu2", True): ("ApertusForCausalLM", "apertus", ("attention_layernorm", "feedforward_layernorm")),
    ("relu2", False): ("ArceeForCausalLM", "arcee", LLAMA_NORMS),
    ("swiglu", True): ("Qwen3ForCausalLM", "qwen3", LLAMA_NORMS),
    ("swiglu", False): ("LlamaForCausalLM", "llama", LLAMA_NORMS),
}
MOE = ("Glm4MoeForCausalLM", "glm4_moe", LLAMA_NORMS)
PROJECTIONS = {"q": "query", "k": "key", "v": "value", "o": "output"}


def architecture(plan: Plan) -> tuple[str, str, tuple[str, str]]:
    """Raises: UserError, naming what no published architecture has."""
    check(plan)
    m, full = plan.model, plan.attention.full
    moe = bool(m.num_experts)
    lacking = {
        "attention other than full": set(m.attentions) != {"full"},
        "attention.full.head_gate": full.head_gate,
        "attention.full.key_offset": full.key_offset,
        f"model.memories={','.join(m.memories)}": m.memories,
        f"model.residual={m.residual}": m.residual != "plain",
        "gains.softcap": plan.gains.softcap,
        "attention.full.rotated": full.rotated not in (0, m.width // m.heads),
        f"experts with model.activation={m.activation}": moe and m.activation != "swiglu",
        f"model.router={m.router}": moe and m.router != "sigmoid_topk",
        "routed experts without shared ones": moe and not m.shared_experts,
        "model.moe_every": moe and m.moe_every != 1,
        "a single expert": m.num_experts == 1,
    }
    if reason := next((reason for reason, holds in lacking.items() if holds), None):
        raise UserError(
            f"no published architecture has the model of this run: {reason}",
            "leave --published out: the folder then has a modelling file of its own",
        )
    return MOE if moe else DENSE[m.activation, m.qk_norm]


def configuration(plan: Plan) -> dict[str, Any]:
    """Raises: UserError as `architecture`."""
    name, kind, _ = architecture(plan)
    m = plan.model
    found: dict[str, Any] = {
        "architectures": [name], "model_type": kind, "dtype": "float32", "tie_word_embeddings": False,
        "vocab_size": m.vocab_size, "hidden_size": m.width, "num_hidden_layers": m.layers, "num_attention_heads": m.heads,
        "num_key_value_heads": plan.attention.full.kv_heads or m.heads, "head_dim": m.width // m.heads,
        "intermediate_size": m.ffn_width, "hidden_act": "relu2" if m.activation == "relu2" else "silu",
        "max_position_embeddings": m.sequence_length, "rms_norm_eps": 1e-6, "attention_bias": False, "attention_dropout": 0.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": m.rope_base, "partial_rotary_factor": 1.0},
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    if m.num_experts:
        found |= {
            "moe_intermediate_size": m.expert_width, "n_routed_experts": m.num_experts, "num_experts_per_tok": m.top_k,
            "n_shared_experts": m.shared_experts, "first_k_dense_replace": m.leading_dense_layers, "n_group": 1,
            "topk_group": 1, "norm_topk_prob": m.router_renormalize, "routed_scaling_factor": plan.gains.expert_output,
            "use_qk_norm": m.qk_norm, "num_nextn_predict_layers": 0, "partial_rotary_factor": 1.0,
        }  # fmt: skip
    return found


def tensors(plan: Plan, run: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the run's model under the architecture's names, output dimension first. Gains are multiplied in."""
    m, norms = plan.model, architecture(plan)[2]
    found = {
        "model.embed_tokens.weight": run["embedding"] * plan.gains.embedding,
        "lm_head.weight": run["head.weight"].T * plan.gains.logits,
        "model.norm.weight": _norm(run, "head.norm", m.width),
    }
    for layer in range(m.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        for mine, its in zip(("attention_norm", "feedforward_norm"), norms):
            found[f"{theirs}{its}.weight"] = _norm(run, ours + mine, m.width)
        of_layer = [*_attention(plan, run, f"{ours}attention."), *_feedforward(run, f"{ours}feedforward.", m.activation)]
        found |= {theirs + name: tensor for name, tensor in of_layer}
    return found


def _norm(run: Mapping[str, Tensor], name: str, width: int) -> Tensor:
    return run.get(f"{name}.weight", torch.ones(width))


def _attention(plan: Plan, run: Mapping[str, Tensor], ours: str) -> Iterator[tuple[str, Tensor]]:
    head, gain = plan.model.width // plan.model.heads, plan.attention.full.gain
    for its, mine in PROJECTIONS.items():
        weight = run[ours + mine].T
        yield f"self_attn.{its}_proj.weight", weight * gain if its == "q" and not plan.model.qk_norm else weight
    if plan.model.qk_norm:
        yield "self_attn.q_norm.weight", torch.full((head,), gain)
        yield "self_attn.k_norm.weight", torch.ones(head)


def _feedforward(run: Mapping[str, Tensor], ours: str, activation: str) -> Iterator[tuple[str, Tensor]]:
    if f"{ours}router.weight" not in run:
        yield from _mlp("mlp.", run[f"{ours}up"], run[f"{ours}down"], activation)
        return
    yield "mlp.gate.weight", run[f"{ours}router.weight"].T
    yield "mlp.gate.e_score_correction_bias", run[f"{ours}router.bias"]
    for expert, (up, down) in enumerate(zip(run[f"{ours}up"], run[f"{ours}down"])):
        yield from _mlp(f"mlp.experts.{expert}.", up, down, activation)
    yield from _mlp("mlp.shared_experts.", run[f"{ours}shared.up"], run[f"{ours}shared.down"], activation)


def _mlp(theirs: str, up: Tensor, down_FD: Tensor, activation: str) -> Iterator[tuple[str, Tensor]]:
    """`up`: (D, F), or (D, 2F) of a gate and a value."""
    gate_and_value = up.chunk(2, dim=1) if activation == "swiglu" else (up,)
    for name, weight in zip(("gate_proj", "up_proj") if activation == "swiglu" else ("up_proj",), gate_and_value):
        yield f"{theirs}{name}.weight", weight.T
    yield f"{theirs}down_proj.weight", down_FD.T
