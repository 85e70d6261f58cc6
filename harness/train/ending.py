"""The end of a run: the last scores, and the record that is made of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.tokenizer import gpt2
from harness.evaluate import public
from harness.evaluate.bpb import Score
from harness.evaluate.lockstep import Lockstep
from harness.evaluate.own_model import OwnModel
from harness.evaluate.parts import bits, part_scores
from harness.evaluate.router_health import bias_ranges
from harness.plan.compose import Composed
from harness.plan.fingerprint import lane_hash, plan_hash, recipe_hash
from harness.ranks import Ranks
from harness.record import record, schema
from harness.record.load import router_health
from harness.record.occupancy import untimed_reasons
from harness.record.provenance import now
from harness.record.rows import FinalRow
from harness.train import audit, weights
from harness.train.chain import hash_weights
from harness.train.health import not_finite
from harness.train.loop import Loop

ANSWERS = "answers-"  # begins the names of the files that a rank keeps its answers in while it scores
SHUFFLE_SEED = 0  # of the shuffled-routing control: the same shuffle for every run


@dataclass(frozen=True)
class Scored:
    """What a trained model came to on val: figures for `record.metrics`, the health of its routing, the hash of its weights."""

    figures: dict[str, Any]
    health: schema.RouterHealth | None
    weights: str


def of_val(composed: Composed, loop: Loop, val_N, lockstep: Lockstep) -> Scored | None:
    """Scores val once, by all ranks; the first one writes the weights and the last row of the log, the others have None."""
    plan, session, clock, folder = composed.plan, loop.session, loop.clock, loop.folder
    with clock.entry("final_evaluation_s"):
        final, shuffled = _final_scores(loop, val_N, lockstep)
        corpus = session.corpus
        parts = part_scores(final, corpus.parts, corpus.beside, lambda text_N: loop.score(text_N, lockstep))
        if loop.first_rank or session.shards.spread:
            digest = hash_weights(session.model, session.shards)
            weights.write(folder.path / "weights.safetensors", session.model.state_dict(), session.shards)
        loop.add_point(plan.steps, final)  # from here on the first rank may fail, and none waits for it
        if not loop.first_rank:
            return None
        with audit.unheard():
            clean_N, _ = corpus.examine()
    nats, size = final.sums()
    scores = {
        "val_bpb": final.bpb(),
        "val_bpb_clean": None if clean_N is None else final.bpb_where(clean_N[: len(val_N)]),
        "slice_bpb_shuffled_routing": shuffled,
        "scored_bytes": len(val_N) if final.bytes_N is None else size,
    }
    of_tokens, of_parts = {}, {"parts": parts} if parts else {}
    scores |= {"val_parts": bits(parts)} if parts else {}
    if final.bytes_N is not None:
        scores |= {"val_loss": final.loss()}
        of_tokens = {"target_bytes": size}
    row = FinalRow(
        kind="final", step=plan.steps, nats=nats, targets=final.targets, counts=final.count_LE.tolist(), **of_tokens,
        **of_parts, **{key: value for key, value in scores.items() if key != "val_parts"},
    )  # fmt: skip
    loop.log.append([row])
    health = router_health(
        final.count_LE.numpy(), final.margin_L.tolist(), bias_ranges(session.model), session.model.moe_layers,
        plan.model.top_k, loop.state.dropped,
    )  # fmt: skip
    loop.log.sync()  # before it is hashed
    return Scored(scores | {"partial": len(val_N) < len(session.corpus.val)}, health, digest)


def content(
    composed: Composed, loop: Loop, scored: Scored, origin: schema.Provenance, evaluations: dict[str, dict[str, Any]],
    pending: Sequence[str] = (),
) -> schema.Record:  # fmt: skip
    """The record, but for the hash of itself. `pending`: public test sets that are not scored yet."""
    plan, session, clock, folder, health = composed.plan, loop.session, loop.clock, loop.folder, scored.health
    p = plan.precision
    scores = scored.figures | {"peak_memory_bytes": max(loop.state.peak_memory_bytes, loop.peak_memory())}
    loop.look("after")
    here, counts = session.machine.measured_again().raised(max(loop.meter.peaks.values())), session.counts
    occupancy = loop.meter.as_record(clock.train_s)
    judged = loop.ranking.monitor
    reasons = record.unranked_reasons(
        plan, composed.broken, origin, loop.state.resumes, health, (judged.last_dead, judged.last_dominance),
        loop.ranking.breaches.values(),
    )  # fmt: skip
    reasons += loop.strange
    reasons += [f"{name} could not be scored: {found['failed']}" for name, found in evaluations.items() if "failed" in found]
    reasons += [f"{name} is not scored yet: the same command goes on" for name in pending]
    tokens = session.steps.total
    return schema.Record(
        schema_version=schema.SCHEMA_VERSION,
        lane=plan.lane.name,
        track=plan.track.name,
        seed=plan.seed,
        ranked=not reasons,
        unranked_reasons=reasons,
        untimed_reasons=untimed_reasons(occupancy, here.hardware_class),
        resumes=loop.state.resumes,
        fork=plan.fork,
        plan_hash=plan_hash(plan),
        lane_hash=lane_hash(plan),
        recipe_hash=recipe_hash(composed),
        hardware_class=here.hardware_class,
        hardware=schema.Hardware(**here.as_record()),
        precision=schema.Precision(format=p.format, execution=here.execution(p.format, p.high_precision_operands)),
        data=schema.Data(corpus=plan.track.corpus, release=plan.track.release, **session.corpus.facts()),
        metrics=record.metrics(plan, loop.state.curve, tokens, clock.train_s, counts.flops_per_token, here.peak_flops, scores),
        evaluations={name: schema.Evaluation(**_summary(found)) for name, found in evaluations.items()},
        router_health=health,
        counts=schema.Parameters(**asdict(counts)),
        determinism=schema.Determinism(chain=loop.state.chain, weights=scored.weights),
        lines={name: schema.Line(**asdict(line)) for name, line in plan.track.lines.items()},
        provenance=origin.model_copy(update={"finished_at": now()}),
        clock=schema.Clock(**clock.as_record()),
        occupancy=occupancy,
        artifacts=record.artifacts(folder.path),
    )


def public_scores(names: list[str], loop: Loop, lockstep: Lockstep) -> dict[str, dict[str, Any]]:
    """These public test sets, scored once, by every rank its share; all that they rest on goes to evaluations.json. Answers
    are kept as they come, for the same command to go on from. `lockstep`: in which ranks make their passes, where experts are
    spread over them."""
    session, spread = loop.session, bool(loop.session.shards.spread)
    loop.progress.say(f"scoring {' and '.join(names)}, once ...")
    with loop.clock.entry("final_evaluation_s"):
        ranks, path = session.ranks, loop.folder.path
        of = f"{loop.state.chain}, rank {ranks.rank} of {ranks.world}"
        files = {name: path / f"{ANSWERS}{name}-{ranks.rank}.jsonl" for name in public.KEPT if name in names}
        kept = ranks.all_or_none(lambda: {name: public.KEPT[name](file, of) for name, file in files.items()})
        tokenizer = gpt2() if loop.plan.track.tokens.tokenizer == "gpt2" else None
        found = public.score_all(
            names, loop.plan, OwnModel(session.model), tokenizer, loop.progress.count, ranks, kept, lockstep if spread else None
        )
        if ranks.is_first:
            loop.folder.write(record.PUBLIC, json.dumps(found, indent=1))
        forget_answers(path, ranks)
    return found


def forget_answers(folder: Path, ranks: Ranks) -> None:
    """Those that this rank kept; the first one also those of ranks that there were before a resume and are no more."""
    for path in folder.glob(f"{ANSWERS}*.jsonl"):
        of = int(path.stem.rpartition("-")[2])
        if of == ranks.rank or (ranks.is_first and of >= ranks.world):
            path.unlink()


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """Without what only evaluations.json needs to hold."""
    return {key: value for key, value in found.items() if key not in ("pages", "right", "counted")}


def _final_scores(loop: Loop, val_N, lockstep: Lockstep) -> tuple[Score, float | None]:
    """All of val once, whose first part is the slice, so that the curve's last point costs nothing more; and the slice with
    shuffled routing."""
    final = loop.score(val_N, lockstep)
    if not np.isfinite(final.nats_N).all():
        raise not_finite(loop.plan.steps, "the score of a token of val")
    if not loop.session.model.moe_layers:
        return final, None
    return final, loop.score(loop.slice_N, lockstep, SHUFFLE_SEED).bpb()
