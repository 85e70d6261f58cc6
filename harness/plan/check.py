"""What a plan must satisfy before anything is built: every refusal names the values and the remedy."""

import math
from fractions import Fraction
from functools import cache
from operator import attrgetter
from typing import Any

from harness.errors import UserError, nearest
from harness.plan import parts
from harness.plan.check_data import check_data
from harness.plan.check_parallel import check_parallel
from harness.plan.check_precision import check_precision
from harness.plan.check_routing import check_routing
from harness.plan.goal import levels, slice_length
from harness.plan.lanes import read_track
from harness.plan.schema import FIXED_IN_OPEN, STAGES, Batch, Data, Plan, Schedule, walk
from harness.plan.steps import Stage, shares_of
from harness.plan.tasks import check_tasks
from harness.plan.track import TASKS

# harness/evaluate/public.py: what a run may be scored on once, at its end, and the tokenizer that it is read with.
PUBLIC_SETS = {"wikitext": "gpt2", "core": "gpt2", "tasks": TASKS}
SUMS_TO = 1e-6  # how far from 1 shares written as decimals may be
VOCABULARY = {"": 256, "gpt2": 50257, TASKS: 256}  # by track.tokens.tokenizer; "" is bytes
SOFTCAP = 0.1  # the least: within it no token of 256 can have more than 0.5%, 1 / (1 + 255 e^-0.2)


def check(plan: Plan) -> None:
    """Raises: UserError for the first rule that does not hold."""
    _check_track(plan)
    _check_open(plan)
    for key, f in walk():
        _check_key(key, f, attrgetter(key)(plan))
    _check_shapes(plan)
    _check_clip(plan)
    check_routing(plan)
    parts.check(plan)
    _check_sizes(plan)
    check_parallel(plan)
    check_tasks(plan)
    check_data(plan)
    _check_ranges(plan)
    _check_ahead(plan)
    check_precision(plan)


def values(f: Any) -> str:
    """What a key of the schema may be, in words; "" where everything of its type may be."""
    marks = f.metadata
    if "among" in marks:
        return " | ".join(choice or "''" for choice in marks["among"])
    low, high = (f"{marks[end]:g}" if end in marks else "" for end in ("least", "most"))
    return f"{low} to {high}" if low and high else f"{low} or more" if low else ""


def _check_key(key: str, f: Any, value: Any) -> None:
    """Raises: UserError for a value that is not among a key's, or outside of its range."""
    marks = f.metadata
    for item in value if isinstance(value, list) else [value]:
        if "among" in marks and item not in marks["among"]:
            raise UserError(f"{key}={item!r}", nearest(item, marks["among"]))
    if not {"least", "most"} & marks.keys():
        return
    low, high = marks.get("least", -math.inf), marks.get("most", math.inf)
    for item in value if isinstance(value, list) else [value]:
        if not (low <= item <= high and math.isfinite(item)):
            ends = f"{low:g} to {high:g}"
            if isinstance(item, int):
                remedy = f"choose a whole number from {ends}" if math.isfinite(high) else f"choose at least {low:g}"
            else:
                remedy = f"choose a finite number from {ends if math.isfinite(high) else f'{low:g} on'}"
            raise UserError(f"{key}={value}", marks.get("remedy", remedy))


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
    for name in track.tokens.final:
        if name not in PUBLIC_SETS:
            raise UserError(f"track.tokens.final names {name!r}", f"public test sets are {', '.join(PUBLIC_SETS)}")
        if PUBLIC_SETS[name] != track.tokens.tokenizer:
            reads = [it for it, tokenizer in PUBLIC_SETS.items() if tokenizer == track.tokens.tokenizer]
            raise UserError(
                f"track.tokens.final names {name}, which is read with the tokenizer {PUBLIC_SETS[name]}; the track's is "
                f"{track.tokens.tokenizer or 'none, its tokens are bytes'}",
                f"this track can have {', '.join(reads) or 'none'}",
            )
    if plan.data.shards and track.tokens.format != "bin":
        raise UserError(f"data.shards on track {track.name}, which has no token files", "use a lane of track fineweb")
    if plan.data.document_mask and not track.tokens.tokenizer:
        raise UserError(
            f"data.document_mask=true on track {track.name}, whose bytes do not say where a document ends",
            "use a lane of a track of tokens, or leave data.document_mask=false",
        )


def _check_open(plan: Plan) -> None:
    """What an open lane is raced to."""
    if plan.lane.open and not plan.track.target:
        known = ", ".join(levels(plan.track))
        raise UserError(
            f"lane {plan.lane.name} is open, and track {plan.track.name} has no target: there is nothing to race to",
            f"name a track that has one in the lane's file{f', or a new track with one of {known}' if known else ''}",
        )
    if plan.lane.open and not plan.unranked:
        _check_same_race(plan)


def _check_same_race(plan: Plan) -> None:
    """Whoever races on a track reads and is scored on the same: an open lane of one's own changes nothing of it."""
    stated = {f"track.{key}": value for key, value in vars(_track(plan.track.name)).items()}
    stated |= {f"data.{key}": value for key, value in vars(Data()).items() if f"data.{key}" in FIXED_IN_OPEN}
    for key, value in stated.items():
        if (found := attrgetter(key)(plan)) != value:
            raise UserError(
                f"lane {plan.lane.name} is open, and its file has {key}={found} where every open lane of track "
                f"{plan.track.name} has {value}",
                f"leave {key} out of lanes/{plan.lane.name}.yaml; other data or another score is a new track in lanes/tracks",
            )


_track = cache(read_track)


def _check_shapes(plan: Plan) -> None:
    m = plan.model
    if m.width % m.heads or (m.width // m.heads) % 2:
        fit = [heads for heads in range(1, m.heads) if m.width % heads == 0 and m.width // heads % 2 == 0]
        raise UserError(
            f"model.heads={m.heads} does not divide model.width={m.width} into even head widths",
            f"choose heads so that width / heads is an even whole number{f': model.heads={fit[-1]}' if fit else ''}",
        )
    if (pattern := m.attention_pattern) and len(pattern) != m.layers:
        whole = [*pattern, *[pattern[-1]] * m.layers][: m.layers]
        raise UserError(
            f"model.attention_pattern names {len(pattern)} layers of {m.layers}: {','.join(pattern)}",
            f"name {m.layers}, the first layer first: model.attention_pattern=[{','.join(whole)}]",
        )
    for name in m.memories:
        if m.memories.count(name) > 1:
            raise UserError(f"model.memories names {name} twice", f"name it once: {','.join(dict.fromkeys(m.memories))}")
    if m.num_experts == 0 and m.ffn_width < 1:
        raise UserError(f"model.ffn_width={m.ffn_width} in a dense model", "set model.ffn_width, or model.num_experts")


def _check_clip(plan: Plan) -> None:
    clip, m = plan.optim.qk_clip, plan.model
    for name in m.attentions if clip else ():
        if m.qk_norm and parts.gives_heads(name):
            raise UserError(
                f"optim.qk_clip={clip} is a no-op under model.qk_norm=true with the attention {name}: norms undo what it "
                "does to the weights, and bound the scores",
                "set optim.qk_clip=0, or use mla, or model.qk_norm=false",
            )
        if not parts.clips(name):
            having = ", ".join(filter(parts.clips, parts.names("attention")))
            raise UserError(f"optim.qk_clip={clip} with the attention {name}", f"set optim.qk_clip=0, or use one of {having}")


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
    _check_stages(plan)
    tokenizer = plan.track.tokens.tokenizer
    if m.vocab_size < VOCABULARY[tokenizer]:
        what = {"": "bytes", TASKS: "tasks"}.get(tokenizer, f"tokens of {tokenizer}")
        raise UserError(f"model.vocab_size={m.vocab_size} for a track of {what}", f"choose at least {VOCABULARY[tokenizer]:,}")
    if plan.validation.batch_tokens and plan.validation.batch_tokens < length:
        raise UserError(
            f"validation.batch_tokens={plan.validation.batch_tokens}",
            f"choose at least one sequence of {length}, or 0 for the shape of training",
        )


def _check_stages(plan: Plan) -> None:
    batch, micro, length = plan.batch, plan.parallel.micro_batch_tokens, plan.model.sequence_length
    if not batch.stages:
        if batch.stage_shares:
            raise UserError(f"batch.stage_shares={batch.stage_shares} without batch.stages", f"set batch.stages too: {STAGES}")
        if plan.schedule.batch_lr != Schedule.batch_lr:
            raise UserError(
                f"schedule.batch_lr={plan.schedule.batch_lr} without batch.stages: the batch is constant",
                f"set batch.stages, or leave schedule.batch_lr={Schedule.batch_lr}",
            )
        return
    if batch.stage_shares:
        _check_shares(batch)
    for number, (stage, share) in enumerate(zip(plan.by_step.stages, shares_of(batch)), start=1):
        said = f"stage {number} of batch.stages={batch.stages} takes {stage.tokens} tokens a step"
        if stage.tokens % length:
            raise UserError(f"{said}, no multiple of model.sequence_length={length}", f"choose a multiple of {length}")
        if not stage.count:
            _refuse_empty(plan, said, stage, share)
        if micro and stage.tokens % micro:
            raise UserError(
                f"{said}, which parallel.micro_batch_tokens={micro} does not divide",
                f"choose one that divides {math.gcd(*batch.stages)}, or 0 for the whole share of a rank",
            )


def _check_shares(batch: Batch) -> None:
    shares = batch.stage_shares
    if len(shares) != len(batch.stages):
        raise UserError(
            f"batch.stage_shares={shares} for {len(batch.stages)} stages, batch.stages={batch.stages}",
            "give each stage its share, or none: then each has as much",
        )
    if abs((total := sum(shares_of(batch))) - 1) > SUMS_TO:
        raise UserError(f"batch.stage_shares={shares} sum to {float(total):g}", "choose parts of the budget that sum to 1")


def _refuse_empty(plan: Plan, said: str, stage: Stage, share: Fraction) -> None:
    budget = plan.budget.tokens
    remedy = f"choose a budget of {math.ceil(stage.tokens / share):,} or more" if share else "give it a share above 0"
    raise UserError(
        f"{said}, and its part of budget.tokens={budget} has {int(share * budget)}", f"{remedy}, smaller stages, or fewer"
    )


def _check_ranges(plan: Plan) -> None:
    if not 0 <= plan.schedule.warmup_share + plan.schedule.decay_share <= 1:
        raise UserError(
            f"schedule.warmup_share={plan.schedule.warmup_share} + decay_share={plan.schedule.decay_share} exceeds 1",
            "the shares are parts of the token budget",
        )
    if plan.track.target and plan.track.target not in levels(plan.track):
        raise UserError(f"track.target={plan.track.target!r}", nearest(plan.track.target, levels(plan.track)))
    if 0 < plan.gains.softcap < SOFTCAP:
        raise UserError(
            f"gains.softcap={plan.gains.softcap:g}: within so little no token can be told from another",
            f"choose at least {SOFTCAP:g}, or 0 for none",
        )


def _check_ahead(plan: Plan) -> None:
    a, length = plan.ahead, plan.model.sequence_length
    if not a.weights:
        return
    if a.weights[-1] == 0:
        raise UserError(f"ahead.weights={a.weights} ends with 0", "leave the last one out, or choose more")
    if len(a.weights) >= length - 1:
        raise UserError(
            f"ahead.weights has {len(a.weights)} weights, the last of the token {len(a.weights) + 1} ahead, which no row of "
            f"model.sequence_length={length} has",
            f"give at most {length - 2}" if length > 2 else "leave it empty",
        )
    if a.until * plan.steps <= 0.5:  # a step's weights are those of its middle
        raise UserError(
            f"ahead.until={a.until} with ahead.weights={a.weights}: they are 0 from the first of {plan.steps} steps on",
            "choose more, up to 1, or leave ahead.weights empty",
        )
