"""What a dial does to the seconds: by family what each of its dials changes of bits, training seconds and seconds to the line,
whether it is more in one of the families, and the families' own cases against each other. Pairs are of equal seeds."""

import math
from collections.abc import Mapping, Sequence

from harness.plan.race import HALF, RACE
from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import LEVEL, MIN_SEEDS, Sample
from harness.report.study.families import Value, between, by_seed, changes, in_times, resolved, sample
from harness.report.study.interaction import of_changes
from harness.report.study.race import ln_seconds, raced, slopes, target_of, to_line, unit, why_no_line
from harness.report.study.trials import Trial

HEADER = ("case", "slice", "training seconds", "seconds to the line", "verdict")
NONE = "-"


def race_tables(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none of another figure, or before a run has finished."""
    target = target_of(trials)
    if study.figure != RACE or target is None:
        return []
    line = to_line(study, trials)
    said = (
        f"What a dial does to the seconds, against its family's own case at equal seeds, with {LEVEL:.0%} intervals: change of "
        f"the slice ({unit(trials)}), ratio of training seconds, and of seconds to the line {target.line} ({target.level:g}). "
        "These are train_s * exp((slice - line) / slope), the slope being that between the family's own case and its "
        f"{HALF}, which are level by that. {_slopes(study, trials)}"
    )
    lines = ["", text(said), "", *head(HEADER)]
    for family in study.families:
        lines.append(_own(trials, family, line.get(family)))
        lines += [_dial(trials, family, dial, case, line.get(family)) for dial, case in study.of_family(family).items()]
    lines += ["", text(f"{why[0].upper()}{why[1:]}.")] if (why := why_no_line(study, line)) else []
    return [*lines, *_between_families(study, trials, line), *_champions(study, trials, line)]


def verdict(found: Sample | None, *names: str) -> str:
    """`names`: what is said where the second side takes fewer seconds, and where it takes more."""
    if found is None:
        return "no seed has both"
    if found.n < MIN_SEEDS:
        return f"n = {found.n}: a verdict takes {MIN_SEEDS} seeds"
    return names[found.mean > 0] if resolved(found) else f"no difference that {found.n} seeds resolve"


def _slopes(study: Study, trials: Sequence[Trial]) -> str:
    """ "Slope in bits per byte per ln(second), ...: dense 0.1350 (0.1201 to 0.1499)." """
    found = slopes(study, trials)
    told = [f"{family} {_figure(found[family], '{:.4f}')}" for family in study.families if family in found]
    said = f"Slope in {unit(trials)} per ln(second), which the other intervals take as it is: {', '.join(told)}."
    return said if told else ""


def _own(trials: Sequence[Trial], case: str, line: Value | None) -> str:
    bits = sample(by_seed(trials, case, raced))
    cells = [bits.text("{:.4f}") if bits else NONE, _seconds(trials, case, ln_seconds), _seconds(trials, case, line)]
    return row([text(case), *cells, NONE])


def _dial(trials: Sequence[Trial], family: str, dial: str, case: str, line: Value | None) -> str:
    bits, seconds = (sample(changes(trials, family, case, value)) for value in (raced, ln_seconds))
    cells = [_figure(bits, "{:+.4f}") if bits else NONE, in_times(seconds) if seconds else NONE]
    if dial == HALF:
        return row([text(case), *cells, "gives the slope" if line else NONE, NONE])
    to = sample(changes(trials, family, case, line)) if line else None
    said = verdict(to, "sooner at the line", "later at the line") if line else NONE
    return row([text(case), *cells, in_times(to) if to else NONE, said])


def _between_families(study: Study, trials: Sequence[Trial], line: Mapping[str, Value]) -> list[str]:
    if len(line) < len(study.families):
        return []
    changed = {
        dial: [changes(trials, family, f"{family}-{dial}", line[family]) for family in study.families]
        for dial in study.dials if dial != HALF
    }  # fmt: skip
    said = "What a dial does to the seconds to the line at equal seeds, as a ratio, and the {level:.0%} interval of it."
    return of_changes(study, trials, changed, said, in_times, "over")


def _champions(study: Study, trials: Sequence[Trial], line: Mapping[str, Value]) -> list[str]:
    """The families' own cases side by side, and the second one over the first."""
    one, other = study.families
    bits = [sample(by_seed(trials, family, raced)) for family in study.families]
    more = sample(changes(trials, one, other, raced))
    cells = [it.text("{:.4f}") if it else NONE for it in bits]
    rows = [row(["slice", *cells, _figure(more, "{:+.4f}") if more else NONE, NONE])]
    for label, of in (("training seconds", dict.fromkeys(study.families, ln_seconds)), ("seconds to the line", line)):
        cells = [_seconds(trials, family, of.get(family)) for family in study.families]
        both = [by_seed(trials, family, of[family]) for family in study.families if family in of]
        ratio = sample(between(*both)) if len(both) == 2 else None
        rows.append(row([label, *cells, in_times(ratio) if ratio else NONE, text(verdict(ratio, *_sooner(study)))]))
    said = f"{one} against {other}, each as it is: mean ± sd of the slice, geometric means of seconds, at equal seeds."
    return ["", text(said), "", *head([NONE, *map(text, study.families), text(f"{other} against {one}"), "verdict"]), *rows]


def _sooner(study: Study) -> tuple[str, str]:
    one, other = study.families
    return f"{other} is sooner", f"{one} is sooner"


def _seconds(trials: Sequence[Trial], case: str, ln_of: Value | None) -> str:
    """ "11.20 s (11.00 to 11.41)", the geometric mean over seeds."""
    found = sample(by_seed(trials, case, ln_of)) if ln_of else None
    if found is None:
        return NONE
    bounds = found.interval()
    interval = " ({:.2f} to {:.2f})".format(*map(math.exp, bounds)) if bounds else ""
    return f"{math.exp(found.mean):.2f} s{interval}"


def _figure(found: Sample, form: str) -> str:
    """The mean and its interval."""
    bounds = found.interval()
    return form.format(found.mean) + (f" ({form} to {form})".format(*bounds) if bounds else "")
