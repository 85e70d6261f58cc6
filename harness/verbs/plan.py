"""Composes, validates and counts a plan, and prints what it would take here; runs nothing.

usage: python -m harness plan [key=value ...]
       make plan LANE=sotu-moe-16e SET="optim.muon.lr=0.03"

examples
  python -m harness plan lane=tiny-dense
  python -m harness plan lane=tiny-moe-16e optim=adamw seed=2
  python -m harness plan lane=tiny-moe-16e unranked=true model.top_k=2      a frozen key needs unranked=true

A plan is recipe < lane < command line, in Hydra's grammar. Recipe groups: optim, schedule, balance. --keys lists every
key with its mark (frozen: the lane's; free; at most N: free up to the bound of ranking, above it only unranked; no bits: free,
and no bit of a run depends on it), its value, and the values that it may have.

Where others published figures of the lane's shape (lanes/anchors.yaml), they come last, each with its kind and source.
"""

from harness.launch.options import SWITCH, Word, Words

WORDS = Words("plan", Word("keys", SWITCH, False), plan=True)
SUMMARY = "the starting plan of a run: composed, checked, counted; nothing runs"


def main(arguments: list[str]) -> int:
    from harness.plan.check import values
    from harness.plan.compose import compose
    from harness.plan.fingerprint import flat, to_yaml
    from harness.plan.schema import BOUNDS, FROZEN, UNHASHED, walk

    own = WORDS.read(arguments)
    composed = compose(own.plan)
    if own.keys:
        declared = dict(walk())
        for key, value in flat(composed.plan).items():
            bound = f"at most {BOUNDS[key]:g}" if key in BOUNDS else None
            lanes_own = any(key == frozen or key.startswith(f"{frozen}.") for frozen in FROZEN)
            mark = bound or ("frozen" if lanes_own else "no bits" if key in UNHASHED else "free")
            known = values(declared[key]) if key in declared else ""
            print(f"{key:<36}{mark:<14}{f'{value}  ':<16}{known}".rstrip())
        return 0
    from harness.launch.published import published
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
