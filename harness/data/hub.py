"""Files of data sets on the Hugging Face Hub, kept in the cache under repository, revision and name.

A file is checked by its sha256: the one that a track states, else the one that the hub states for that revision (Git LFS keeps
it), which is noted beside the file on first use and must be the same ever after. A mirror is asked before the hub. The hub's
library takes a download that breaks off up again a few times; what it cannot finish leaves nothing behind, and a file that is
finished is kept: a set of many files goes on after the last whole one.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.data.artifact import Progress, set_aside, using
from harness.data.cache import cache_folder
from harness.errors import NO_DOWNLOAD, UserError
from harness.files import file_sha256, replace_atomically

TIMEOUT_S = 10.0  # without an answer from the hub
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Checked:
    path: Path
    sha256: str


def expand(name: str) -> list[str]:
    """`x_{000002..000104}.bin` as names with every number of the range, as wide as its first; any other name alone."""
    found = RANGE.search(name)
    if not found:
        return [name]
    first, last = int(found[1]), int(found[2])
    return [name[: found.start()] + f"{n:0{len(found[1])}d}" + name[found.end() :] for n in range(first, last + 1)]


def fetch(hub: str, name: str, sha256: str = "", progress: Progress | None = None) -> Checked:
    """A file of `hub` ("REPOSITORY@REVISION"), checked. Hashes the file on every call: under a second for 200 MB.

    Raises UserError naming what is missing when neither cache, mirror nor hub has the file with the right bytes.
    """
    repository, _, revision = hub.partition("@")
    folder = cache_folder() / "hub" / repository / revision
    path, note = folder / name, folder / f"{name}.sha256"
    with using(folder):
        stated = sha256 or (note.read_text().strip() if note.exists() else "")
        found = file_sha256(path) if path.exists() else ""
    if found and found == stated:
        return Checked(path, found)
    if found and stated:
        bad = set_aside(path)
        if progress:
            progress(f"{path} had sha256 {found} instead of {stated}: moved to {bad}")
    copy = _of_mirror(name)
    stated = stated or _stated_by_hub(repository, revision, name)
    if copy is not None:
        _copy(copy, path)
    else:
        if progress:
            progress(f"fetching {name} of {repository}")
        _download(repository, revision, name, folder)
    return _checked(path, note, name, stated, str(copy or f"the hub ({hub})"))


def _checked(path: Path, note: Path, name: str, stated: str, origin: str) -> Checked:
    found = file_sha256(path)
    if found != stated:
        bad = set_aside(path)
        raise UserError(
            f"{name} from {origin} has the wrong sha256: expected {stated}, found {found}; set aside as {bad}",
            "fetch it again, from another mirror if it stays wrong",
        )
    with using(note.parent):
        replace_atomically(note, [f"{found}\n".encode()])
    return Checked(path, found)


def _of_mirror(name: str) -> Path | None:
    mirror = os.environ.get("SPEEDRUN_MIRROR", "")
    path = Path(mirror).expanduser() / name
    return path if mirror and "://" not in mirror and path.exists() else None


def _copy(source: Path, path: Path) -> None:
    with using(path.parent), source.open("rb") as file:
        replace_atomically(path, iter(lambda: file.read(1 << 24), b""))


def _stated_by_hub(repository: str, revision: str, name: str) -> str:
    """The sha256 that the hub keeps of the file. UserError where it cannot be asked or states none."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository, name, repo_type="dataset", revision=revision, endpoint=os.environ.get("HF_ENDPOINT"))
    with _asking(repository, name):
        etag = get_hf_file_metadata(url, timeout=TIMEOUT_S).etag or ""
    if not SHA256.fullmatch(etag):
        raise UserError(f"the hub states no sha256 of {name} in {repository}@{revision}", "state it in the track's files")
    return etag


def _download(repository: str, revision: str, name: str, folder: Path) -> None:
    from huggingface_hub import hf_hub_download

    with using(folder), _asking(repository, name):
        hf_hub_download(
            repository, name, repo_type="dataset", revision=revision, local_dir=folder,
            endpoint=os.environ.get("HF_ENDPOINT"), etag_timeout=TIMEOUT_S,
        )  # fmt: skip


@contextmanager
def _asking(repository: str, name: str) -> Iterator[None]:
    """Turns what the hub's library raises into the sentence that a user can act on. Its HTTP errors derive from those of the
    HTTP library it happens to use, and its transfers raise RuntimeError."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        yield
    except (*HfHubHTTPError.__bases__, EntryNotFoundError, RuntimeError) as error:
        why = str(error).strip().splitlines()
        raise UserError(
            f"cannot fetch {name} of {repository} from the hub: {type(error).__name__}: {why[0] if why else 'no reason given'}",
            f"try again, set HF_ENDPOINT to a hub that can be reached, or put the file at {name} below a folder and set "
            f"SPEEDRUN_MIRROR to it; {NO_DOWNLOAD}",
        ) from error
