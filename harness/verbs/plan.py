"""Composes, validates and counts a plan, and prints what it would take here; runs nothing.

usage: python -m harness plan [key=value ...] [ranks=N [gpu=h100-80|h200-141|b200-180]]
       make plan LANE=sotu-moe-16e SET="optim.muon.lr=0.03"
       make plan LANE=moe-4096e RANKS=16 [SET="gpu=h100-80"]

examples
  python -m harness plan lane=tiny-dense
  python -m harness plan lane=tiny-moe-16e optim=adamw seed=2
  python -m harness plan lane=tiny-moe-16e unranked=true model.top_k=2      a frozen key needs unranked=true
  python -m harness plan lane=moe-4096e ranks=16                            what each of 16 GPUs would hold, send and take

A plan is recipe < lane < command line, in Hydra's grammar. Recipe groups: optim, schedule, balance. --keys lists every
key with its mark (frozen: the lane's; free; at most N: free up to the bound of ranking, above it only unranked; no bits: free,
and no bit of a run depends on it), its value, and the values that it may have.

Where others published figures of the lane's shape (lanes/anchors.yaml), it prints them too, each with its kind and source.

With ranks=N it says for so many GPUs, with all experts on each (parallel.ep=1) and with their share (parallel.ep=N): bytes a
rank by part, which GPUs have them, bytes on the wire, predicted seconds, and which of the two is advised. Nothing is measured
or allocated. Where neither fits it ends with status 2, and says what would. gpu=NAME looks at one kind of GPU.
"""

from harness.launch.options import SWITCH, Word, Words, choice, whole
from harness.train.named_gpus import GPUS

WORDS = Words("plan", Word("keys", SWITCH, False), Word("ranks", whole(1)), Word("gpu", choice(*GPUS)), plan=True)
SUMMARY = "the starting plan of a run: composed, checked, counted; nothing runs"


def main(arguments: list[str]) -> int:
    from harness.plan.check import values
    from harness.plan.compose import compose
    from harness.plan.fingerprint import flat, to_yaml
    from harness.plan.schema import BOUNDS, UNHASHED, walk

    own = WORDS.read(arguments)
    composed = compose(own.plan)
    if own.keys:
        declared = dict(walk())
        for key, value in flat(composed.plan).items():
            bound = f"at most {BOUNDS[key]:g}" if key in BOUNDS else None
            lanes_own = any(key == frozen or key.startswith(f"{frozen}.") for frozen in composed.plan.frozen)
            mark = bound or ("frozen" if lanes_own else "no bits" if key in UNHASHED else "free")
            known = values(declared[key]) if key in declared else ""
            print(f"{key:<36}{mark:<14}{f'{value}  ':<16}{known}".rstrip())
        return 0
    from harness.launch.published import published

    if own.ranks or own.gpu:
        from harness.launch.ranks_plan import say_plan

        if elsewhere := published(composed):  # first, since what follows may be refused
            print("\n".join([*elsewhere, ""]))
        say_plan(composed, own.ranks or 1, own.gpu)
        return 0
    from harness.launch.starting_plan import starting_plan
    from harness.model.build import count_plan
    from harness.train.machine import detect
    from harness.train.occupancy import look_alone

    print(to_yaml(composed.plan))
    look, here = look_alone(), detect(composed.plan)
    print(starting_plan(composed, here, count_plan(composed.plan), look.taken(here)))
    for line in published(composed):
        print(line)
    return 0
