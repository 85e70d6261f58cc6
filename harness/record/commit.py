"""The commit of a tree, in the one form that records, images and SPEEDRUN_COMMIT share. Standard library only."""

import subprocess
from pathlib import Path

DIRTY = "+dirty"
# Results and runs are made by the harness: they do not make a tree dirty.
GENERATED = (":(exclude)results", ":(exclude)runs")


def commit_of(root: Path) -> tuple[str, bool]:
    """(commit, dirty) by git. Errors: OSError without git, CalledProcessError outside a repository."""
    head = _git(root, "rev-parse", "HEAD")
    return head, bool(_git(root, "status", "--porcelain", "--", ".", *GENERATED))


def stated(commit: str, dirty: bool) -> str:
    """As SPEEDRUN_COMMIT carries both."""
    return commit + (DIRTY if dirty else "")


def parsed(statement: str) -> tuple[str, bool]:
    """The opposite of `stated`."""
    return statement.removesuffix(DIRTY), statement.endswith(DIRTY)


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()
