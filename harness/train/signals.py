"""Ctrl-C and SIGTERM end a run after the step in flight, with a checkpoint; a second one ends it at once."""

import os
import signal
from types import FrameType

NOTICE = b"\nstopping after this step, with a checkpoint (again: at once) ...\n"


class Stop:
    """`requested` turns true at the first signal; `number` is which one."""

    def __init__(self) -> None:
        self.requested, self.number = False, 0
        self.previous: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested, self.number = True, number
        os.write(1, NOTICE)  # print() is not safe inside a signal handler
