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
from pathlib import Path

from tests.sabotage.program import PRELOAD

ROOT = Path(__file__).resolve().parents[1]
SPEEDRUN = "import sys; from harness.__main__ import main; sys.exit(main(sys.argv[1:]))"
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(list(PRELOAD))  # one server serves these and the runs of `tests.sabotage`


def run(code: str, *arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code with these arguments to its end: exit status (-n of signal n) and what it said."""
    (done,) = run_together([environment], code, *arguments, timeout=timeout)
    return done


def run_ranks(world: int, code: str, *arguments: str, timeout: float = 120) -> list[subprocess.CompletedProcess[str]]:
    """The same code as every rank of a group, with what `torchrun` tells each of them in its environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world)}
    ranks = [place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
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


def _child(code: str, arguments: tuple[str, ...], environment: dict[str, str], place: str) -> None:
    for stream, end in ((sys.stdout, ".out"), (sys.stderr, ".err")):
        stream.flush()
        os.dup2(os.open(place + end, os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.environ |= environment
    os.chdir(ROOT)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
