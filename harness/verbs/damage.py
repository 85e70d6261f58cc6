"""Interferes with a finished run's routers, and says what that costs: which experts are needed, and what a router's drift does.

usage: python -m harness damage RUN [--out FOLDER]
       make damage RUN=runs/sotu-moe-16e/1-0123abcd
       python -m harness damage --from FOLDER         checks a damage.json's hash, and draws its page again

Costs are nats a token more, with intervals over windows of val (or over test instances of the track's tasks), half of those
that `make atlas` reads. All of it is read in fp32, FFNs of nvfp4, mxfp4 and the like as in training.
  removed      a share of the experts (25, 50, 75%: the coldest, random ones, the busiest) is never chosen, the next best are;
               in all MoE layers at once, and of a run that kept checkpoints in each one alone too
  exchanged    who would go to one of them goes to another one of them; the router chooses as before
  transplants  the router of a checkpoint that the run kept, its weights and biases, in the model at the end: in each layer,
               and in all at once. Step 0 is the untrained router. run.checkpoint_steps=[...] keeps checkpoints, and moves no
               bit
Beside each cost stands what might have foretold it. Of removed and exchanged experts: their share of the load, of the length
of what all experts add, of the weights. Of a checkpoint's router: how many sets are others than at its step (1 - Jaccard), how
many chosen experts it would exchange where it is put, how far the layer's inputs moved, the divergence of the loads and of
their unevenness, the distance of the router's weights and of all parameters. `make study NAME=damage SEEDS=1,2,3` asks which of
them foretells best.

Written: RUN/damage/damage.json (typed, with a hash of itself), damage.txt, damage.png. The same run gives the same bytes.
"""

from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.launch.options import FOLDER, PATH, Names, Word, Words

WORDS = Words(
    "damage", Word("out", PATH), Word("from", FOLDER),
    names=Names("run", least=0, most=1, remedy="python -m harness damage runs/LANE/SEED-PLAN"),
)  # fmt: skip
PART = 2  # of the text that receipts are taken on, what is read here
SEED = 0  # of which experts are random ones, and of who is exchanged with whom
SUMMARY = "what interfering with a run's routers costs: experts removed or exchanged, earlier routers put in"


def main(arguments: list[str]) -> int:
    from harness.record.damaged import DAMAGE_FILE, read_damage, write_damage

    own = WORDS.read(arguments)
    drawn_from = getattr(own, "from")
    if bool(own.names) == bool(drawn_from):
        raise UserError("damage takes one run, or a folder after --from", "python -m harness damage runs/LANE/SEED-PLAN")
    out = drawn_from or own.out or own.names[0] / "damage"
    try:
        if not drawn_from:
            write_damage(out / DAMAGE_FILE, damage(own.names[0]))
        return _show(read_damage(out / DAMAGE_FILE), out)
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error.strerror or error}", "name another folder with --out") from error


def damage(run: Path) -> dict[str, Any]:
    """What damage.json holds, but for its hash. Raises: UserError."""
    from harness.data.tokenizer import TOKENIZERS
    from harness.evaluate.atlas.probe import probe_of
    from harness.evaluate.atlas.seen import finite, seen
    from harness.evaluate.damage.costs import Costs
    from harness.evaluate.damage.foretold import Earlier, distance
    from harness.evaluate.inspect.inspected import untrained
    from harness.launch.run_checkpoints import models_at
    from harness.launch.run_model import load_run_model
    from harness.plan.stored import read_plan
    from harness.record import checkpoint_files
    from harness.record.damaged import DAMAGE_VERSION
    from harness.record.read import read_record
    from harness.train.determinism import set_torch

    record, plan = read_record(run), read_plan(run / "plan.yaml")
    if not plan.model.moe_layers:
        twin = plan.lane.twin or "tiny-moe-16e"
        raise UserError(f"{run} is a dense run: it has no router", f"name one with experts, such as its lane's twin {twin}")
    steps = [step for step in checkpoint_files.complete(run / "checkpoints") if step < plan.steps]
    set_torch()
    probe, model = probe_of(plan, TOKENIZERS, part=PART), untrained(plan)
    model.quantize(True)  # as in its first step
    _say(f"reading {len(probe.row_N):,} tokens in {len(probe.token_BS)} windows")
    last = load_run_model(run)
    earlier = [Earlier(0, seen(model, probe), distance(model, last))]
    for step, one in zip([*steps, plan.steps], models_at(run, steps, model), strict=True):
        if step < plan.steps:
            earlier.append(Earlier(step, seen(one, probe), distance(one, last)))
    costs = Costs(last, probe, SEED, _say)
    if not all(finite(layers) for layers in (*(one.layers for one in earlier), costs.now)):
        raise UserError(f"the numbers of {run} are not finite", "its weights are damaged: train it again")
    m, weights = plan.model, record.artifacts["weights.safetensors"]
    return {
        "schema_version": DAMAGE_VERSION,
        "run": {
            "lane": record.lane, "seed": record.seed, "plan_hash": record.plan_hash, "content_sha256": record.content_sha256,
            "weights_sha256": weights.sha256,
        },
        "model": {
            "moe_layers": m.moe_layers, "experts": m.num_experts, "top_k": m.top_k, "router": m.router, "step": plan.steps,
        },
        "probe": {
            "of": record.track, "windows": len(probe.token_BS), "tokens": len(probe.row_N), "sha256": probe.sha256,
        },
        "seed": SEED, "nats": costs.nats, "loads": costs.loads(), "interferences": costs.interferences(each_layer=bool(steps)),
        "transplants": costs.transplants(earlier, plan.steps) if steps else [],
    }  # fmt: skip


def _say(text: str) -> None:
    print(f"{text} ...", flush=True)


def _show(found: Any, out: Path) -> int:
    from harness.files import replace_atomically
    from harness.report.damage.figure import draw_damage
    from harness.report.damage.text import as_text

    said = as_text(found)
    print(said, end="")
    replace_atomically(out / "damage.txt", [said.encode()])
    draw_damage(found, out / "damage.png")
    print(f"\nin {out}: damage.json, damage.txt, damage.png")
    return 0
