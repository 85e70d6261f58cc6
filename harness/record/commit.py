"""The commit of a tree, in the one form that records, images and SPEEDRUN_COMMIT share. Standard library only."""

import os
import subprocess
from pathlib import Path

DIRTY = "+dirty"
UNKNOWN = "unknown+dirty"
# Results and runs are made by the harness: they do not make a tree dirty.
GENERATED = (":(exclude)results", ":(exclude)runs")
READ = (".py", ".so", ".yaml", ".json", ".tsv")  # what a run executes or reads of the tree
# They point git at another tree than the one it is asked about.
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")


def commit_of(root: Path) -> tuple[str, bool]:
    """(commit, dirty) by git, and what a user's own settings hide from `git status` does not hide here.

    Raises:
        OSError: there is no git.
        CalledProcessError: this is no repository.
    """
    head = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", ".", *GENERATED)
    return head, bool(changed) or _ignored(root) or _not_looked_at(root)


def in_repository(root: Path) -> bool:
    """Whether a repository holds this tree, even where git cannot be asked."""
    return any((folder / ".git").exists() for folder in (root, *root.parents))


def _ignored(root: Path) -> bool:
    """Whether a file that a run may read is ignored by other rules than the tree's own: .git/info/exclude, a user's ignore
    file, a .gitignore that ignores itself."""
    own = ["--exclude-from=.gitignore"] if (root / ".gitignore").exists() else []
    names = _git(root, "ls-files", "--others", *own, "--", ".", *GENERATED).splitlines()
    return any(Path(name).suffix in READ for name in names)


def _not_looked_at(root: Path) -> bool:
    """Whether the index has a file marked assume-unchanged, or one marked skip-worktree although it is there."""
    tagged = [line.partition(" ") for line in _git(root, "ls-files", "-v", "--", ".", *GENERATED).splitlines()]
    return any(tag.islower() or (tag == "S" and (root / name).exists()) for tag, _, name in tagged)


def stated(commit: str, dirty: bool) -> str:
    """As SPEEDRUN_COMMIT carries both."""
    return commit + (DIRTY if dirty else "")


def parsed(statement: str) -> tuple[str, bool]:
    """The opposite of `stated`."""
    return statement.removesuffix(DIRTY), statement.endswith(DIRTY)


def _git(root: Path, *words: str) -> str:
    here = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, env=here, capture_output=True, text=True, check=True).stdout.strip()
