"""Ctrl-C, SIGTERM (a scheduler), SIGHUP (a closed connection) and SIGUSR2 (a scheduler whose time limit is near) end a run with
a checkpoint; a second one ends it at once.

Outside the training loop they raise KeyboardInterrupt, whose argument is the signal's number: `harness.__main__` ends with
status 128 + number. A SIGHUP that is ignored when the program starts, as under `nohup`, stays ignored.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
PASSED_ON = "SPEEDRUN_PASSED_ON"  # in the environment of a child to which `harness/launch/child.py` passes signals on
ECHO_S = 0.5  # a scheduler that tells every process of a job reaches such a child twice: once itself, once by its parent
STEP = b"\nstopping after this step, with a checkpoint (again: at once) ...\n"
PASS = b"\nstopping before the next forward pass, if there is one (again: at once) ...\n"
RECORD = b"\nthe record is being written, which ends by itself (again: at once) ...\n"


def interrupt(number: int, frame: FrameType | None = None) -> None:
    """Raises: KeyboardInterrupt, that very class: `subprocess` does not wait for a child whose parent is left by it."""
    raise KeyboardInterrupt(number)


def number_of(interrupted: KeyboardInterrupt) -> int:
    """Which signal it was; Python's own handler of SIGINT says nothing."""
    return interrupted.args[0] if interrupted.args else signal.SIGINT


@contextmanager
def handled(handler, numbers: tuple[int, ...]) -> Iterator[None]:
    """Hands these signals to `handler`, and back at the end. Python lets the main thread alone do so."""
    heard: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            heard[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in heard.items():
            signal.signal(number, previous)


def interruptible():
    """The others interrupt as Ctrl-C does."""
    return handled(interrupt, SIGNALS[1:])


class Stop:
    """`requested` turns true at the first signal of a training loop; `number` is which one."""

    def __init__(self) -> None:
        self.requested, self.number, self.since = False, 0, 0.0
        self.at_once, self.notice = False, STEP

    @contextmanager
    def heard(self) -> Iterator["Stop"]:
        with handled(self._handle, SIGNALS):
            yield self

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Work without steps: the first signal, or one that came too late for the last step, ends it by KeyboardInterrupt."""
        before, self.at_once = self.at_once, True
        try:
            if self.requested:
                interrupt(self.number)
            yield
        finally:
            self.at_once = before

    @contextmanager
    def between_passes(self) -> Iterator[None]:
        """Work in which ranks wait for each other: a first signal ends nothing, but `number` is there for those who ask."""
        before, self.notice = self.notice, PASS
        try:
            yield
        finally:
            self.notice = before

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and PASSED_ON in os.environ and time.monotonic() - self.since < ECHO_S:
            return
        if self.requested or self.at_once:
            interrupt(number)
        self.requested, self.number, self.since = True, number, time.monotonic()
        try:
            os.write(1, self.notice)  # print() is not safe inside a signal handler
        except OSError:
            pass  # the terminal is gone, which is what SIGHUP says
