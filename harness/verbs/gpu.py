"""Everything that needs a GPU, as stages that can be broken off, each under its own limit.

usage: python -m harness gpu [STAGE ...] [out=FOLDER] [again] [limit=SECONDS]
       python -m harness gpu first [call=1|2] [within=SECONDS] [tokens=134086656] [out=FOLDER]
       make gpu
       make gpu SET="correctness kernels"
       make gpu SET="first call=1 within=430"
       SPEEDRUN_MIRROR=... python -m harness gpu travel call=1 out=.travel/1

correctness  edge cases of the kernels against the fp32 oracle, and the tests that need a GPU
tune         tile sizes of the shapes of `make bench` into kernels/triton/configurations.json (goes on where it was left)
kernels      ours, grouped_mm, the loop, released packages and the bound, at every shape; rows per expert; a layer's stages
formats      ours in bf16, fp8 and nvfp4 side by side
steps        whole optimizer steps of tiny-moe-16e, its twin and the loop
big-steps    optimizer steps of moe-64e and moe-256e beside their dense twin, on random tokens
profile      where a step of tiny-moe-16e and of moe-64e goes, beside its floor and the twin's
prove        tiny-moe-16e twice and once killed: equal hash chains and weights
lanes        tiny-dense, tiny-moe-16e, sotu-dense, sotu-moe-16e, one seed each
wiki-s-dense, wiki-s-moe-64e, and each in -fp8 and -nvfp4    one seed each, with WikiText and CORE at the end

`first` is for a GPU that is lent for fifteen minutes: in call 1 installed, right, facts, tiles, kernels, step, profile; in call
2 data, same-bits, lane (`tokens`: its budget). `within` is what a call may take: what is left of it bounds every stage.
`travel` builds what a call carries to a machine without a network (wheels for its `python`, 3.12 unless said, and data) and
says what it weighs; there, `sh harness/launch/gpu/there.sh CALL FOLDER OUT within=430` installs it and runs the call.

A stage that ended well for this source is not run again unless asked (`again`); one that fails or runs out of time is named,
and the others go on. `limit` shortens the limits of all. A stage ends with its table; `out` (runs/gpu) holds results.json, and
per stage a log, what it wrote, and done.json. Stages are data: harness/launch/gpu/all.yaml and first.yaml. Without a GPU the
same stages run at toy sizes, the kernels in Triton's interpreter, so that the sequence itself is known to work.
"""

from pathlib import Path

from harness.errors import UserError
from harness.launch.gpu import stages as gpu
from harness.launch.gpu.travel import PYTHON, build
from harness.launch.options import PATH, SWITCH, TEXT, Names, Word, Words, choice, whole

SUMMARY = "all that needs a GPU, in resumable stages; rehearsed at toy sizes without one"
FIRST, TRAVEL = "first", "travel"
LANE_TOKENS = 134_086_656  # one step less than wiki-s-moe-64e, so that public test sets are not scored


def main(arguments: list[str]) -> int:
    everything, first = gpu.stages("all"), gpu.stages(FIRST)
    names = Names("stage", choice(FIRST, TRAVEL, *(stage.name for stage in everything)))
    own = Words(
        "gpu", Word("out", PATH), Word("again", SWITCH, False, other="again"), Word("call", choice("1", "2")),
        Word("within", whole(1), says="within is the seconds that all may take, a whole number"),
        Word("limit", whole(1), says="limit is the seconds a stage may take, a whole number"),
        Word("tokens", whole(1), LANE_TOKENS), Word("python", TEXT, PYTHON), names=names,
    ).read(arguments)  # fmt: skip
    alone = [name for name in own.names if name in (FIRST, TRAVEL)]
    if alone and len(own.names) > 1:
        raise UserError(f"{' '.join(own.names)} together", f"ask for {alone[0]} alone")
    if own.call and not alone:
        raise UserError(f"call={own.call} without {FIRST}", f'make gpu SET="{FIRST} call={own.call}"')
    if alone == [TRAVEL]:
        if not own.call or not own.out:
            raise UserError(f"{TRAVEL} needs a call and a folder", f"python -m harness gpu {TRAVEL} call=1 out=.travel/1")
        build(own.call, own.out, own.python, print)
        return 0
    import torch

    on_gpu = torch.cuda.is_available()
    rehearsal = "no CUDA device here: rehearsing at toy sizes; no figure below means anything"
    print(torch.cuda.get_device_name() if on_gpu else rehearsal)
    if own.names == [FIRST]:
        wanted = [stage for stage in first if own.call in (None, str(stage.call))]
    else:
        wanted = [stage for stage in everything if not own.names or stage.name in own.names]
    out = own.out or Path("runs/gpu") / (FIRST if own.names == [FIRST] else "")
    results = gpu.run(
        wanted, on_gpu, out, lambda text: print(text, flush=True), again=own.again, limit_s=own.limit, within_s=own.within,
        tokens=own.tokens,
    )  # fmt: skip
    print("\n" + "\n".join(f"{name:<20}{result}" for name, result in results.items()))
    return int(gpu.failed(results))
