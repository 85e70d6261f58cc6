"""CORE's files: fetched as one archive by hash, unpacked once into the cache, checked before every use.

The archive holds one folder: `core.yaml`, two tables of random baselines, `MANIFEST.json` (bytes and sha256 of every task
file) and `eval_data/`. It is unpacked beside its final place and renamed, so a folder in the cache is whole or absent; it is
named by the archive's sha256. `CONTENTS.json`, written at unpacking, holds the hashes of the files that the manifest leaves
out, the manifest's own among them.
"""

import json
import os
import shutil
import tarfile
import time
from pathlib import Path
from uuid import uuid4

from harness.data.artifact import fetch, using
from harness.data.cache import cache_folder
from harness.errors import UserError
from harness.files import STALE_S, file_sha256

ARCHIVE = "core/core.tar.xz"
SHA256 = "797732bf13ae715e215e58cf8e71b9dad895e1d0ea35450add3ea958b95112b9"
ROOT = "core"  # the archive's one folder
MANIFEST, CONTENTS, DATA = "MANIFEST.json", "CONTENTS.json", "eval_data"


def folder(sha256: str = SHA256) -> Path:
    """The unpacked, verified bundle. Errors: UserError as `artifact.fetch`, or naming files that are missing or edited."""
    place = cache_folder() / "core" / sha256
    if not place.exists():
        _unpack(fetch(ARCHIVE, sha256), place)
    verify(place)
    return place


def verify(place: Path) -> None:
    """Checks every file of an unpacked bundle. Errors: UserError that names each file that is missing, edited or unlisted."""
    problems = _problems(place, _contents(place))
    if not problems:
        listed = {f"{DATA}/{entry['file']}": entry for entry in json.loads((place / MANIFEST).read_text())}
        problems = _problems(place, listed)
        found = {path.relative_to(place).as_posix() for path in (place / DATA).rglob("*") if path.is_file()}
        problems += [f"{name} is not in {MANIFEST}" for name in sorted(found - listed.keys())]
    if problems:
        raise UserError(
            f"CORE's files in {place} are not the published ones:\n  " + "\n  ".join(problems),
            f"rm -r {place}: it is unpacked again from the archive",
        )


def _problems(place: Path, listed: dict[str, dict]) -> list[str]:
    problems = []
    for name, entry in sorted(listed.items()):
        path = place / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif (size := path.stat().st_size) != entry["bytes"]:
            problems.append(f"{name} was edited: {entry['bytes']:,} bytes expected, {size:,} found")
        elif (found := file_sha256(path)) != entry["sha256"]:
            problems.append(f"{name} was edited: sha256 {entry['sha256']} expected, {found} found")
    return problems


def _contents(place: Path) -> dict[str, dict]:
    try:
        return json.loads((place / CONTENTS).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{place / CONTENTS} cannot be read: {error}", f"rm -r {place}: it is unpacked again from the archive"
        ) from error


def _unpack(archive: Path, place: Path) -> None:
    """Unpacks into a folder beside `place` and renames it; of two processes, the first to finish keeps its copy."""
    with using(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place.parent)
        temporary = place.with_name(f".{place.name}.{uuid4().hex}.tmp")
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")  # refuses links and paths that lead outside
            root = temporary / ROOT
            if not (root / MANIFEST).is_file():
                raise UserError(f"{archive} has no {ROOT}/{MANIFEST}", f"it is not {ARCHIVE} as published: fetch it again")
            loose = [path for path in root.iterdir() if path.is_file()]
            contents = {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in loose}
            (root / CONTENTS).write_text(json.dumps(contents, indent=1))
            verify(root)
            _sync(root)
            os.rename(root, place)
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"{archive} cannot be unpacked: {error}", "delete it: it is fetched again") from error
        except OSError:
            if not place.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _sync(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _sweep(parent: Path) -> None:
    """Removes what a killed process left half unpacked."""
    for temporary in parent.glob(".*.tmp"):
        if time.time() - temporary.stat().st_mtime > STALE_S:
            shutil.rmtree(temporary, ignore_errors=True)
