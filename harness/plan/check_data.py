"""What a plan that turns its data (`data.*`) must satisfy, as far as it is known before any text is read."""

import math

from harness.errors import UserError
from harness.plan.schema import Data, Plan, Track

TURNED = (
    "sources",
    "weights",
    "noise",
    "noise_share",
    "deduplicate",
    "quality",
    "quality_sha256",
    "quality_keep",
    "epochs",
    "order",
)


def check_data(plan: Plan) -> None:
    """Raises: UserError."""
    data, track = plan.data, plan.track
    changed = [key for key in TURNED if getattr(data, key) != getattr(Data(), key)]
    if track.tokens.tokenizer:
        if changed:
            key = changed[0]
            raise UserError(
                f"data.{key}={_said(getattr(data, key))} on track {track.name}, which is no track of bytes",
                f"use a lane of a track of bytes (lane=sotu-dense), or drop data.{key}",
            )
        return
    _check_sources(data, track)
    if data.noise_share and not data.noise:
        raise UserError(f"data.noise_share={data.noise_share:g} of no noise", "name what it is: data.noise=[boilerplate]")
    for key in ("noise", "sources"):
        names = getattr(data, key)
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"data.{key} names {name} twice", f"data.{key}={_said(list(dict.fromkeys(names)))}")
    if data.quality_keep < 1 and not data.quality:
        raise UserError(f"data.quality_keep={data.quality_keep:g} without grades", "name their file: data.quality=grades.jsonl")
    if data.quality and data.quality_keep == 1:
        raise UserError(f"data.quality={data.quality} drops nothing", "say how much is kept: data.quality_keep=0.8")
    if data.quality and not data.quality_sha256:
        raise UserError(
            f"data.quality={data.quality} without its hash",
            "add data.quality_sha256=..., which make grade prints, and sha256sum of any file",
        )
    if data.quality_sha256 and not data.quality:
        raise UserError("data.quality_sha256 without data.quality", "name the file that has this hash")
    if data.order == "staged" and _strands(plan) < 2:
        weighed = any(_weights(plan))
        one = "one source by its weight" if weighed else "one source without noise"
        raise UserError(
            f"data.order=staged of {one}, which is read in one order alone",
            "leave it out, or give a second source a weight above 0"
            if weighed
            else "leave it out, or add noise or a source: data.noise=[boilerplate] data.noise_share=0.2",
        )
    if data.epochs:
        _check_epochs(plan)


def _weights(plan: Plan) -> list[float]:
    """Weights of the sources that are read: the plan's, else those of the track."""
    texts = plan.track.texts
    return plan.data.weights or [texts[name].weight for name in plan.data.sources or texts]


def _strands(plan: Plan) -> int:
    """How many texts training takes windows of in turns (harness/data/turned.py), at most."""
    data, weights = plan.data, _weights(plan)
    if any(weights):
        return sum(weight > 0 for weight in weights)
    return len(data.sources or plan.track.texts) + (data.noise_share > 0) if data.order == "staged" else 1


def _check_epochs(plan: Plan) -> None:
    """A pass is a sequence or more, and of one text as many as a step takes, which spans two passes at most."""
    length, step = plan.model.sequence_length, plan.by_step.largest
    sequences = plan.budget.tokens // length
    a_pass = min(step // length, sequences) if _strands(plan) == 1 else 1
    if plan.data.epochs > (longest := sequences // a_pass):
        raise UserError(
            f"data.epochs={plan.data.epochs} of budget.tokens={plan.budget.tokens}, which has {sequences} sequences of {length}"
            f"{f', {a_pass} of them a step' if a_pass > 1 else ''}",
            f"choose at most {longest}{', or smaller steps' if a_pass > 1 else ''}",
        )


def _check_sources(data: Data, track: Track) -> None:
    there = list(track.texts)
    for name in data.sources:
        if name not in there:
            raise UserError(f"data.sources names {name!r}, which track {track.name} has not", f"it has {', '.join(there)}")
    for name, source in track.texts.items():
        if not (math.isfinite(source.weight) and source.weight >= 0):
            raise UserError(f"track.sources.{name}.weight={source.weight:g}", "choose a finite number from 0 on")
    names, weights = data.sources or there, data.weights
    if not weights:
        return
    if len(weights) != len(names):
        raise UserError(
            f"data.weights={_said(weights)} has {len(weights)} weights for {len(names)} sources: {', '.join(names)}",
            f"give {len(names)}, one a source, or none: then each is read as often as it is long",
        )
    if not sum(weights) > 0:
        raise UserError(f"data.weights={_said(weights)} sum to nothing", "give one source or more a weight above 0")


def _said(value: object) -> str:
    """A value as the command line takes it."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)
