"""Where no engine can run containers: buildah with chroot isolation, on a base that debootstrap makes from Debian's packages.

Needs root, buildah and debootstrap, no namespaces and no container registry. The base is Debian with its own Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness.container.build import build
from harness.container.engine import ENGINES
from harness.container.smoke import smoke
from harness.errors import UserError

RELEASE = "bookworm"  # its Python is 3.11, as the Containerfile's own base has
BASE = f"localhost/moe-speedrun-base-{RELEASE}"
PYTHON = "python3-venv,python3-dev"


def chroot() -> int:
    """Base, image, smoke run. Storage driver vfs needs no mounts: it copies, so an image takes its size for every layer.

    Raises: UserError where a program or the right to use it is missing, or a step fails.
    """
    refuse_what_cannot_work()
    os.environ["BUILDAH_ISOLATION"] = "chroot"
    os.environ.setdefault("STORAGE_DRIVER", "vfs")
    buildah = ENGINES["buildah"]
    if buildah.image(BASE) is None:
        make_base()
    build(buildah, BASE)
    return smoke(buildah)


def refuse_what_cannot_work() -> None:
    missing = [name for name in ("buildah", "debootstrap") if not shutil.which(name)]
    if missing:
        raise UserError(
            f"not installed: {', '.join(missing)}", f"apt-get install {' '.join(missing)} (nothing is installed for you)"
        )
    if os.geteuid():
        raise UserError("debootstrap and chroot isolation need root", "sudo make container-chroot")


def make_base() -> None:
    """A minimal Debian with Python, its headers and venv, imported as the image BASE."""
    with tempfile.TemporaryDirectory(prefix="speedrun-debian-") as folder:
        system = Path(folder, "system")
        told("debootstrap", "--variant=minbase", f"--include={PYTHON}", RELEASE, str(system))
        container = told("buildah", "from", "scratch", answer=True)
        try:
            told("buildah", "add", "--quiet", container, str(system), "/")
            told("buildah", "commit", "--quiet", container, BASE)
        finally:
            told("buildah", "rm", container, answer=True)


def told(*words: str, answer: bool = False) -> str:
    """What a program printed, where it is to be read. Raises: UserError when it fails."""
    print(f"$ {' '.join(words)}", flush=True)
    done = subprocess.run(words, stdout=subprocess.PIPE if answer else None, text=True)
    if done.returncode:
        raise UserError(f"{words[0]} {words[1]} failed", "its own message is above")
    return done.stdout.strip() if answer else ""
