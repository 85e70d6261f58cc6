"""enwiki2015 rebuilt from its public source, bit for bit, for whoever has no mirror of it.

The source is WikiExtractor output in a public Git repository. In the files named `wiki_NN`, in sorted path order, each
`<doc id="ID" url="..." title="TITLE">` line, body, `</doc>` is an article: text = the body without leading and trailing
newlines, title with HTML entities decoded. Articles that `enwiki2015-excluded.tsv` names (they share a 13-gram with WikiText's
valid or test part or with CORE's questions) and texts under 200 characters are dropped; of those that remain, counted from 0,
index % 100 == 99 is val and the others are train. The files that come out are known by hash, so a wrong source cannot pass.
"""

import html
import json
import re
import tarfile
from collections.abc import Iterator, Sized
from pathlib import Path
from urllib.request import urlopen

from harness.data.artifact import TIMEOUT_S, Progress, set_aside, using, write_atomically
from harness.data.cache import cache_folder
from harness.errors import NO_DOWNLOAD, UserError
from harness.files import file_sha256
from harness.plan.schema import File

COMMIT = "1c0fac92f29f17c1603bfffbe864e0dfdff66897"
ARCHIVE = f"https://codeload.github.com/jason-feng/wikiVisual/tar.gz/{COMMIT}"  # about 145 MB
EXCLUDED = Path(__file__).with_name("enwiki2015-excluded.tsv")
SHORTEST = 200  # characters
VAL_EVERY = 100
FIRST_IDS = (12, 13555, 25938, 42540)  # of the four files of train: where each begins
NAME = re.compile(r"wiki_\d+")
DOCUMENT = re.compile(r'<doc id="(\d+)" url="[^"\n]*" title="([^\n]*?)">\n(.*?)\n</doc>', re.DOTALL)


def rebuilt(file: File) -> Path:
    """Where `rebuild` leaves the text of a file of the track."""
    return cache_folder() / "artifacts" / f"{file.text_sha256}.jsonl"


def rebuild(files: list[File], source: str = ARCHIVE, progress: Progress | None = None) -> None:
    """Writes the text of each file of the track (four of train, then val) into the cache. `source`: a folder (a checkout of
    COMMIT, or its `text`), a .tar.gz of it, or the URL of one.

    Raises UserError when the source cannot be read or gives other text; it is set aside then, and nothing stays half written.
    """
    excluded = excluded_ids()
    train = sorted((f for f in files if f.split == "train"), key=lambda f: f.name)
    (val,) = [f for f in files if f.split == "val"]
    parts: dict[str, list[bytes]] = {f.name: [] for f in files}
    kept = 0
    for number, content in enumerate(_wiki_files(source), 1):
        for article_id, line in articles(content):
            if article_id in excluded:
                continue
            kept += 1
            part = val if kept % VAL_EVERY == 0 else train[sum(article_id >= first for first in FIRST_IDS) - 1]
            parts[part.name].append(line)
        if progress and number % 50 == 0:
            progress(f"rebuilding enwiki2015: {number} files read, {kept:,} articles kept")
    for file in files:
        _write(file, parts.pop(file.name), source)
    if progress:
        progress(f"rebuilt enwiki2015 from {source}: {kept:,} articles")


def _write(file: File, lines: list[bytes], source: str) -> None:
    path = rebuilt(file)
    partial = path.with_name(f"{path.name}.unchecked")
    write_atomically(partial, lines)
    found = file_sha256(partial)
    if found != file.text_sha256:
        bad = set_aside(partial, path)
        raise UserError(
            f"{source} does not give the text of {file.name}: expected sha256 {file.text_sha256}, found {found}, "
            f"{len(lines):,} articles (set aside as {bad})",
            f"check out commit {COMMIT} of jason-feng/wikiVisual and prepare from that folder",
        )
    with using(path.parent):
        partial.replace(path)


def articles(content: str) -> Iterator[tuple[int, bytes]]:
    """(id, line of JSON) of each article of a `wiki_NN` file that is long enough."""
    for match in DOCUMENT.finditer(content):
        article_id, title, body = int(match[1]), html.unescape(match[2]), match[3].strip("\n")
        if len(body) >= SHORTEST:
            entry = {"id": article_id, "title": title, "text": body}
            yield article_id, json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def excluded_ids() -> set[int]:
    rows = EXCLUDED.read_text().splitlines()[1:]
    return {int(row.split("\t")[0]) for row in rows}


def _wiki_files(source: str) -> Iterator[str]:
    """The text of the `wiki_NN` files in sorted path order."""
    folder = Path(source)
    if "://" not in source and folder.is_dir():
        paths = sorted(path for path in folder.rglob("wiki_*") if NAME.fullmatch(path.name))
        _refuse_empty(source, paths)
        for path in paths:
            yield path.read_bytes().decode()
        return
    found: dict[str, bytes] = {}
    try:
        opened = urlopen(source, timeout=TIMEOUT_S) if "://" in source else folder.open("rb")
        with opened as stream, tarfile.open(fileobj=stream, mode="r|gz") as archive:
            for member in archive:
                if member.isfile() and NAME.fullmatch(Path(member.name).name):
                    found[member.name] = archive.extractfile(member).read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UserError(
            f"cannot read {source}: {type(error).__name__}: {error}",
            "set SPEEDRUN_MIRROR to a folder that has the files, or name a checkout or an archive of the public source: "
            f"python -m harness prepare wiki --from PATH; {NO_DOWNLOAD}",
        ) from error
    _refuse_empty(source, found)
    for name in sorted(found):
        yield found.pop(name).decode()


def _refuse_empty(source: str, found: Sized) -> None:
    if not found:
        raise UserError(f"{source} holds no files named wiki_NN", f"check out commit {COMMIT} of jason-feng/wikiVisual")
