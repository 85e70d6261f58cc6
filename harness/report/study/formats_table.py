"""The tables of a study of formats: what each costs beside bf16, what of a gain is of the format, what closes the rest, whether
it closes with training, and whose codes flip why."""

from collections.abc import Iterator, Sequence

from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import LEVEL, MIN_SEEDS, Sample
from harness.report.study.families import in_percent, percents, resolved, sample
from harness.report.study.formats import CAUSES, LENGTHS, Formats
from harness.report.study.trials import Trial

SAID = (
    f"What a format costs: bits of val beside the same plan in bf16 at equal seeds, in %: mean, and its {LEVEL:.0%} interval.",
    "What gains do, and how much more of it in the format than in bf16, in points of %.",
    "What dither and a late switch to bf16 change of the plain format, in %, and what it then still costs.",
    "Whether the cost closes with training: each budget with its own whole schedule, and a line through the costs of each seed "
    "by the logarithm of tokens, in points of % a doubling.",
    "Weight codes that one step flips, % of all, on the steps that close a window: mean over layers, matrices and seeds, "
    "those by dither apart; by cause in the second half.",
)
COSTS = ("case", "beside", "cost", "verdict")
GAINS = ("case", "gains in bf16", "gains in the format", "in the format more", "verdict")
EASED = ("case", "plain", "change", "cost left", "verdict")
GROWN = ("family", "format", "tokens: cost", "with each doubling", "verdict")
FLIPS = ("case", "first half", "second half", "weight moved", "scale moved", "dither")


def formats_tables(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none of another figure."""
    if study.figure != "formats":
        return []
    f = Formats(study, trials)
    parts = zip(SAID, (COSTS, GAINS, EASED, GROWN, FLIPS), (_costs(f), _gains(f), _eased(f), _grown(f), _flips(f)))
    lines: list[str] = []
    for said, header, rows in parts:
        if found := [row(cells) for cells in rows]:
            lines += ["", text(said), "", *head(header), *found]
    return lines


def _costs(f: Formats) -> Iterator[list[str]]:
    for case in f.low:
        if found := sample(f.cost(case)):
            yield [text(case), text(f.control(case)), in_percent(found), text(_said(found, "costs", "gains"))]


def _gains(f: Formats) -> Iterator[list[str]]:
    for case, base in f.gained().items():
        found = [sample(part) for part in f.specific(case, base)]
        if all(found):
            yield [
                text(case),
                *map(in_percent, found),
                text(_said(found[2], "costs the format more", "does more for the format")),
            ]


def _eased(f: Formats) -> Iterator[list[str]]:
    for case, plain in f.eased().items():
        change, left = sample(percents(f.trials, plain, case)), sample(f.cost(case))
        if change and left:
            verdict = _said(change, "makes it worse", "helps")
            after = _said(left, "a cost is left", "better than bf16") if left.n >= MIN_SEEDS else ""
            yield [
                text(case),
                text(plain),
                in_percent(change),
                in_percent(left),
                text("; ".join(filter(None, (verdict, after)))),
            ]


def _grown(f: Formats) -> Iterator[list[str]]:
    for (family, name), cases in f.lengths().items():
        costs = {tokens: sample(f.cost(case)) for tokens, case in cases.items()}
        said = "; ".join(f"{tokens:,}: {in_percent(found)}" for tokens, found in costs.items() if found)
        slope = f.slope(cases)
        verdict = _said(slope, "grows with training", "closes with training") if slope else f"fewer than {LENGTHS} budgets"
        yield [text(family), text(name), text(said), in_percent(slope) if slope else "-", text(verdict)]


def _flips(f: Formats) -> Iterator[list[str]]:
    for case in f.low:
        found = f.flips(case)
        early, late = ([shares for at, shares in found if (at > 0.5) == is_late] for is_late in (False, True))
        if early or late:
            yield [text(case), _mean(early, "all"), _mean(late, "all"), *(_mean(late, cause) for cause in CAUSES)]


def _mean(found: Sequence[dict[str, float]], name: str) -> str:
    return f"{100 * sum(shares[name] for shares in found) / len(found):.2f}%" if found else "-"


def _said(found: Sample, more: str, less: str) -> str:
    if found.n < MIN_SEEDS:
        return f"n = {found.n}: a verdict takes {MIN_SEEDS} seeds"
    if not resolved(found):
        return f"no difference that {found.n} seeds resolve"
    return more if found.mean > 0 else less
