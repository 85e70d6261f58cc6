"""The pages that people read: every README of the repository, with the links and the commands in it."""

import re
from functools import cache
from pathlib import Path

import micro

PATTERNS = ("README.md", "*/README.md", "harness/*/README.md", "kernels/*/*.md")
PAGES = sorted(
    path
    for pattern in PATTERNS
    for path in micro.ROOT.glob(pattern)
    if not any(part.startswith(".") or part == "runs" for part in path.relative_to(micro.ROOT).parts)
)
_BLOCK = re.compile(r"```\n(.*?)```", re.DOTALL)


def name(path: Path) -> str:
    return path.relative_to(micro.ROOT).as_posix()


@cache
def text(path: Path) -> str:
    return path.read_text()


def commands(path: Path, pattern: str) -> list[str]:
    """Every match in a code span or a block of code, one line each."""
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", _BLOCK.sub("", text(path)))]
    lines = [line.strip() for block in _BLOCK.findall(text(path)) for line in block.replace("\\\n", " ").splitlines()]
    return sorted({line for line in spans + lines if re.match(pattern, line)})


def links(path: Path) -> list[str]:
    return sorted(set(re.findall(r"\]\(([^)]+)\)", _BLOCK.sub("", text(path)))))


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text(path)), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def target(path: Path, link: str) -> tuple[Path, str]:
    """Where a relative link on a page leads: a file (of a folder its README, where it has one) and an anchor, or ""."""
    place, _, anchor = link.partition("#")
    there = (path.parent / place).resolve() if place else path
    return (there / "README.md" if (there / "README.md").is_file() else there), anchor
