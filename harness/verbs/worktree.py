"""A commit of this repository checked out beside it, for as long as something runs there."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.plan.lanes import ROOT


@contextmanager
def worktree(ref: str) -> Iterator[Path]:
    """The root of a clean checkout of `ref`. Errors: UserError when there is no git here or no such commit in it."""
    with tempfile.TemporaryDirectory(prefix="worktree-") as home:
        tree = Path(home) / "tree"
        _git(ref, "worktree", "add", "--detach", "--force", str(tree), f"{ref}^{{commit}}")
        try:
            yield tree
        finally:
            _git(ref, "worktree", "remove", "--force", str(tree))


def _git(ref: str, *words: str) -> None:
    try:
        subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise UserError(f"commit {ref} cannot be checked out here: {why}", "git fetch --all --tags, or a full clone") from error
