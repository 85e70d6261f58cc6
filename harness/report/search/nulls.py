"""How often a verdict errs, by null candidates: the same plan under other seeds. How a candidate is chosen is no part of it."""

from collections.abc import Sequence
from pathlib import Path

from harness.files import replace_atomically
from harness.interval import wilson
from harness.record.confirmation_files import NULLS, write
from harness.record.confirmations import CONDITIONS, LINE, PROMOTED, REST, SECONDS, TIE, VETOED, FamilyNulls, Null, Nulls
from harness.report.search.known import pooled_text
from harness.report.search.verdict_text import TITLES

NULLS_TABLE = "nulls.md"
ENOUGH = 50  # null candidates that a rate is stated of without a word of caution
ROWS = {PROMOTED: "promoted", TIE: "a tie: the incumbent stays", VETOED: "vetoed, by anything"} | {
    name: f"fails: {TITLES[name]}" for name in CONDITIONS
}


def rates(nulls: Sequence[Null]) -> dict[str, int]:
    """How many were promoted, tied, vetoed by anything, and failed each condition."""
    found = {outcome: sum(null.verdict.outcome == outcome for null in nulls) for outcome in (PROMOTED, TIE, VETOED)}
    return found | {name: sum(name in null.verdict.failed for null in nulls) for name in CONDITIONS}


def publish_nulls(it: Nulls, folder: Path) -> list[Path]:
    """nulls.json and its table. Returns their paths."""
    written = [write(folder / NULLS, it), folder / NULLS_TABLE]
    replace_atomically(written[1], [nulls_text(it).encode()])
    return written


def nulls_text(it: Nulls) -> str:
    """A table a family, in Markdown."""
    lines = [
        f"# {it.space}: null candidates",
        "",
        f"The same plan on both sides, all seeds different, through the verdict at alpha {it.alpha:g}. Nothing promoted "
        f"here is better, and nothing vetoed is worse. Line {it.line} ({it.level:.4f}), hardware class "
        f"{it.hardware_class}, commit {it.commit[:8]}.",
    ]
    for family, of in it.families.items():
        lines += ["", *_of_family(family, of, it.alpha)]
    return "\n".join(lines) + "\n"


def _of_family(family: str, of: FamilyNulls, alpha: float) -> list[str]:
    n, found = len(of.nulls), rates(of.nulls)
    expected = {
        PROMOTED: f"at most {alpha:.1%}", SECONDS: f"{1 - alpha:.1%}: it is no faster", REST: f"{alpha:.1%}",
        LINE: "as far as the plan lies below it",
    }  # fmt: skip
    lines = [f"## {family}: {n} null candidates of {of.pairs} pairs", "", "| what | times | rate | 95% interval | expected |"]
    lines += ["|---|---|---|---|---|"]
    for key, title in ROWS.items():
        low, high = wilson(found[key], n)
        known = f"{found[key]} | {found[key] / n:.1%} | {low:.1%} to {high:.1%}"
        lines.append(f"| {title} | {known} | {expected.get(key, '')} |")
    lines += ["", pooled_text([(null.runs, null.against) for null in of.nulls]), "", f"`{' '.join(of.words)}`"]
    if n < ENOUGH:
        lines += ["", f"{n} are few: the same command with nulls={ENOUGH} goes on."]
    return lines
