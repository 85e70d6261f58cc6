"""`python -m harness.sabotage FAULT verb ...`: the program with one fault in it; `none` is the program as it is."""

import sys

from harness.sabotage.faults import FAULTS, NONE
from harness.sabotage.program import program

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in (NONE, *FAULTS):
        sys.exit(f"error: unknown fault {name!r}\n  known: {', '.join([NONE, *FAULTS])}")
    sys.exit(program(name, sys.argv[2:]))
