"""Small wheels laid out as those of pythonbible are, as the registry has them or damaged."""

import hashlib
import zipfile
from pathlib import Path

from harness.plan.track import Source

HEAD = """# This file was automatically generated.

from pythonbible.bible.bible import Bible
from pythonbible.books import Book
from pythonbible.versions import Version

"""


def module(written, verses, books=("GENESIS", "EXODUS"), text=None):
    """`written`: what stands between the quotes; `verses`: {number: what of it is the verse}, in their order; `text`: another
    expression in place of the literal."""
    starts, ends, at = {}, {}, 0
    for number, verse in verses.items():
        starts[number] = written.index(verse, at)
        at = ends[number] = starts[number] + len(verse)
    named = "{" + ", ".join(f"Book.{name}: {{1: 1}}" for name in books) + "}"
    said = text or f'"""{written}"""'
    arguments = ["Version.KJV", said, starts, ends, named, {}, {}, False]
    return f"{HEAD}bible = Bible({', '.join(map(str, arguments))})\n"


def chaptered(chapters, books=("GENESIS", "EXODUS")):
    """A module of `chapters`: {(number of a book, number of a chapter): verses}."""
    verses = {
        book * 1_000_000 + chapter * 1000 + number: verse
        for (book, chapter), some in chapters.items()
        for number, verse in enumerate(some, 1)
    }
    return module(" ".join(verses.values()), verses, books)


def wheel(folder: Path, name: str, content: str, member="plain_text_readers_bible.py") -> Source:
    """Written as a mirror has it; the source whose file it is, with splits that are not known."""
    package = name.replace("-", "_")
    path = folder / "pythonbible" / f"{package}-0.0.2-py3-none-any.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(zipfile.ZipInfo(f"{package}/{member}"), content)
    return Source(name, "0.0.2", hashlib.sha256(path.read_bytes()).hexdigest(), 0, "", 0, "")
