"""Times expert kernels and whole training steps, everything side by side in one run.

usage: python -m harness bench [PART ...] [set=gpu|cpu|first|toy] [rounds=9] [out=FOLDER] [base=COMMIT] [lane=...]
                              [lengths=256,1024] [ranks=4] [tokens=512]
       make bench                                     all parts
       make bench SET="steps lane=tiny-moe-16e rounds=15"
       make bench SET="kernels set=cpu"
       make bench SET=steps BASE=HEAD~1               before and after a change

correctness  edge cases of our expert MLP against the fp32 oracle, equal bits on repeat, batch invariance; exit 1 if one fails
floor    what FLOPs and bytes allow at best, kernel by kernel (set=gpu without a GPU: an H100's data sheet)
attention  causal attention by the kernel in C++ and by torch, its errors against fp64, and the times of its FLOPs at the peak;
         where a lane is named, mixers too
kernels  our expert MLP, torch's grouped_mm, the plain loop over experts, every released package that can be imported here
         (liger-kernel, scattermoe, sonic-moe) with its version, and the bound: one dense product of the same FLOPs. Forward and
         backward in ms and TFLOP/s, share of the measured matmul peak, bytes kept for the backward, error against fp32, and
         whether two runs give equal bits
rows     the same rows spread over 8 to 4,096 experts
formats  our expert MLP in bf16, fp8 and nvfp4 side by side, quantizing included: times, and errors against fp32
layer    where one layer's time goes, stage by stage
steps    whole optimizer steps of a lane, its dense twin, and the same model with the usual loop over experts; with base=COMMIT
         those of that commit and of this tree, processes in turns; loop=off leaves the loop out
busy     a step of a lane while other programs want the cores, for several ways in which threads wait; only where it is named
resources  registers, shared memory and spills of the Triton kernels by the assembler's account, with the tiles of an untuned
         GPU (sm_90); times nothing and needs no GPU; only where it is named

mixers   every attention with a lane's width, heads and keys over sequences of 256 to 8,192 tokens (lengths=...): time, FLOPs,
         time per FLOP over full attention's, bytes saved and cached, and where each crosses full attention;
         kernels.compile=on compiles them; only where it is named, or attention and a lane are
decode   reading and writing with a cache: tokens/s by batch, bytes of weights and cache, experts touched, beside the dense
         twin; run=FOLDER takes a finished run's weights; only where it is named
transport  a lane's experts spread over ranks that one process plays: bytes and time by phase for ranks=4, skew, and the rate of
         the products over rows an expert for 1 to 64 ranks of equally many tokens (tokens=...); of wires a prediction; only
         where it is named
predicted  what an H100 is expected to take for steps of lanes and for the expert MLP: assumptions, nothing measured; only
         where it is named

`set` chooses the shapes: by default those of GPUs on a GPU, small ones elsewhere. The contestants take turns, so that a noisy
machine is noisy for all of them; figures are medians, ratios medians of ratios taken round by round. JSON and PNG go to `out`
(runs/bench). Anything else is an override of the lane's plan.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.bench import SETS
from harness.errors import UserError
from harness.launch.options import PATH, TEXT, Names, Word, Words, choice, several, whole

PARTS = ("correctness", "floor", "attention", "kernels", "rows", "formats", "layer", "steps")
# what disturbs all others, times nothing, or is no step's
NAMED = ("busy", "resources", "predicted", "decode", "mixers", "transport")
LENGTHS = "whole numbers of at least 2, each once, in one list: lengths=256,1024"
WORDS = Words(
    "bench", Word("set", choice(*SETS)), Word("rounds", whole(1), 9), Word("out", PATH), Word("base", TEXT),
    Word("loop", choice("on", "off"), "on"), Word("run", PATH), Word("lengths", several(whole(2), LENGTHS)),
    Word("ranks", whole(1)), Word("tokens", whole(1)),
    names=Names("part", choice(*PARTS, *NAMED)), plan=True,
)  # fmt: skip
SUMMARY = "expert kernels against their peers, a layer stage by stage, whole steps"


def main(arguments: list[str]) -> int:
    own = WORDS.read(arguments)
    from harness.launch.before import before
    from harness.plan.compose import compose
    from harness.train import machine
    from harness.train.backends import expert_backend
    from harness.train.determinism import set_torch

    parts, words, rounds, plan = _asked(own.names, own.plan), own.plan, own.rounds, compose(own.plan).plan
    if own.base and "steps" not in parts:
        raise UserError("base= compares whole steps, which are not asked for", "add the part steps, or leave base= out")
    if "steps" in parts and not plan.model.num_experts:
        raise UserError(f"{plan.lane.name} has no experts to compare", "choose a MoE lane: lane=tiny-moe-16e")
    if own.lengths and "mixers" not in parts:
        raise UserError("lengths= is of the part mixers, which is not asked for", "name it, or attention and a lane")
    for word in ("ranks", "tokens"):
        if getattr(own, word) and "transport" not in parts:
            raise UserError(f"{word}= is of the part transport, which is not asked for", f"name it, or leave {word}= out")
    set_torch()
    here = machine.detect(plan).measured_again()
    which = own.set or ("gpu" if here.device == "cuda" else "cpu")
    out = own.out or Path(plan.run.folder) / "bench"
    out.mkdir(parents=True, exist_ok=True)
    origin = here.as_origin(tuple(arguments))
    failed = False
    for part in parts:
        if part == "steps" and own.base:
            part, found = "before", before(own.base, words, rounds, out, lambda text: print(text, flush=True))
        else:
            found = _measured(part, plan, own, here, expert_backend(plan, here), which)
        path = out / f"{part}.json"
        path.write_text(json.dumps(origin | {"part": part, "set": which} | found, indent=1))
        print(f"written to {path}{_drawn(part, path)}\n", flush=True)
        failed = failed or not found.get("passed", True)
    return int(failed)


def _asked(names: list[str], words: list[str]) -> list[str]:
    """The parts, in turn: what is said of attention when a lane is named is said of all that the lane may have."""
    if "attention" in names and "mixers" not in names and any(word.startswith("lane=") for word in words):
        at = names.index("attention") + 1
        return [*names[:at], "mixers", *names[at:]]
    return names or list(PARTS)


def _measured(part: str, plan, own: SimpleNamespace, here, backend: str, which: str) -> dict[str, Any]:
    """`own`: the words of the verb."""
    from harness.bench.attention import attention
    from harness.bench.correctness import correctness
    from harness.bench.decode import decode
    from harness.bench.floor import floor
    from harness.bench.kernel_table import arithmetic_of, formats, kernel_table, sweep
    from harness.bench.layer import breakdown
    from harness.bench.mixers import mixers
    from harness.bench.predicted import predicted
    from harness.bench.resources import resources
    from harness.bench.steps import steps, twin_of
    from harness.bench.transport import transport
    from harness.launch.busy import busy
    from harness.launch.run_model import load_run_model

    def say(text: str) -> None:
        print(text, flush=True)

    if part == "floor":
        return floor(here, which, say)
    if part == "attention":
        return attention(here, which, own.rounds, say)
    if part == "mixers":
        return mixers(plan, here, which, own.rounds, own.lengths, say)
    if part == "resources":
        return resources("toy" if which == "toy" else "gpu", say)
    if part == "decode":
        twin = twin_of(plan, own.plan)
        weights = load_run_model(own.run).state_dict() if own.run else None
        return decode({plan.lane.name: plan, twin.lane.name: twin}, here, own.rounds, weights, say)
    if part == "predicted":
        return predicted(say)
    if part == "busy":
        return busy(own.plan, own.rounds, say)
    if part == "steps":
        return steps(own.plan, here, own.rounds, own.loop == "on", say)
    if backend == "torch" and arithmetic_of(here).name == "full" and here.compiled:
        backend = "inductor"  # the lane emulates bf16, which that backend refuses; the kernels are timed in fp32
    if part == "transport":
        return transport(plan, here, backend, which, own.rounds, own.ranks, own.tokens, say)
    if part == "correctness":
        both = ("full", "native") if here.arithmetic == "native" else ("full",)
        return correctness(here.device, backend, both, which, say)
    tables = {"kernels": kernel_table, "rows": sweep, "formats": formats, "layer": breakdown}
    return tables[part](here, backend, which, own.rounds, say)


def _drawn(part: str, path: Path) -> str:
    from harness.report.bench import DRAWINGS

    if part not in DRAWINGS:
        return ""
    return f" and {DRAWINGS[part](json.loads(path.read_text()), path.with_suffix('.png'))}"
