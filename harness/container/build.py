"""The image: built from the Containerfile with the commit of this tree stated inside."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from harness.container.engine import TAG, Engine, Image
from harness.errors import UserError
from harness.record.commit import UNKNOWN, commit_of, stated


def build(engine: Engine, base: str | None) -> Image:
    """Builds and tags the image. `base` replaces the Containerfile's own BASE.

    PIP_CONF (a pip.conf of the caller's) is mounted as a secret for the set-up step, so that a package index of one's own
    needs no mention in the Containerfile and leaves no trace in the image. BUILD_WITH holds further words for the engine.

    Raises: UserError when the build fails or PIP_CONF is no file.
    """
    words = ["--tag", TAG, "--build-arg", f"SPEEDRUN_COMMIT={this_tree()}"]
    words += ["--build-arg", f"BASE={base}"] if base else []
    if os.environ.get("PIP_CONF"):
        pip_conf = Path(os.environ["PIP_CONF"]).expanduser()
        if not pip_conf.is_file():
            raise UserError(f"PIP_CONF={pip_conf} is no file", "give the path of a pip.conf, or leave it out")
        words += ["--secret", f"id=pip,src={pip_conf.resolve()}"]
    engine.build(words + shlex.split(os.environ.get("BUILD_WITH", "")))
    image = built(engine)
    print(f"image: {TAG} sha256:{image.id} ({engine.name}, commit {image.environment['SPEEDRUN_COMMIT']})", flush=True)
    return image


def built(engine: Engine) -> Image:
    """Raises: UserError where the engine does not have the image yet."""
    image = engine.image()
    if image is None:
        raise UserError(f"{engine.name} has no image {TAG}", f"make container ENGINE={engine.name}")
    return image


def this_tree() -> str:
    """The working folder's commit as SPEEDRUN_COMMIT states it."""
    try:
        return stated(*commit_of(Path.cwd()))
    except (OSError, subprocess.CalledProcessError) as error:
        why = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        print(f"note: the commit of this tree is not known: {why[0] if why else 'git says nothing'}", file=sys.stderr)
        return UNKNOWN
