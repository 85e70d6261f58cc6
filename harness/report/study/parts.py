"""Bits per byte of parts of val, by source, and of texts that are scored beside it: what each case scores on each of them,
what a dial changes of it, and whether it changes more in one family."""

from collections.abc import Sequence

from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import LEVEL, MIN_SEEDS, Sample
from harness.report.study.families import Value, between, by_seed, dials, effects, in_percent, percents, resolved, sample
from harness.report.study.trials import Trial, val_parts


def of_part(name: str) -> Value:
    """Its bits per byte of a trial."""
    return lambda trial: val_parts(trial).get(name)


def part_names(trials: Sequence[Trial]) -> list[str]:
    """In the order of val, then of what was scored beside it."""
    return list(dict.fromkeys(name for trial in trials for name in val_parts(trial)))


def parts_tables(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none where no run has parts."""
    names = part_names(trials)
    if not names:
        return []
    bases = {case: base for base, cases in dials(study).values() for case in cases.values()}
    said = (
        "Bits per byte of parts of val, and of noise beside it: mean ± sd over seeds, and what a dial changes of it at equal "
        f"seeds, in %, with its {LEVEL:.0%} interval."
    )
    lines = ["", text(said), "", *head(["case", *map(text, names)])]
    for case in study.cases:
        cells = [_cell(trials, case, bases.get(case), of_part(name)) for name in names]
        if any(cells):
            lines.append(row([text(case), *(cell or "-" for cell in cells)]))
    return [*lines, *_interaction(study, trials, names)]


def _cell(trials: Sequence[Trial], case: str, base: str | None, value: Value) -> str:
    found = by_seed(trials, case, value)
    changed = sample(percents(trials, base, case, value)) if base else None
    own = Sample.of(list(found.values())).text("{:.4f}") if found else ""
    return f"{own}, {in_percent(changed)}" if changed else own


def _interaction(study: Study, trials: Sequence[Trial], names: Sequence[str]) -> list[str]:
    rows = []
    for dial in study.dials:
        found = [sample(between(*effects(study, trials, dial, of_part(name)))) for name in names]
        if any(found):
            rows.append(row([text(dial), *(_said(more) if more else "-" for more in found)]))
    if not rows:
        return []
    first, second = study.families
    said = (
        f"The change in {second} minus that in {first}, part by part: mean, and the {LEVEL:.0%} interval. Bold: the interval "
        f"leaves 0 out, with {MIN_SEEDS} seeds or more."
    )
    return ["", text(said), "", *head([text(f"{second} minus {first}"), *map(text, names)]), *rows]


def _said(more: Sample) -> str:
    return f"**{in_percent(more)}**" if resolved(more) else in_percent(more)
