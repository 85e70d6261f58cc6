"""A table as text: a name on the left, and cells that end where their column does."""

from dataclasses import dataclass
from typing import Any

Column = tuple[int, str, str] | tuple[int, str, str, str]  # width, format of a number, one or two heads


@dataclass(frozen=True)
class Table:
    first: int  # width of the name
    columns: tuple[Column, ...]

    def head(self, title: str = "") -> str:
        lines = max(len(column) for column in self.columns) - 2
        rows = [[column[2 + line] if len(column) > 2 + line else "" for column in self.columns] for line in range(lines)]
        return "\n".join(self.row("" if line else title, *heads) for line, heads in enumerate(rows))

    def row(self, name: str, *values: Any) -> str:
        """Texts as they are, None as nothing; what is left out at the end is nothing too."""
        cells = [name.ljust(self.first)]
        for (width, spec, *_), value in zip(self.columns, values, strict=False):
            text = "" if value is None else value if isinstance(value, str) else format(value, spec)
            cells.append(text.rjust(width))
        return "".join(cells).rstrip()
