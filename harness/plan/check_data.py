"""What a plan that turns its data (`data.*`) must satisfy, as far as it is known before any text is read."""

from harness.errors import UserError
from harness.plan.schema import Data, Plan

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
    _check_sources(data, list(track.texts), track.name)
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
    if data.order == "staged" and not data.noise_share and len(data.sources or track.texts) < 2:
        raise UserError(
            "data.order=staged of one source without noise, which is read in one order alone",
            "leave it out, or add noise or a source: data.noise=[boilerplate] data.noise_share=0.2",
        )
    if data.epochs and (longest := plan.budget.tokens // plan.model.sequence_length) < data.epochs:
        raise UserError(
            f"data.epochs={data.epochs} of budget.tokens={plan.budget.tokens}, which has {longest} sequences of "
            f"{plan.model.sequence_length}",
            f"choose at most {longest}",
        )


def _check_sources(data: Data, there: list[str], track: str) -> None:
    for name in data.sources:
        if name not in there:
            raise UserError(f"data.sources names {name!r}, which track {track} has not", f"it has {', '.join(there)}")
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
