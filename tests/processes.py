"""Processes of their own that begin with torch and the harness imported: what a test kills, limits, or joins to ranks.

`run` is to code what `micro.python` is, less the seconds of imports: a server that has imported, and done nothing else, is
forked. What depends on how Python starts, or on what it has not imported, is no case for it.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.sabotage.program import PRELOAD

ROOT = Path(__file__).resolve().parents[1]
# What `micro.no_figures` does, the program, and the two as one to be started instead of `child.PROGRAM`.
NO_FIGURES = "import harness.launch.sinks; harness.launch.sinks.show_at_end = lambda run: None\n"
MAIN = "import sys; from harness.__main__ import main; sys.exit(main(sys.argv[1:]))"
UNDRAWN = (sys.executable, "-c", NO_FIGURES + MAIN)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(list(PRELOAD))  # one server serves these and the runs of `tests.sabotage`


def run(code: str, *arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code with these arguments to its end: exit status (-n of signal n) and what it said."""
    (done,) = run_together([environment], code, *arguments, timeout=timeout)
    return done


def run_ranks(
    world: int, code: str, *arguments: str, timeout: float = 120, **environment: str
) -> list[subprocess.CompletedProcess[str]]:
    """The same code as every rank of a group, with what `torchrun` tells each of them in its environment, and `environment`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world)}
    ranks = [environment | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
    return run_together(ranks, code, *arguments, timeout=timeout)


def run_together(
    environments: list[dict[str, str]], code: str, *arguments: str, timeout: float
) -> list[subprocess.CompletedProcess[str]]:
    """One process for each environment, all at once. What is still going after `timeout` seconds is killed, and said to be."""
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / str(i) for i in range(len(environments))]
        words = [(code, arguments, environment, str(place)) for environment, place in zip(environments, places)]
        children = [CONTEXT.Process(target=_child, args=each) for each in words]
        for child in children:
            child.start()
        for child in children:
            child.join(timeout)
        late = [child for child in children if child.is_alive()]
        for child in late:
            child.kill()
            child.join()
        said = [[place.with_suffix(end).read_text() for end in (".out", ".err")] for place in places]
    assert not late, f"{len(late)} of {len(children)} processes still ran after {timeout} s: {said}"
    return [subprocess.CompletedProcess(code, child.exitcode, *texts) for child, texts in zip(children, said)]


class Started:
    """What `harness.launch.child` and its callers ask of a `subprocess.Popen`. What it says is there at its end.

    The server says once how a process ended. Of two threads that ask it, as those that read standard output and error do, one
    would hear 255: so one thread of its own asks, and all others wait for that.
    """

    def __init__(self, process: BaseProcess, place: Path):
        self.process, self.place = process, place
        self.asking = threading.Thread(target=process.join, daemon=True)
        self.asking.start()

    @property
    def stdout(self) -> Iterator[str]:
        self.wait()
        yield from self.place.with_suffix(".out").read_text().splitlines(keepends=True)

    @property
    def stderr(self) -> Iterator[str]:
        self.wait()
        yield from self.place.with_suffix(".err").read_text().splitlines(keepends=True)

    def poll(self) -> int | None:
        return None if self.asking.is_alive() else self.process.exitcode

    def wait(self) -> int:
        self.asking.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


@contextmanager
def started(words: Sequence[str], **_: object) -> Iterator[Started]:
    """In the place of `child.started`: a verb in this checkout, which draws no figures."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "said"
        process = CONTEXT.Process(target=_child, args=(NO_FIGURES + MAIN, tuple(words), {}, str(place)))
        process.start()
        it = Started(process, place)
        yield it
        it.wait()


def _child(code: str, arguments: tuple[str, ...], environment: dict[str, str], place: str) -> None:
    for stream, end in ((sys.stdout, ".out"), (sys.stderr, ".err")):
        stream.flush()
        os.dup2(os.open(place + end, os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.environ |= environment
    os.chdir(ROOT)
    sys.argv = ["-c", *arguments]
    from harness.train import machine  # the server has it

    machine.GEMM_SIZE["cpu"], machine.MEASURED_S = 64, 0.0  # as micro.py has it: a run measures five peaks, in most of a second
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
