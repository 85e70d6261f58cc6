"""How often the whole procedure errs, by null candidates: the same plan under other seeds, through the same verdict."""

from collections.abc import Sequence
from pathlib import Path

from harness.files import replace_atomically
from harness.interval import wilson
from harness.record.confirmation_files import NULLS, write
from harness.record.confirmations import CONDITIONS, HEALTH, LINE, MACHINE, PROMOTED, REST, SECONDS, TIE, VETOED, Null, Nulls
from harness.report.search.known import pooled_text
from harness.report.search.verdict_text import TITLES

ENOUGH = 50  # null candidates that a rate is stated of without a word of caution


def rates(nulls: Sequence[Null]) -> dict[str, int]:
    """How many were promoted, tied, vetoed by anything, and failed each condition."""
    found = {outcome: sum(null.verdict.outcome == outcome for null in nulls) for outcome in (PROMOTED, TIE, VETOED)}
    return found | {name: sum(name in null.verdict.failed for null in nulls) for name in CONDITIONS}


def publish_nulls(it: Nulls, folder: Path) -> list[Path]:
    """nulls.json and its table. Returns their paths."""
    text = folder / "nulls.md"
    written = [write(folder / NULLS, it), text]
    replace_atomically(text, [nulls_text(it).encode()])
    return written


def nulls_text(it: Nulls) -> str:
    """A table a family, in Markdown."""
    lines = [
        f"# {it.space}: null candidates",
        "",
        f"The same plan on both sides, {it.pairs} pairs each, all seeds different, through the verdict at alpha {it.alpha:g}. "
        "Nothing that is promoted here is better, and nothing that is vetoed is worse. "
        f"Line {it.line} ({it.level:.4f}), hardware class {it.hardware_class}, commit {it.commit[:8]}.",
    ]
    for family, of in it.families.items():
        n, found = len(of.nulls), rates(of.nulls)
        expected = {
            PROMOTED: f"at most {it.alpha:.1%}", SECONDS: f"{1 - it.alpha:.1%}: it is no faster", REST: f"{it.alpha:.1%}",
            LINE: "how far the plan lies below the line says", HEALTH: "0, of a router that keeps its balance",
            MACHINE: "how quiet the machine was says",
        }  # fmt: skip
        rows = [
            ("promoted", PROMOTED),
            ("a tie: the incumbent stays", TIE),
            ("vetoed, by anything", VETOED),
            *((f"fails: {TITLES[name]}", name) for name in CONDITIONS),
        ]
        lines += ["", f"## {family}: {n} null candidates", "", "| what | times | rate | 95% interval | expected |"]
        lines += ["|---|---|---|---|---|"]
        for title, key in rows:
            low, high = wilson(found[key], n)
            lines.append(
                f"| {title} | {found[key]} | {found[key] / n:.1%} | {low:.1%} to {high:.1%} | {expected.get(key, '')} |"
            )
        lines += ["", pooled_text([(null.runs, null.against) for null in of.nulls]), "", f"`{' '.join(of.words)}`"]
        if n < ENOUGH:
            lines += ["", f"Of {n} null candidates a rate is known this badly; the same command with nulls={ENOUGH} goes on."]
    return "\n".join(lines) + "\n"
