"""What a verdict needs of a finished run, as its record has it."""

from harness.reading import file_hash
from harness.record.confirmations import Seen
from harness.report.rank_evidence import unhealthy
from harness.report.run_data import RunData


def seen(run: RunData) -> Seen:
    """Raises: UserError where its files cannot be read."""
    record, metrics = run.record, run.record.metrics
    health, target = record.router_health, metrics.target
    metric = target.metric if target else "slice_bpb"
    return Seen(
        seed=record.seed, folder=str(run.folder), record_sha256=file_hash(run.folder / "record.json"),
        chain=record.determinism.chain, seconds=record.clock.train_s, slice=getattr(metrics, metric), rest=rest_of(run, metric),
        entropy=health.worst_entropy_ratio if health else None, dead=health.dead if health else 0,
        health=list(unhealthy(run)), unranked=[] if record.ranked else list(record.unranked_reasons), disturbed=run.disturbed,
    )  # fmt: skip


def rest_of(run: RunData, metric: str) -> float | None:
    """The mean over what was scored of val beyond the slice, in the unit of `metric`; None where that is nothing. A mean over V
    bytes or tokens, of which the slice has S: (V * val - S * slice) / (V - S)."""
    record, metrics = run.record, run.record.metrics
    track = run.plan["track"]
    if metric == "slice_loss":
        most = run.plan["validation"].get("tokens") or record.data.val_tokens
        scored, sliced, whole = min(most, record.data.val_tokens), track["tokens"]["slice_tokens"], metrics.val_loss
    elif track.get("tokens", {}).get("slice_tokens"):
        return None  # bytes of a slice of tokens are in no record
    else:
        scored, sliced, whole = metrics.scored_bytes, track["slice_bytes"], metrics.val_bpb
    return None if scored <= sliced else (scored * whole - sliced * getattr(metrics, metric)) / (scored - sliced)
