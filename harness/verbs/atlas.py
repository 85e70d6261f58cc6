"""Takes a router's receipt: which experts every token of a fixed text goes to, how nearly others, and what of it moves when.

usage: python -m harness atlas RUN [--against RUN2] [--last] [length=0] [--out FOLDER]
       make atlas RUN=runs/sotu-moe-16e/1-0123abcd
       make atlas RUN=runs/sotu-moe-16e/1-0123abcd AGAINST=runs/sotu-moe-16e/2-0123abcd
       python -m harness atlas --from FOLDER          checks a receipt's hashes, and draws its page again

The text is the same for every run of a track: windows evenly spaced over val, of length= tokens at most (0: as long as the
model's sequences), or test instances of its tasks. It is read in fp32 (FFNs of nvfp4, mxfp4 and the like as in training, by
their quantized weights and inputs; an expert's length is that of its unquantized weights) by every checkpoint that the run kept
(run.checkpoint_steps=[...] keeps them, and moves no bit), by the untrained model as step 0, and by the model at the end.
--last takes the end alone, of a run that kept none. Of each token and MoE layer the receipt has the scores, in fp32 and with
biases, of the K experts chosen and of the next one, of each expert its load, how often it stands beside each other one, and
the mean length of what it says. The page says
  margins           s_(K) - s_(K+1), over training; the share of tokens for which it is 0
  occupancy         N_eff = E / (1 + CV^2), and the loads as a CCDF
  turnover of sets  Jaccard of a token's set with its set later, beside that of a token half of the text away
  drift             the share of chosen experts that router weights, inputs and biases, each alone, would exchange, and all
                    together did; how much of it was at the smallest margins, and went to the next expert
  who is for what   what a chosen expert tells of a token's class and of its place in a word (of tasks: the task, the latent
                    state), also beyond what the token's id tells, beside the labels of other windows and the untrained model
  who competes      pairs that stand together, or where one is the next after the other, more often than tokens apart do
Intervals are over windows, those of one table hold together at 95%. What lies within its control is called nothing.

--against reads the receipts of both runs, of the same text, and says which of their experts are the same ones (an assignment
by how often two take the same token, made on half of the windows and asked of the other half), and how much of the sets is
shared beyond what other windows share, and tokens with the same id. It takes the first of them that is missing.

Written: RUN/atlas/receipt.safetensors, atlas.json (typed, with the hash of the arrays and of itself), atlas.txt, atlas.png;
with --against also against-LANE-SEED-PLAN.json, .txt and .png. The same checkpoints give the same bytes.
"""

from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.launch.options import FOLDER, PATH, SWITCH, Names, Word, Words, whole

WORDS = Words(
    "atlas", Word("against", PATH), Word("last", SWITCH, False), Word("length", whole(2), 0), Word("out", PATH),
    Word("from", FOLDER), names=Names("run", least=0, most=1, remedy="python -m harness atlas runs/LANE/SEED-PLAN"),
)  # fmt: skip
AGAINST_VERSION = 1
SUMMARY = "a router's receipt: sets, margins, competitors, occupancy and drift over a run's checkpoints, by hash"


def main(arguments: list[str]) -> int:
    from harness.record.atlas import read_atlas

    own = WORDS.read(arguments)
    drawn_from = getattr(own, "from")
    if bool(own.names) == bool(drawn_from):
        raise UserError("atlas takes one run, or a folder after --from", "python -m harness atlas runs/LANE/SEED-PLAN")
    if drawn_from:
        return _show(read_atlas(drawn_from), drawn_from)
    (run,) = own.names
    out = own.out or run / "atlas"
    if own.against is None:
        _write(out, *take(run, own.last, own.length))
        return _show(read_atlas(out), out)
    return _compare(run, own.against, out, own.last, own.length)


def take(run: Path, last: bool, length: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(index without hashes, arrays). `last`: the end of the run alone. Raises: UserError."""
    from harness.data.tokenizer import TOKENIZERS
    from harness.evaluate.atlas.probe import probe_of
    from harness.evaluate.atlas.receipt import receipt
    from harness.evaluate.inspect.inspected import untrained
    from harness.launch.run_checkpoints import kept_steps, models_at
    from harness.plan.stored import read_plan
    from harness.record.atlas import ATLAS_VERSION
    from harness.record.read import read_record
    from harness.train.chain import hash_weights
    from harness.train.determinism import set_torch

    record, plan = read_record(run), read_plan(run / "plan.yaml")
    if not plan.model.moe_layers:
        raise UserError(
            f"{run} is a dense run: it has no router", f"name one with experts, such as its lane's twin {_twin(plan)}"
        )
    steps = [] if last else kept_steps(run)
    set_torch()
    probe = probe_of(plan, TOKENIZERS, length)
    taken: list[dict[str, Any]] = []

    def models():
        blank = untrained(plan)
        blank.quantize(True)  # as in its first step
        taken.append({"step": 0, "sha256": None})
        yield blank
        for step, model in zip([*steps, plan.steps], models_at(run, steps, blank), strict=True):
            taken.append({"step": step, "sha256": hash_weights(model)})
            yield model

    arrays, figures = receipt(models(), [0, *steps, plan.steps], probe, lambda text: print(f"{text} ...", flush=True))
    index = {
        "schema_version": ATLAS_VERSION,
        "run": {
            "lane": record.lane, "seed": record.seed, "plan_hash": record.plan_hash, "content_sha256": record.content_sha256,
        },
        "model": {
            "moe_layers": plan.model.moe_layers, "experts": plan.model.num_experts, "top_k": plan.model.top_k,
            "router": plan.model.router, "vocabulary": plan.model.vocab_size,
        },
        "probe": {
            "of": record.track, "windows": len(probe.token_BS), "tokens": len(probe.row_N), "sha256": probe.sha256,
        },
        "taken": taken, **figures,
    }  # fmt: skip
    return index, arrays


def _twin(plan) -> str:
    return plan.lane.twin or "tiny-moe-16e"


def _write(out: Path, index: dict[str, Any], arrays: dict[str, Any]) -> None:
    from harness.record.atlas import write_atlas

    try:
        write_atlas(out, index, arrays)
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error.strerror or error}", "name another folder with --out") from error


def _show(receipt: Any, out: Path) -> int:
    from harness.files import replace_atomically
    from harness.report.atlas.figure import draw_atlas
    from harness.report.atlas.text import as_text

    said = as_text(receipt.index)
    print(said, end="")
    try:
        replace_atomically(out / "atlas.txt", [said.encode()])
        draw_atlas(receipt, out / "atlas.png")
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error.strerror or error}", "name another folder with --out") from error
    print(f"\nin {out}: receipt.safetensors, atlas.json, atlas.txt, atlas.png")
    return 0


def _compare(run: Path, against: Path, out: Path, last: bool, length: int) -> int:
    import json

    from harness.files import replace_atomically
    from harness.report.atlas.against import draw_against, said_of, short_name

    receipts = [_there_or_taken(each, last, length) for each in (run, against)]
    refuse_other_probes(*receipts)
    found = compared(*receipts)
    said, name = said_of(found), f"against-{short_name(receipts[1].index)}"
    print(said, end="")
    try:
        replace_atomically(out / f"{name}.json", [json.dumps(found, indent=1, allow_nan=False).encode(), b"\n"])
        replace_atomically(out / f"{name}.txt", [said.encode()])
        draw_against(found, out / f"{name}.png")
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error.strerror or error}", "name another folder with --out") from error
    print(f"\nin {out}: {name}.json, {name}.txt, {name}.png")
    return 0


def compared(one: Any, other: Any) -> dict[str, Any]:
    """What two receipts of one text share, as JSON data. Raises: UserError."""
    from harness.evaluate.atlas.matched import Sets, matched

    def sets(receipt: Any) -> Sets:
        m = receipt.index.model
        return Sets(str(receipt.folder), m.moe_layers, m.experts, m.top_k, receipt.steps, receipt.arrays)

    return {
        "schema_version": AGAINST_VERSION, "runs": [receipt.index.run.content() for receipt in (one, other)],
        "probe": one.index.probe.content(), "model": one.index.model.content(),
    } | matched(sets(one), sets(other))  # fmt: skip


def _there_or_taken(run: Path, last: bool, length: int) -> Any:
    """The receipt beside a run, or one that is taken now. Raises: UserError for one that was changed."""
    from harness.reading import is_there
    from harness.record.atlas import ATLAS_FILE, read_atlas
    from harness.record.read import read_record

    folder = run / "atlas"
    if not is_there(folder / ATLAS_FILE):
        _write(folder, *take(run, last, length))
    receipt, record = read_atlas(folder), read_record(run)
    if receipt.index.run.content_sha256 != record.content_sha256:
        raise UserError(f"{folder} is a receipt of another run than {run}", f"make atlas RUN={run} takes it anew")
    return receipt


def refuse_other_probes(one: Any, other: Any) -> None:
    """Raises: UserError for receipts of different texts."""
    mine, theirs = one.index.probe, other.index.probe
    if mine.sha256 != theirs.sha256:
        raise UserError(
            f"{one.folder} was taken on {mine.tokens:,} tokens of {mine.of} in {mine.windows} windows, {other.folder} on "
            f"{theirs.tokens:,} of {theirs.of} in {theirs.windows}: their texts are not the same",
            'runs of one track are comparable: take both with one length, make atlas RUN=... SET="length=128"',
        )
