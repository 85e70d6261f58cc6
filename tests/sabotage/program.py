"""The program with one fault in it, in this process or in a fork of one that has torch loaded already.

usage: python -m tests.sabotage.program FAULT verb ...        `none` is the program as it is

Importing torch's compiler takes longer than a micro run: a server imports it once (`multiprocessing`'s forkserver) and every
run is a fork of it, with memory, clock and patches of its own.
"""

import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import harness.launch.sinks
from harness.__main__ import main
from harness.launch.checkout import Checkout, JobFailed
from harness.launch.child import Ended
from harness.train.determinism import keep_freed_memory, set_environment
from tests.sabotage.faults import FAULTS, NONE

PRELOAD = ("tests.sabotage.preload",)


def program(fault: str, words: list[str], timed: bool = True) -> int:
    """The exit status of `harness` with the fault in it. Figures are not drawn: they take longer than a micro run. Unless
    `timed`, the machine's peaks are measured in passing, which otherwise takes as long as the run."""
    set_environment()  # before a fault imports torch
    keep_freed_memory()
    harness.launch.sinks.show_at_end = lambda run: None
    if not timed:
        from harness.train import machine

        machine.MEASURED_S = 0.0
    if fault != NONE:
        FAULTS[fault][1]()
    return main(words)


@dataclass(frozen=True)
class FaultyCheckout(Checkout):
    """This checkout with a fault patched in; what it says goes to a log, as the gate's own processes do."""

    fault: str = NONE
    timed: bool = True

    def run(self, what: str, words: list[str], log: Path) -> Ended:
        log.parent.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOAD))
        process = context.Process(target=_logged, args=(self.fault, words, str(log), self.timed))
        process.start()
        process.join()
        said = log.read_text(errors="replace") if log.exists() else ""
        if process.exitcode:
            raise JobFailed(what, process.exitcode, said)
        return Ended(0, said)


def _logged(fault: str, words: list[str], log: str, timed: bool) -> None:
    with open(log, "w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
        status = program(fault, words, timed)
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(status)


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in (NONE, *FAULTS):
        sys.exit(f"error: unknown fault {name!r}\n  known: {', '.join([NONE, *FAULTS])}")
    sys.exit(program(name, sys.argv[2:]))
