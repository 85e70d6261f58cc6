"""What a call of `make gpu SET=first` carries to a machine without a network: wheels of what its image lacks, and data."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from harness.errors import UserError
from harness.launch import child
from harness.plan.lanes import ROOT

MOST_BYTES = 60 << 20
# Of what the harness imports, what an image with torch has not.
LACKS = (
    "hydra-core", "omegaconf", "antlr4-python3-runtime", "pydantic", "pydantic_core", "annotated-types", "typing-inspection",
)  # fmt: skip
NO_WHEELS = ("antlr4-python3-runtime",)  # published as source: built here
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (17, 27, 28, 31, 34)] + ["manylinux2014_x86_64"]
DATA = {  # of each call, below the mirror's root
    "1": ("text/enwiki2015-train-00.jsonl.xz", "text/enwiki2015-train-01.jsonl.xz", "text/enwiki2015-val.jsonl.xz",
          "tiktoken_cache"),
    "2": ("text/enwiki2015-train-02.jsonl.xz", "text/enwiki2015-train-03.jsonl.xz", "text/wiki.test.raw"),
}  # fmt: skip
PYTHON = "3.12"  # of such an image


def build(call: str, folder: Path, python: str, say: Callable[[str], None]) -> None:
    """`folder` gets `wheels/`, at the versions of requirements.lock, and `mirror/`, a call's half of wiki's data, from
    SPEEDRUN_MIRROR: the machine keeps what the first call brought. There, `there.sh` installs both and runs the stages.

    Raises:
        UserError: no such data or wheels, or more than MOST_BYTES together with what git tracks.
    """
    mirror = os.environ.get("SPEEDRUN_MIRROR")
    if not mirror or not Path(mirror).is_dir():
        raise UserError("SPEEDRUN_MIRROR names no folder", "set it to where text/ and tiktoken_cache/ are")
    shutil.rmtree(folder, ignore_errors=True)
    _wheels(folder / "wheels", python)
    for name in DATA[call]:
        there = folder / "mirror" / name
        there.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (Path(mirror) / name).is_dir() else shutil.copy
        copy(Path(mirror) / name, there)
    parts = {"tracked by git": _tracked(), **{name: _bytes(folder / name) for name in ("wheels", "mirror")}}
    total = sum(parts.values())
    say("\n".join(f"{size / 2**20:7.1f} MiB  {name}" for name, size in (parts | {"in all": total}).items()))
    if total > MOST_BYTES:
        aside = f"results/ is {_tracked('results') / 2**20:.1f} MiB of it and need not travel: move it away for the call"
        raise UserError(f"that is more than {MOST_BYTES >> 20} MiB", aside)


def _wheels(folder: Path, python: str) -> None:
    """Raises: UserError with what pip said."""
    pinned = dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)==(\S+)$", (ROOT / "requirements.lock").read_text()))
    known = {_plain(name): number for name, number in pinned.items()}
    folder.mkdir(parents=True)
    for name in LACKS:
        if _plain(name) not in known:
            raise UserError(f"requirements.lock pins no {name}", "make lock")
        one = f"{name}=={known[_plain(name)]}"
        how = ["wheel", "--wheel-dir"] if name in NO_WHEELS else ["download", "--dest"]
        which = [] if name in NO_WHEELS else ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
        which += [] if name in NO_WHEELS else [word for it in PLATFORMS for word in ("--platform", it)]
        words = ["--disable-pip-version-check", how[0], "--quiet", "--no-deps", how[1], str(folder), *which, one]
        ended = child.run(words, program=(*child.PROGRAM[:2], "pip"))
        if ended.status:
            raise UserError(f"no wheel of {one}: {ended.said.strip()[-300:]}", "build it elsewhere, or leave it out")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _tracked(folder: str = ".") -> int:
    """Bytes of what git tracks and has not been taken away."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sum((ROOT / name).stat().st_size for name in listed if name and (ROOT / name).is_file())
