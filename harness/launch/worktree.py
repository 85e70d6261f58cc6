"""Another commit of this repository, checked out beside it for as long as it is needed."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.plan.lanes import ROOT


@dataclass(frozen=True)
class Worktree:
    root: Path
    commit: str


@contextmanager
def worktree(ref: str) -> Iterator[Worktree]:
    """Yields the commit that `ref` names, in a temporary folder that is removed afterwards. Nothing here is touched.

    Raises: UserError where there is no git repository, or the ref is unknown.
    """
    commit = resolve(ref)
    with tempfile.TemporaryDirectory(prefix="speedrun-base-") as folder:
        root = Path(folder) / "checkout"
        added = _git("worktree", "add", "--detach", str(root), commit)
        if added.returncode:
            raise UserError(f"cannot check out {ref}: {added.stderr.strip()}", "`git worktree prune` forgets lost ones")
        try:
            yield Worktree(root, commit)
        finally:
            _git("worktree", "remove", "--force", str(root))


def resolve(ref: str) -> str:
    """The full hash of a commit."""
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found.returncode == 0:
        return found.stdout.strip()
    if _git("rev-parse", "--git-dir").returncode:
        raise UserError(f"{ref!r} cannot be checked out: {ROOT} is no git repository", "clone the project with git")
    raise UserError(
        f"unknown commit, branch or tag {ref!r}", "`git fetch origin` gets branches, `git log --oneline` lists commits"
    )


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UserError("git is not installed", "install git") from error
