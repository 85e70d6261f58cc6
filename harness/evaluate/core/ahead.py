"""Work that is done before its result is asked for, by threads: what tokenizes lets go of Python's lock."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given, Made = TypeVar("Given"), TypeVar("Made")
WORKERS = 8  # at most


def ahead(work: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
    """`work` of each item, in order; some are at work before they are asked for, and what fails fails where it is. Close it to
    let go of what nobody will ask for."""
    workers = min(WORKERS, os.cpu_count() or 1)
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for it in items:
            waiting.append(pool.submit(work, it))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
