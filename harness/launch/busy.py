"""How long a training step takes while other programs want the cores, for several ways in which torch's threads wait.

Each round has a process for each way, one after the other, which takes its steps alone, then beside one and beside two programs
that do nothing but spin. The fair share of t threads, where n more want t cores, is t / (t + n) of them.
"""

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness.errors import UserError
from harness.launch import child
from harness.train.determinism import SPINS, keep_freed_memory, set_environment, set_torch

# Values of GOMP_SPINCOUNT: the first is libgomp's own, the last what OMP_WAIT_POLICY=passive means.
WAYS = ("300000", "50000", "10000", SPINS, "1000", "300", "0")
COMPETITORS = (0, 1, 2)
WARM, STEPS = 3, 4
START_S = 1.0  # until a program that was started spins
PROGRAM = (*child.PROGRAM[:1], "-c", "import sys; from harness.launch.busy import tell; tell(sys.argv[1:])")
SPIN_S = 120.0  # a program that spins ends by itself, whatever becomes of us


def busy(words: list[str], rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of single steps by GOMP_SPINCOUNT and number of competitors; `words` override the plan.

    Raises:
        UserError: a process that measures failed.
    """
    seconds: dict[str, dict[str, list[float]]] = {way: {str(n): [] for n in COMPETITORS} for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            ended = child.run(words, program=PROGRAM, environment={"GOMP_SPINCOUNT": way}, errors="passed")
            if ended.status:
                raise UserError(f"a process that measures steps ended with status {ended.status}", "its own words stand above")
            found = json.loads(ended.said.splitlines()[-1])
            for n, steps in found["seconds"].items():
                seconds[way][n] += steps
    say(table(seconds, found["threads"]))
    return {"rounds": rounds, "threads": found["threads"], "seconds": seconds}


def tell(words: list[str]) -> None:
    """Prints `threads`, and `seconds` of single steps by number of competitors."""
    set_environment()
    keep_freed_memory()
    import torch

    from harness.data.corpora import load_for
    from harness.plan.compose import compose
    from harness.ranks import Ranks
    from harness.train.machine import detect
    from harness.train.session import Session

    set_torch()
    plan = compose(words).plan
    session = Session(plan, detect(plan), Ranks(0, 1), load_for(plan))
    session.prepare_products()
    for index in range(WARM):
        session.step(index)
    print(json.dumps({"threads": torch.get_num_threads(), "seconds": {n: beside(n, session) for n in COMPETITORS}}))


def beside(competitors: int, session) -> list[float]:
    """Seconds of single steps while as many programs spin."""
    seconds = []
    with competing(competitors):
        for index in range(STEPS):
            start = time.perf_counter()
            session.step(index)
            seconds.append(time.perf_counter() - start)
    return seconds


@contextmanager
def competing(programs: int) -> Iterator[list[multiprocessing.process.BaseProcess]]:
    """They belong to our session: Linux gives a session its share of the cores before it shares that among its threads."""
    spinning = [multiprocessing.get_context("spawn").Process(target=spin, daemon=True) for _ in range(programs)]
    try:
        for program in spinning:
            program.start()
        time.sleep(START_S if programs else 0)
        yield spinning
    finally:
        for program in spinning:
            program.terminate()
            program.join()


def spin() -> None:
    end = time.monotonic() + SPIN_S
    while time.monotonic() < end:
        pass


def table(seconds: dict[str, dict[str, list[float]]], threads: int) -> str:
    """Markdown, medians in ms; the last row is what a fair share of the cores would make of the harness's step alone."""
    lines = ["| GOMP_SPINCOUNT | alone | beside one | beside two |", "|---|---|---|---|"]
    for way, by_number in seconds.items():
        lines.append(
            f"| {way} | " + " | ".join(f"{1e3 * statistics.median(steps):,.0f}" for steps in by_number.values()) + " |"
        )
    alone = 1e3 * statistics.median(seconds[SPINS]["0"])
    lines.append("| fair share | " + " | ".join(f"{alone * (threads + n) / threads:,.0f}" for n in COMPETITORS) + " |")
    return "\n".join(lines)
