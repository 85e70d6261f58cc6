"""Looks inside a finished run's model: what it computes where, and which of its experts are for what.

usage: python -m harness inspect RUN [--against RUN2] [--instances 256] [--out FOLDER]
       make inspect RUN=runs/physics-moe-16e/1-0123abcd
       make inspect RUN=runs/physics-moe-16e/1-0123abcd AGAINST=runs/physics-dense/1-4567cdef

It asks test instances of the run's tasks, --instances of each (16 or more), of training's mix of difficulties:
  each depth through the head   nats and median rank of the true answer (the logit lens)
  linear probes                 for the latent state of a task, on instances that they were not fitted to; beside each the same
                                probe on first weights and on shuffled labels, what the token's id alone tells, and a control
                                task: a random label for each id
  CKA                           linear, debiased, between depths of the run and, with --against, those of another run
  attention                     from the token before an answer to the one that decides it, by head, beside chance
  routing                       what a chosen expert tells of state, task and token, beside labels of other instances; and
                                which expert for which state
  experts and tasks             what the experts of a layer tell of each task, and which expert is for which
  silenced experts              what each one's absence costs each task, beside the other experts of its layer
The last three are of MoE runs. A run on text is asked windows of its val, the state of a token is its class (letter, space,
digit, punctuation, other), and no token is known to decide another. Only what lies above its control with all of its interval
is called so. --against names a run of the same track with the same tasks, which reads the same instances.

inspect.json (schema_version; rows to load as frames), inspect.txt and inspect.png go to RUN/inspect, where neither the record
nor its hashes know of them, or to the folder after --out.
"""

import json
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.launch.looks import INSTANCES
from harness.launch.options import PATH, SEEDS, Names, Word, Words, whole

WORDS = Words(
    "inspect", Word("against", PATH), Word("instances", whole(16), INSTANCES), Word("out", PATH), Word("seeds", SEEDS),
    names=Names("run", least=1, most=1, remedy="python -m harness inspect runs/LANE/SEED-PLAN"),
)  # fmt: skip
SUMMARY = "what a run's model computes inside: depths, probes, attention, and what its experts are for"


def main(arguments: list[str]) -> int:
    own = WORDS.read(arguments)
    (run,) = own.names
    if own.seeds:
        _refuse_seeds(run, own.seeds)
    found = inspect(run, own.against, own.instances)
    from harness.report.inspect.text import as_text

    print(as_text(found), end="")
    out = own.out or run / "inspect"
    _write(out, found)
    print(f"\nwritten to {out}: inspect.json, inspect.txt, inspect.png")
    return 0


def inspect(run: Path, against: Path | None, instances: int) -> dict[str, Any]:
    """What inspect.json holds. `against`: another run; `instances`: of each task. Raises: UserError."""
    import torch

    from harness.data.tokenizer import TOKENIZERS
    from harness.evaluate.inspect.inspected import inspected, untrained
    from harness.evaluate.inspect.sample import samples_of
    from harness.launch.run_model import load_run_model
    from harness.plan.stored import read_plan
    from harness.record.inspected import INSPECT_VERSION
    from harness.record.read import read_record
    from harness.train.determinism import set_torch

    read_record(run)  # says what there is instead
    plan = read_plan(run / "plan.yaml")
    if against is not None:
        _refuse_other(plan, against)
    set_torch()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, other = (path and load_run_model(path).to(device) for path in (run, against))
    samples = samples_of(plan, instances, TOKENIZERS)
    found = inspected(model, untrained(plan).to(device), samples, other, lambda text: print(f"{text} ...", flush=True))
    whose = {"run": _facts(run), "against": against and _facts(against)}
    return {"schema_version": INSPECT_VERSION} | whose | found


def _refuse_seeds(run: Path, seeds: list[int]) -> None:
    """Raises: UserError, unless the run's own seed is all that is asked."""
    from harness.record.read import read_record

    if (own := read_record(run).seed) != seeds[0] or len(seeds) > 1:
        asked = ",".join(map(str, seeds))
        raise UserError(
            f"{run} is a run with seed {own}, seeds {asked} were asked",
            "inspect each seed's run by its folder, or start a study that inspects the runs of all its seeds:\n"
            f"  make study NAME=routing-by-task SEEDS={asked}",
        )


def _refuse_other(plan, against: Path) -> None:
    """Raises: UserError for a run that cannot be asked the same instances."""
    from harness.plan import parts
    from harness.plan.stored import read_plan
    from harness.record.read import read_record

    read_record(against)
    other = read_plan(against / "plan.yaml")
    remedy = f"name a run of track {plan.track.name} with the same tasks, or leave --against out"
    if other.track.name != plan.track.name:
        raise UserError(f"{against} is of track {other.track.name}, this run of {plan.track.name}", remedy)
    keys = [{name: parts.keys_of(each, "task", name) for name in each.data.tasks} for each in (plan, other)]
    if keys[0] != keys[1]:
        differing = sorted({*keys[0], *keys[1]} - {name for name in keys[0] if keys[0][name] == keys[1].get(name)})
        raise UserError(f"{against} was trained on other tasks: {', '.join(differing)} differ", remedy)
    if plan.data.shards != other.data.shards:
        raise UserError(f"{against} was trained on other shards: {other.data.shards or 'its track has its own'}", remedy)
    if other.model.sequence_length < plan.model.sequence_length:
        longest = f"{other.model.sequence_length} tokens, this run {plan.model.sequence_length}"
        raise UserError(f"{against} reads sequences of {longest}", "name it first, and this run after --against")


def _facts(run: Path) -> dict[str, Any]:
    from harness.record.read import read_record

    record = read_record(run)
    return {
        "folder": str(run), "lane": record.lane, "track": record.track, "seed": record.seed, "plan_hash": record.plan_hash,
        "content_sha256": record.content_sha256, "weights_sha256": record.artifacts["weights.safetensors"].sha256,
    }  # fmt: skip


def _write(out: Path, found: dict[str, Any]) -> None:
    from harness.files import replace_atomically
    from harness.record.inspected import INSPECT_FILE
    from harness.report.inspect.figure import draw_inspect
    from harness.report.inspect.text import as_text

    try:
        replace_atomically(out / INSPECT_FILE, [json.dumps(found, indent=1, allow_nan=False).encode(), b"\n"])
        replace_atomically(out / "inspect.txt", [as_text(found).encode()])
        draw_inspect(found, out / "inspect.png")
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error.strerror or error}", "name another folder with --out") from error
