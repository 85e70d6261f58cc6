"""Whether all ranks of a run are of one run: the same words and plan, the same code, machines of one class.

A record says each of these once. Ranks that differ in one would train on without a word, and their bits would be nobody's.
"""

import platform
import socket
from dataclasses import replace

from harness.errors import UserError
from harness.plan.compose import Composed
from harness.plan.fingerprint import plan_hash
from harness.ranks import Ranks
from harness.record.provenance import provenance
from harness.train.machine import NAMED, Machine

CODE = "check out one commit on all machines, or start the run from a folder that all of them see"
REMEDIES = {  # in the order in which a difference is looked for
    "words": "start all ranks with the same words",
    "commit": CODE,
    "source": CODE,
    "plan": CODE,
    "versions": "install requirements.lock on all machines, or use one image",
    "hardware class": "start it on machines of one kind (hydra.launcher.constraint=... on Slurm), with one OMP_NUM_THREADS",
}


def refuse_other_runs(composed: Composed, ranks: Ranks) -> None:
    """Raises: UserError on all ranks where one of them has other words, another plan or other code."""
    if ranks.world == 1:
        return
    origin = provenance(composed.overrides)
    _refuse_different(ranks, {
        "words": " ".join(origin.overrides), "commit": origin.commit, "source": origin.source_sha256[:12],
        "plan": plan_hash(composed.plan)[:8], "versions": ", ".join(f"{k} {v}" for k, v in origin.versions.items()),
    })  # fmt: skip


def refuse_other_machines(found: Machine, first: Machine, ranks: Ranks) -> None:
    """`found`: what this rank sees, `first` what the first one does. Raises: UserError on all ranks where bits would differ."""
    if found.device == "cpu" and platform.machine() not in NAMED:  # a measurement may say this here and that there
        found = replace(found, arithmetic=first.arithmetic)
    _refuse_different(ranks, {"hardware class": found.hardware_class})


def _refuse_different(ranks: Ranks, mine: dict[str, str]) -> None:
    everyones = ranks.everyones_values((socket.gethostname(), mine))
    host, first = everyones[0]
    for name in (name for name in REMEDIES if name in mine):
        for rank, (there, theirs) in enumerate(everyones):
            if theirs[name] != first[name]:
                raise UserError(
                    f"ranks of one run differ in {name}: {theirs[name]!r} on rank {rank} ({there}), {first[name]!r} on rank 0 "
                    f"({host})",
                    REMEDIES[name],
                    said_elsewhere=not ranks.is_first,
                )
