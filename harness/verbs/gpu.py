"""Everything that needs a GPU, as one sequence of stages that can be broken off; each takes 8 minutes at most.

usage: python -m harness gpu [STAGE ...] [out=FOLDER] [again] [limit=480]
       make gpu
       make gpu SET="correctness kernels"

correctness  edge cases of the kernels against the fp32 oracle, and the tests that need a GPU
tune         tile sizes of the shapes of `make bench` into kernels/triton/configurations.json (goes on where it was left)
kernels      ours, grouped_mm, the loop, released packages and the bound, at every shape; rows per expert; a layer's stages
formats      ours in bf16, fp8 and nvfp4 side by side
steps        whole optimizer steps of tiny-moe-16e, its twin and the loop
big-steps    optimizer steps of moe-64e and moe-256e beside their dense twin and the loop, on random tokens
profile      where a step of tiny-moe-16e and of moe-64e goes, beside its floor and the twin's
prove        tiny-moe-16e twice and once killed: equal hash chains and weights
lanes        tiny-dense, tiny-moe-16e, sotu-dense, sotu-moe-16e, one seed each
wiki-s-dense, wiki-s-moe-64e, and each in -fp8 and -nvfp4    one seed each, with WikiText and CORE at the end

A stage that ended well for this source is not run again unless asked (`again`); one that fails or runs out of time is named,
and the others go on. A stage ends with its table; `out` (runs/gpu) holds per stage a log, what it wrote, and done.json. Without
a GPU the same stages run at toy sizes, the kernels in Triton's interpreter, so that the sequence itself is known to work.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from harness.launch import child
from harness.launch.options import PATH, SWITCH, Names, Word, Words, choice, whole
from harness.plan.lanes import ROOT
from harness.reading import is_there, read_json
from harness.values import Model

SUMMARY = "all that needs a GPU, in resumable stages; rehearsed at toy sizes without one"
TAIL_LINES = 45  # of a stage's output, shown when it ends
INTERPRETED = "kernels.backend=triton precision.format=fp32 unranked=true"  # bf16 arithmetic is wrong in the interpreter
TOY_LANE = (
    "unranked=true model.width=32 model.layers=2 model.heads=2 model.sequence_length=32 batch.tokens_per_step=256 "
    "budget.tokens=2048 kernels.compile=off run.mlflow=off validation.steps=[4] "
)
TOY_BIG = (
    "lane=moe-64e model.ffn_width=32 model.num_experts=8 model.expert_width=16 model.top_k=2 parallel.micro_batch_tokens=128 "
    "lane.gpu=false " + TOY_LANE.replace("validation.steps=[4]", "validation.steps=[]")
)
TOY_MOE = "lane=tiny-moe-16e model.num_experts=8 model.expert_width=16 model.top_k=2 " + TOY_LANE
TOY_DENSE = "lane=tiny-dense model.ffn_width=32 " + TOY_LANE


class Marker(Model):
    """done.json of a stage: of which source, and where."""

    identity: dict[str, str | bool]


@dataclass(frozen=True)
class Stage:
    """Lines of words behind `python -m`; {out} is the stage's folder. `toy` runs where there is no GPU."""

    name: str
    real: tuple[str, ...]
    toy: tuple[str, ...]
    interpreted: bool = False  # whether the toy needs Triton's interpreter


# lanes by the words that a toy of theirs needs beside TOY_BIG
WIKI_S = {
    f"wiki-s-{architecture}{suffix}": words
    for suffix, words in {
        "": "",
        "-fp8": " precision.format=fp8 model.width=128 model.ffn_width=128 model.expert_width=128",
        "-nvfp4": " precision.format=nvfp4",
    }.items()
    for architecture in ("dense", "moe-64e")
}
LANES = ("tiny-dense", "tiny-moe-16e", "sotu-dense", "sotu-moe-16e")
BENCH, RUN = "harness bench", "harness speedrun run.folder={out}"
STAGES = (
    Stage("correctness", (f"{BENCH} correctness out={{out}}", "pytest -q -m gpu tests"),
          (f"{BENCH} correctness out={{out}} {INTERPRETED}",), interpreted=True),
    Stage("tune", ("harness tune",), ("harness tune set=toy table={out}/configurations.json",), interpreted=True),
    Stage("kernels", (f"{BENCH} floor kernels rows layer out={{out}}",),
          (f"{BENCH} floor kernels rows layer set=toy rounds=1 out={{out}} {INTERPRETED}",), interpreted=True),
    Stage("formats", (f"{BENCH} formats out={{out}}",),
          (f"{BENCH} formats set=toy rounds=1 out={{out}} {INTERPRETED}",), interpreted=True),
    Stage("steps", (f"{BENCH} steps lane=tiny-moe-16e out={{out}}",),
          (f"{BENCH} steps rounds=1 out={{out}} model.ffn_width=32 {TOY_MOE}",)),
    Stage("big-steps", tuple(f"{BENCH} steps lane={lane} rounds=5 out={{out}}/{lane}" for lane in ("moe-64e", "moe-256e")),
          (f"{BENCH} steps rounds=1 out={{out}} {TOY_BIG}",)),
    Stage("profile", tuple(f"harness profile lane={lane} rounds=5 out={{out}}" for lane in ("tiny-moe-16e", "moe-64e")),
          (f"harness profile rounds=1 out={{out}} model.ffn_width=32 {TOY_MOE}",)),
    Stage("prove", ("harness prove lane=tiny-moe-16e run.folder={out}",),
          (f"harness prove kills=1 run.folder={{out}} {TOY_MOE}",)),
    Stage("lanes", tuple(f"{RUN} lane={lane} run.mlflow=off" for lane in LANES), (f"{RUN} {TOY_DENSE}", f"{RUN} {TOY_MOE}")),
    *(Stage(lane, (f"{RUN} lane={lane} run.mlflow=off",),
            ("harness.bench.random_tokens {out}/shards 65536", f"{RUN} data.shards={{out}}/shards {TOY_BIG}{toy}"))
      for lane, toy in WIKI_S.items()),
)  # fmt: skip


def main(arguments: list[str]) -> int:
    known = {stage.name: stage for stage in STAGES}
    stages = Names("stage", choice(*known))
    own = Words(
        "gpu", Word("out", PATH, Path("runs/gpu")), Word("again", SWITCH, False, other="again"),
        Word("limit", whole(1), 480, says="limit is the seconds a stage may take, a whole number"), names=stages,
    ).read(arguments)  # fmt: skip
    import torch

    on_gpu = torch.cuda.is_available()
    rehearsal = "no CUDA device here: rehearsing at toy sizes; no figure below means anything"
    print(torch.cuda.get_device_name() if on_gpu else rehearsal)
    results = {name: _run(known[name], on_gpu, own.out / name, own.limit, own.again) for name in own.names or known}
    print("\n" + "\n".join(f"{name:<13}{result}" for name, result in results.items()))
    return int(any(not result.startswith(("passed", "done")) for result in results.values()))


def _run(stage: Stage, on_gpu: bool, out: Path, limit_s: int, again: bool) -> str:
    """One line of what came of it."""
    from harness.record.provenance import source_hash

    identity = {"source_sha256": source_hash(), "on_gpu": on_gpu}
    marker, log = out / "done.json", out / "log.txt"
    if not again and is_there(marker) and read_json(marker, Marker, f"remove {out}").identity == identity:
        return f"done before, in {marker.parent}"
    out.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    log.write_text("")
    environment = {"TRITON_INTERPRET": "1"} if stage.interpreted and not on_gpu else {}
    print(f"\n== {stage.name}", flush=True)
    start = time.monotonic()
    for line in stage.real if on_gpu else stage.toy:
        left_s = max(1.0, limit_s - (time.monotonic() - start))
        words, program = line.format(out=out).split(), child.PROGRAM[:2]
        ended = child.run(words, folder=ROOT, program=program, environment=environment, log=log, limit_s=left_s)
        if ended.status:
            break
    print("\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:]), flush=True)
    if ended.status:
        return f"FAILED ({f'ran past {limit_s} s' if ended.late else f'exit {ended.status}'}): {log}"
    if stage.name != "tune":  # which changes the table, and so the source: its marker would never match
        marker.write_text(json.dumps({"identity": identity, "seconds": time.monotonic() - start}))
    return f"passed in {time.monotonic() - start:,.0f} s: {log}"
