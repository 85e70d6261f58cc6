"""What a plan must satisfy before anything is built: every refusal names the values and the remedy."""

import math
from dataclasses import fields
from operator import attrgetter
from pathlib import Path

from harness.errors import UserError, nearest
from harness.plan.check_precision import check_precision
from harness.plan.check_routing import LOSSES, check_routing
from harness.plan.goal import levels, slice_length
from harness.plan.lanes import ROOT
from harness.plan.schema import Gains, Multipliers, Plan


def corpora(folder: Path = ROOT / "harness" / "data" / "corpora") -> list[str]:
    """The kinds of corpora that no published format chooses."""
    return sorted({path.stem for path in folder.glob("[a-z]*.py")} - {"bytes", "documents", "stream"})


CHOICES = {
    "model.activation": ("relu2", "swiglu"),
    "model.router": ("sigmoid_topk", "softmax_topk", "hash"),
    "optim.matrices": ("muon", "adamw"),
    "optim.expert_gradient_scale": ("none", "constant", "load"),
    "balance.rule": ("none", "bias"),
    "balance.schedule": ("constant", "cosine", "warmup"),
    "kernels.backend": ("auto", "reference", "torch", "inductor", "triton"),
    "kernels.compile": ("auto", "on", "off"),
    "precision.format": ("bf16", "fp32", "fp8", "nvfp4"),
    "precision.scope": ("ffn", "routed"),
    "precision.stochastic_rounding": ("auto", "on", "off"),
    "precision.hadamard": ("auto", "on", "off"),
    "precision.weight_gradients": ("auto", "quantized"),
    "precision.weight_blocks": ("auto", "2d", "1d"),
    "precision.tensor_scale": ("auto", "layer", "expert"),
    "run.mlflow": ("end", "live", "off"),
    "track.tokens.format": ("", "jsonl", "parquet", "bin", *corpora()),
}
PUBLIC_SETS = ("wikitext", "core")  # harness/evaluate/public.py
VOCABULARY = {"": 256, "gpt2": 50257}  # by track.tokens.tokenizer; "" is bytes


ANY = (0.0, math.inf)  # of a number that may be 0
SHARE = (0.0, 1.0)
RANGES = {  # both ends allowed; NaN and infinity never are
    "model.shared_experts": ANY,
    "model.rope_base": (1.0, math.inf),
    "schedule.warmup_share": SHARE,
    "schedule.decay_share": SHARE,
    "schedule.final_fraction": SHARE,
    "optim.muon.lr": ANY,
    "optim.muon.momentum": (0.0, 0.9999),
    "optim.muon.weight_decay": ANY,
    "optim.muon.newton_schulz_steps": (1, math.inf),
    "optim.adamw.lr": ANY,
    "optim.adamw.beta1": (0.0, 0.9999),
    "optim.adamw.beta2": (0.0, 0.99999),
    "optim.adamw.eps": (1e-20, 1.0),
    "optim.adamw.weight_decay": ANY,
    "optim.clip_norm": ANY,
    **{f"optim.multipliers.{f.name}": ANY for f in fields(Multipliers)},
    "init.embedding_std": ANY,
    "init.matrix_gain": ANY,
    "balance.rate": ANY,
    "precision.clip": (0.01, 1.0),
    **{f"gains.{f.name}": (1e-6, 1e6) for f in fields(Gains)},
    **{f"balance.{key}": ANY for key in (*LOSSES, "capacity_factor")},
    "parallel.micro_batch_tokens": ANY,
    "health.divergence_factor": (1.0, math.inf),
    "health.collapse_load": SHARE,
    "health.dead_share": SHARE,
    "run.checkpoint_every_s": ANY,
    "run.stop_after_step": ANY,
}


def check(plan: Plan) -> None:
    """Errors: UserError for the first rule that does not hold."""
    _check_track(plan)
    for key, known in CHOICES.items():
        value = attrgetter(key)(plan)
        if value not in known:
            raise UserError(f"{key}={value!r}", nearest(value, known))
    for key, (low, high) in RANGES.items():
        value = attrgetter(key)(plan)
        if not (low <= value <= high and math.isfinite(value)):
            raise UserError(f"{key}={value}", f"choose a finite number from {low:g} to {high:g}")
    _check_shapes(plan)
    check_routing(plan)
    _check_sizes(plan)
    _check_ranges(plan)
    check_precision(plan)


def _check_track(plan: Plan) -> None:
    """A track of bytes states other keys than one of tokens."""
    track = plan.track
    if track.tokens.tokenizer not in VOCABULARY:
        raise UserError(f"track.tokens.tokenizer={track.tokens.tokenizer!r}", nearest(track.tokens.tokenizer, VOCABULARY))
    if bool(track.tokens.tokenizer) != bool(track.tokens.format):
        raise UserError(
            f"track.tokens.tokenizer={track.tokens.tokenizer!r} with track.tokens.format={track.tokens.format!r}",
            "a track of tokens has both, a track of bytes neither",
        )
    if slice_length(track) < 1:
        key = "track.tokens.slice_tokens" if track.tokens.tokenizer else "track.slice_bytes"
        raise UserError(f"{key}={slice_length(track)}", "choose at least 1")
    if unknown := sorted(set(track.tokens.final) - set(PUBLIC_SETS)):
        raise UserError(f"track.tokens.final names {unknown[0]!r}", f"public test sets are {', '.join(PUBLIC_SETS)}")
    if plan.data.shards and track.tokens.format != "bin":
        raise UserError(f"data.shards on track {track.name}, which has no token files", "use a lane of track fineweb")
    if plan.data.document_mask and not track.tokens.tokenizer:
        raise UserError(
            f"data.document_mask=true on track {track.name}, whose bytes do not say where a document ends",
            "use a lane of a track of tokens, or leave data.document_mask=false",
        )


def _check_shapes(plan: Plan) -> None:
    m = plan.model
    _positive(plan, "model", "width", "layers", "heads", "sequence_length", "vocab_size")
    if m.width % m.heads or (m.width // m.heads) % 2:
        raise UserError(
            f"model.heads={m.heads} does not divide model.width={m.width} into even head widths",
            "choose heads so that width / heads is an even whole number",
        )
    if m.num_experts == 0 and m.ffn_width < 1:
        raise UserError(f"model.ffn_width={m.ffn_width} in a dense model", "set model.ffn_width, or model.num_experts")


def _check_sizes(plan: Plan) -> None:
    m = plan.model
    length, step = plan.model.sequence_length, plan.batch.tokens_per_step
    if step < length or step % length:
        raise UserError(
            f"batch.tokens_per_step={step} is no multiple of model.sequence_length={length}",
            f"choose a multiple of {length}",
        )
    if plan.budget.tokens < length:
        raise UserError(
            f"budget.tokens={plan.budget.tokens} is less than one sequence of {length}", f"choose at least {length}"
        )
    if plan.parallel.micro_batch_tokens % length:
        raise UserError(
            f"parallel.micro_batch_tokens={plan.parallel.micro_batch_tokens} is no multiple of the sequence length {length}",
            f"choose a multiple of {length}, or 0 for the whole share of a rank",
        )
    if any(step < 1 for step in plan.validation.steps):
        raise UserError(f"validation.steps={plan.validation.steps}", "choose steps of 1 or more")
    tokenizer = plan.track.tokens.tokenizer
    if m.vocab_size < VOCABULARY[tokenizer]:
        what = f"tokens of {tokenizer}" if tokenizer else "bytes"
        raise UserError(f"model.vocab_size={m.vocab_size} for a track of {what}", f"choose at least {VOCABULARY[tokenizer]:,}")
    if plan.validation.batch_tokens and plan.validation.batch_tokens < length:
        raise UserError(
            f"validation.batch_tokens={plan.validation.batch_tokens}",
            f"choose at least one sequence of {length}, or 0 for the shape of training",
        )


def _check_ranges(plan: Plan) -> None:
    _positive(plan, "run", "log_every_steps", "keep_checkpoints")
    _positive(plan, "health", "window_steps")
    if any(step < 1 for step in plan.run.checkpoint_steps):
        raise UserError(f"run.checkpoint_steps={plan.run.checkpoint_steps}", "choose steps of 1 or more")
    if not 0 <= plan.schedule.warmup_share + plan.schedule.decay_share <= 1:
        raise UserError(
            f"schedule.warmup_share={plan.schedule.warmup_share} + decay_share={plan.schedule.decay_share} exceeds 1",
            "the shares are parts of the token budget",
        )
    if plan.track.target and plan.track.target not in levels(plan.track):
        raise UserError(f"track.target={plan.track.target!r}", nearest(plan.track.target, levels(plan.track)))
    if plan.seed < 0:
        raise UserError(f"seed={plan.seed}", "choose a seed of 0 or more")


def _positive(plan: Plan, section: str, *names: str) -> None:
    for name in names:
        value = getattr(getattr(plan, section), name)
        if value < 1:
            raise UserError(f"{section}.{name}={value}", "choose at least 1")
