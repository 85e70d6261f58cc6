"""The harness in a container.

usage: make container                     builds the image moe-speedrun from the lock, with podman, docker or buildah
       make speedrun IN=container ...     runs in it; also plan, prove, prepare, lanes and verify
       make container-smoke               a run of 8,192 bytes inside; its record must name the image
       make container-chroot              base, image and smoke run with buildah, where no engine can run containers
       python3 -m harness.container build | run VERB [word ...] | smoke | chroot

Variables of make or of the environment: ENGINE=podman|docker|buildah; BASE, the image to build on; PIP_CONF, a pip.conf for the
build; BUILD_WITH and RUN_WITH, further words for the engine; SPEEDRUN_MIRROR and SPEEDRUN_CACHE as elsewhere.
"""

from __future__ import annotations

import os
import sys

from harness.container.build import build
from harness.container.chroot import chroot
from harness.container.engine import choose
from harness.container.inside import run
from harness.container.smoke import smoke
from harness.errors import UserError

VERBS = ("build", "run", "smoke", "chroot")


def main(words: list[str]) -> int:
    """Exit status: the command's own, 2 a mistake explained."""
    if not words or words[0] not in VERBS:
        print(__doc__)
        return 0 if words[:1] in ([], ["--help"], ["-h"]) else 2
    try:
        if words[0] == "chroot":
            return chroot()
        engine = choose(os.environ.get("ENGINE"))
        if words[0] == "run":
            return run(engine, words[1:])
        if words[0] == "smoke":
            return smoke(engine)
        build(engine, os.environ.get("BASE"))
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
