"""The one way in which this program starts another: a verb, mostly, as a process of its own that is waited for.

It has a session of its own, so that Ctrl-C on a terminal reaches this process alone. SIGINT, SIGTERM, SIGHUP and SIGUSR2 are
passed on to it, each once, and it is waited for: a run that is told to stop writes its checkpoint, whoever started it. After
its end the signal is raised here, as KeyboardInterrupt. `harness/train/signals.py` says what it means to a run.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from harness.plan.lanes import ROOT
from harness.train.signals import PASSED_ON, SIGNALS, handled, interrupt

PROGRAM = (sys.executable, "-m", "harness")
RANKS = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")  # how many, then what PROGRAM has
RECORD = "record: "  # begins the last line of a run
GRACE_S = 10.0  # between SIGTERM and SIGKILL, where time is up


def program(ranks: int) -> tuple[str, ...]:
    """What starts a verb on so many ranks of this machine."""
    return PROGRAM if ranks == 1 else (*RANKS, str(ranks), *PROGRAM[1:])


@dataclass(frozen=True)
class Ended:
    """`status`: -n where signal n ended it; `late`: its time was up; `warned`: standard error, where it was kept apart; `told`:
    that its time would be up soon."""

    status: int
    said: str
    warned: str = ""
    late: bool = False
    told: bool = False

    @property
    def record(self) -> Path | None:
        """The record that the last line of a run names. One that left early with a checkpoint names none."""
        last = self.said.rstrip().rpartition("\n")[2]
        return Path(last.removeprefix(RECORD).strip()) if last.startswith(RECORD) else None


def run(
    words: Sequence[str], *, folder: Path | None = None, program: Sequence[str] = PROGRAM,
    environment: dict[str, str] | None = None, log: Path | None = None, heard: Callable[[str], None] | None = None,
    errors: str = "joined", limit_s: float | None = None, tells: bool = False,
) -> Ended:  # fmt: skip
    """Runs it to its end.

    `folder`: of another checkout, whose code is to run; None: here, with this one's. `environment`: added to ours. What it says
    goes to the file `log`, behind what is there; else every line to `heard` as it comes. `errors`: standard error "joined" to
    that, kept "apart", or "passed" on to ours. `limit_s`: how long it may take. `tells`: a SIGUSR2 is passed on as all are,
    and said in what is returned instead of being raised.

    Raises:
        OSError: it cannot be started.
        KeyboardInterrupt: a signal was passed on.
    """
    start = log.stat().st_size if log and log.exists() else 0
    late, lines, warned, told = threading.Event(), [], [], [] if tells else None
    err = {"joined": subprocess.STDOUT, "apart": subprocess.PIPE, "passed": None}[errors]
    with open(log, "ab") if log else nullcontext(subprocess.PIPE) as out:
        how = {"folder": folder, "program": program, "environment": environment, "told": told}
        with started(words, stdout=out, stderr=err, **how) as child:
            beside = threading.Thread(target=lambda: warned.extend(child.stderr or ()), daemon=True)
            beside.start()
            with _limited(child, limit_s, late):
                for line in child.stdout or ():
                    lines.append(line)
                    if heard:
                        heard(line)
                status = child.wait()
            beside.join()
    said = log.read_bytes()[start:].decode(errors="replace") if log else "".join(lines)
    return Ended(status, said, "".join(warned), late.is_set(), bool(told))


def aloud(words: Sequence[str], tells: bool = False) -> Ended:
    """A verb here whose output is passed on. `tells`, and raises: as `run` does."""
    return run(words, heard=lambda line: print(line, end="", flush=True), errors="passed", tells=tells)


def speedrun(words: Sequence[str]) -> tuple[int, Path | None]:
    """A run, aloud: (exit status, path of its record)."""
    ended = aloud(["speedrun", *words])
    return ended.status, ended.record


@contextmanager
def started(
    words: Sequence[str], *, folder: Path | None = None, program: Sequence[str] = PROGRAM,
    environment: dict[str, str] | None = None, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    told: list[int] | None = None,
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """It goes on while the block does, and is waited for at its end. `told`: where a SIGUSR2 is noted, instead of being raised.
    Raises: as `run` does."""
    got: list[int] = []
    to_pass: list[int] = []
    hears = threading.current_thread() is threading.main_thread()  # else it stays where a terminal's signals reach it
    children: list[subprocess.Popen[str]] = []

    def pass_on() -> None:
        while children and to_pass:
            children[0].send_signal(to_pass.pop(0))

    def hear(number: int, frame: object) -> None:
        (got if told is None or number != signal.SIGUSR2 else told).append(number)
        to_pass.append(number)
        pass_on()

    try:
        with handled(hear, SIGNALS), subprocess.Popen(
            [*program, *words], cwd=folder, env=_environment(folder) | (environment or {}), start_new_session=hears,
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True, errors="replace",
        ) as child:  # fmt: skip
            children.append(child)
            pass_on()  # what came while it was being started
            yield child
    finally:
        if got:
            interrupt(got[0])


def detach(words: Sequence[str]) -> None:
    """Starts a verb that is not waited for and ends by itself. Raises: OSError where it cannot be started."""
    nowhere = subprocess.DEVNULL
    subprocess.Popen(
        [*PROGRAM, *words], env=_environment(None), start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere
    )


def _environment(folder: Path | None) -> dict[str, str]:
    """In `folder` its own code; else this checkout's, wherever this process was started from."""
    found = os.environ | {PASSED_ON: "1"}
    if folder is None:
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return found


@contextmanager
def _limited(child: subprocess.Popen[str], limit_s: float | None, late: threading.Event) -> Iterator[None]:
    def end() -> None:
        late.set()
        child.terminate()
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()

    timer = threading.Timer(limit_s, end) if limit_s is not None else None
    if timer:
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
