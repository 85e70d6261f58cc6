"""Paths that the C++ compiler can be told of. Inductor joins its command line with blanks and splits it again, so that g++
finds no file below a folder such as `my clones/`: those it needs are named to it through links of ours."""

import contextlib
import hashlib
import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

SPLITS = re.compile(r"""[\s'"\\]""")


def plain(path: Path) -> Path:
    """A link to `path` that has no blank or quote in it; `path` itself where it needs none, or none can be made."""
    home = Path(tempfile.gettempdir()) / f"moe-speedrun-{os.getuid()}"
    if not SPLITS.search(str(path)) or SPLITS.search(str(home)):
        return path
    home.mkdir(mode=0o700, exist_ok=True)
    found = home.lstat()
    if home.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        return path  # somebody else could turn our links elsewhere
    path.mkdir(parents=True, exist_ok=True)  # Inductor makes folders, but none at the end of a link
    link = home / hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    with contextlib.suppress(FileExistsError):  # made before, or by another process just now
        link.symlink_to(path, target_is_directory=True)
    return link


def find_torch_plainly() -> None:
    """Before torch is imported: it looks for its headers where it was found."""
    sys.path[:] = [str(plain(Path(entry))) if (Path(entry) / "torch").is_dir() else entry for entry in sys.path]


def unspeakable() -> str:
    """A folder that the compiler needs and cannot be told of, or "" where there is none."""
    import torch

    needed = (*torch.__path__, sysconfig.get_path("include"), tempfile.gettempdir())
    return next((place for place in (*needed, os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")) if SPLITS.search(place)), "")
