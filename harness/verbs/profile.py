"""Shows where a training step goes, part by part, beside the least that each part could take: a lane and its twin in turns.

usage: python -m harness profile [lane=...] [rounds=9] [out=FOLDER]
       make profile LANE=tiny-moe-16e
       make profile LANE=sotu-moe-16e SET="rounds=15 out=results/profile/here"

Both models train in this process, a step of one, then a step of the other, so that a noisy machine is noisy for both; every
round does so once as training does and once under torch.profiler. The table has a line for each part:

attention              scores and mixing; its projections are dense products
dense products         projections of attention, dense FFNs, shared experts
expert products        the routed experts' products, with what their operator does not report apart (on a GPU the activation)
                       below bf16 products are counted with quantizing, and dense FFNs with all of their operator
router                 its product, scores, selection and counts
gathers and metadata   rows sorted by expert, gathered and summed again
casts and elementwise  norms, rotations, activations, residuals, casts: what lies between products
embedding and head     look-up, final norm, logits and loss, and their gradients
optimizer: NAME        updates; gradient norms: norms and clipping before them
other operators        what the table in harness/bench/profile/parts.py does not know, by name below the table
host                   Python, dispatch, the compiler's wrappers; on a GPU all time in which no kernel ran

The times of the parts add up to the step under the profiler; a step without it stands below, and nothing is scaled. `floor` is
FLOPs over the measured peak of products or bytes over the measured bandwidth of memory, whichever is larger, from the plan's
shapes (harness/bench/profile/floors.py). `of the ratio`: what the part adds to the ratio of the two steps, which is 1 plus the
sum. Times are means over the middle half of the rounds. A lane of token files takes its steps on random tokens, unless
data.shards names others. JSON and PNG go to `out` (runs/profile). Anything else is an override of the lane's plan, and of
the twin's as far as it has the key.
"""

import json
import os
from pathlib import Path

from harness.launch.options import PATH, Word, Words, whole

WORDS = Words("profile", Word("rounds", whole(1), 9), Word("out", PATH), plan=True)
SUMMARY = "where a step goes, part by part, beside its floor: a lane and its twin"


def main(arguments: list[str]) -> int:
    own = WORDS.read(arguments)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch is imported: its profiler says when it starts and stops
    from harness.bench.profile.measured import profiled
    from harness.plan.compose import compose
    from harness.report.profile import draw
    from harness.train import machine
    from harness.train.determinism import set_torch

    plan = compose(own.plan).plan
    set_torch()
    here = machine.detect(plan).measured_again()
    found = profiled(own.plan, here, own.rounds, lambda text: print(text, flush=True))
    out = own.out or Path(plan.run.folder) / "profile"
    out.mkdir(parents=True, exist_ok=True)
    origin = here.as_origin(tuple(arguments))
    path = out / f"{plan.lane.name}.json"
    path.write_text(json.dumps(origin | found, indent=1))
    print(f"written to {path} and {draw(origin | found, path.with_suffix('.png'))}")
    return 0
