"""A table for a terminal."""

from collections.abc import Iterable, Iterator, Sequence

from harness.shown import one_line


def aligned(head: Sequence[str], rows: Iterable[Sequence[str]], last_left: bool = False) -> Iterator[str]:
    """The first column to the left, the others to the right; with `last_left` the last one to the left too."""
    lines = [head, *(list(map(one_line, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        if last_left:
            cells[-1] = line[-1].strip()
        yield f"  {'  '.join(cells)}".rstrip()
