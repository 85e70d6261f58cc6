"""Markdown made of other people's words: what a record, a claim, a study, a plan or a baseline says is shown, never obeyed.

`text`, `code` and `link` make inline markup of a value; `row`, `item`, `paragraph` and `heading` make lines of such markup.
Rendered, a value is its own text on one line, whatever it holds: no tag, link, emphasis, second cell or new block comes of it.
That goes for CommonMark, for GitHub's tables, strikethrough and bare links, and for what GitHub does to the rendered text:
@mentions, #123, :emoji:, $mathematics$. Those know no escape but an empty comment, or a tag, that divides them.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from harness.terminal import one_line

LIVE = re.compile(
    r"""
    (?P<harmless> (?<![^=\s]) \[(?:\d+(?:,\s?\d+)*)?\] (?=[\s.;,)]) )   # as in steps=[64,128] more
    | (?P<escaped> [\\`*~\[\]] | (?<![^\W_])_                    # after a letter or digit it opens no emphasis
                 | \#(?!\w)                                     # of a heading
                 | :(?=//) | (?<=www)\. | !$ )                  # of a bare link; of an image, where a link follows
    | (?P<tag> < ) | (?P<entity> & (?=\#?\w+;) ) | (?P<mathematics> \$ )
    | (?P<divided> (?<!\w)@(?=\w) | @(?=[\w-]+\.\w) | \#(?=\d) | (?<=\bGH)-(?=\d) | :(?!\d\d:)(?=[\w+-]+:) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
DEFUSED = {
    "harmless": "{}", "escaped": "\\{}", "tag": "&lt;", "entity": "&amp;", "mathematics": "<span>$</span>",
    "divided": "{}<!-- -->",
}  # fmt: skip
OPENS_A_BLOCK = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[-+](?:[\s-]|$)|>))")


def text(value: object) -> str:
    """Inline markup that reads as the value."""
    return LIVE.sub(lambda found: DEFUSED[found.lastgroup].format(found[0]), one_line(value))


def code(value: object) -> str:
    """A code span of the value; nothing of an empty one."""
    content = one_line(value)
    if not content:
        return ""
    fence = "`" * (max(map(len, re.findall("`+", content)), default=0) + 1)
    pad = " " if "`" in (content[0], content[-1]) else ""
    return f"{fence}{pad}{content}{pad}{fence}"


def link(label: object, target: str) -> str:
    """`target` as `href` makes it."""
    return f"[{text(label)}]({target})"


def href(path: Path, out: Path) -> str:
    """The way from folder `out` to `path`, for a page or for Markdown: always a relative path, never a scheme or a query."""
    return quote(os.fsencode(Path(os.path.relpath(path, out)).as_posix()))


def row(cells: Iterable[str]) -> str:
    """A line of a table, of inline markup."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def head(names: Sequence[str], marks: Sequence[str] = ()) -> list[str]:
    """The two lines that begin a table; `marks` align its columns."""
    return [row(names), row(marks or ["---"] * len(names))]


def item(markup: str) -> str:
    return f"- {paragraph(markup)}"


def paragraph(markup: str) -> str:
    """The markup as the beginning of a block that stays a paragraph."""
    return OPENS_A_BLOCK.sub(r"\1\\", markup)


def heading(level: int, markup: str) -> str:
    return f"{'#' * level} {markup}"
