"""Reads a run's router health and says what is wrong, why it matters, and what to type next, in order.

usage: python -m harness doctor RUN [--control RUN] [--json]
       python -m harness doctor --thresholds              every number that is compared with, and where it comes from
       make doctor RUN=runs/tiny-moe-16e/1-0123abcd

RUN is a run folder: finished, stopped by health, or still going. It is only read. --control names a hash-router twin (the
same words with model.router=hash balance=none unranked=true) whose bits per byte the learned routing must beat. Looked for:
dominant, dead and hot experts, collapse layer by layer, a router gradient below the experts' number format, balancing that
fights, updates of the wrong size, and routing that means nothing. Exit status 0 healthy, 1 sick, 3 not known yet: before a
first health window.
"""

import json

from harness.errors import UserError
from harness.launch.options import SWITCH, TEXT, Names, Word, Words

NOT_KNOWN_YET = 3
RUN = "python -m harness doctor runs/LANE/SEED-PLAN"
WORDS = Words(
    "doctor", Word("control", TEXT), Word("json", SWITCH, False), Word("thresholds", SWITCH, False),
    names=Names("run", TEXT, most=1, remedy=RUN),
)  # fmt: skip
SUMMARY = "what is wrong with a run's router, and what to type next"


def main(arguments: list[str]) -> int:
    words = WORDS.read(arguments)
    if words.thresholds:
        from harness.doctor.thresholds import thresholds_text

        print(thresholds_text())
        return 0
    if not words.names:
        raise UserError("doctor: no run named", RUN)
    from harness.doctor.diagnose import diagnose, folder_of
    from harness.doctor.patient import read_patient
    from harness.doctor.telling import as_json, as_text

    run = read_patient(folder_of(words.names[0]))
    control = read_patient(folder_of(words.control)) if words.control else None
    found = diagnose(run, control)
    print(json.dumps(as_json(found), indent=1) if words.json else as_text(found))
    return 1 if not found.healthy else 0 if found.judged else NOT_KNOWN_YET
