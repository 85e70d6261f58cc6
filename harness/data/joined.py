"""Several arrays of tokens read as one: what lets a stream lie in many memory-mapped files."""

from collections.abc import Sequence

import numpy as np


class Joined:
    """The parts one after the other: uint16, 1-D, read-only. Nothing is copied before it is read."""

    def __init__(self, parts: Sequence[np.ndarray]):
        self.parts = [part for part in parts if len(part)]
        self.starts = np.concatenate([[0], np.cumsum([len(part) for part in self.parts], dtype=np.int64)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens start .. stop - 1; a view where they lie in one part."""
        assert 0 <= start <= stop <= len(self), (start, stop, len(self))
        part = int(np.searchsorted(self.starts, start, "right")) - 1
        pieces = []
        while start < stop:
            begin = int(self.starts[part])
            end = min(stop, int(self.starts[part + 1]))
            pieces.append(self.parts[part][start - begin : end - begin])
            start, part = end, part + 1
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, np.uint16), *pieces])
