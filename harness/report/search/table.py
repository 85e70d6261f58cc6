"""What a search came to, as Markdown: arms side by side, the best of each to type, rungs, dials, and what failed."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from harness.record.confirmations import Champion
from harness.record.ledger import Ledger, LedgerTrial
from harness.report.markup import code, head, heading, paragraph, row, text
from harness.report.rank_correlation import Correlation
from harness.report.search.numbers import best, between_rungs, dials_tell

ARMS = (
    "arm", "trials", "complete", "pruned", "failed", "stopped", "running", "training s", "best s to the line", "its own s",
    "its slice",
)  # fmt: skip


def search_table(ledger: Ledger, champion: Champion | None = None) -> list[str]:
    """Lines of Markdown."""
    lines = [heading(1, text(f"{ledger.name}: {ledger.space.title}")), "", paragraph(text(ledger.space.question)), ""]
    lines += [paragraph(text(_frame(ledger))), "", *_arms(ledger), "", *_best(ledger)]
    if champion:
        lines += ["", text(_champion(champion))]
    lines += ["", heading(2, "Does a short rung tell what a longer one would?"), "", *_rungs(ledger)]
    lines += ["", heading(2, "What each dial tells"), "", *_dials(ledger)]
    return [*lines, "", *_below(ledger)]


def _champion(it: Champion) -> str:
    plan = it.trial or f"a plan of {it.family} typed by hand"
    return f"Champion since confirmation {it.number}: {plan}, {it.seconds:.2f} s, and {it.before_seconds:.2f} s what it beat."


def _frame(ledger: Ledger) -> str:
    space, rungs = ledger.space, ", ".join(f"{share:g}" for share in ledger.space.rungs)
    return (
        f"Lane {space.lane}, line {ledger.target} ({ledger.metric} {ledger.level:.4f}); seed {space.seed} of all trials; "
        f"rungs at {rungs} of a trial's own budget, each a whole run with its own decay, from which one of {space.reduction} "
        f"goes on; {space.trials} trials an arm planned. Hardware class {ledger.hardware_class}. Seconds to the line are "
        "equivalent: train_s * exp((slice - line) / slope), slope in bits per ln(second) between the rungs of a family's first "
        "trial: "
        + (", ".join(f"{family} {slope:.4f}" for family, slope in ledger.slopes.items()) or "none yet")
        + ". Each is one run of one seed, and the best of many is too good: confirmations say what holds."
    )


def _arms(ledger: Ledger) -> list[str]:
    lines = head(ARMS, ["---", *["---:"] * (len(ARMS) - 1)])
    for family, sampler in ledger.space.arms:
        trials = ledger.of_arm(family, sampler)
        states = [str(sum(trial.state == state for trial in trials)) for state in ARMS[2:7]]
        first = best(trials)
        figures = ["-"] * 3
        if first:
            last = first.finished[-1]
            figures = [f"{first.equivalent_s:.2f}{'*' * bool(last.disturbed)}", f"{last.train_s:.2f}", f"{last.slice_bpb:.4f}"]
        spent = f"{sum(trial.spent_s for trial in trials):.0f}"
        lines.append(row([text(f"{family}/{sampler}"), str(len(trials)), *states, spent, *figures]))
    return lines


def _best(ledger: Ledger) -> Iterator[str]:
    for family, sampler in ledger.space.arms:
        if first := best(ledger.of_arm(family, sampler)):
            yield f"- {text(f'{first.arm} {first.number}')}: {code(' '.join(first.words))}"


def _rungs(ledger: Ledger) -> list[str]:
    lines = head(("family", "rungs", "trials with both", "rank correlation", "95% interval"))
    shares = ledger.space.rungs
    for family in ledger.space.families:
        for a, b in combinations(range(len(shares)), 2):
            told = _correlated(between_rungs(ledger, family, a, b))
            lines.append(row([text(family), f"{shares[a]:g} and {shares[b]:g}", *told]))
    return [*lines, "", "Only trials that went on have both, so the spread between them is a part of what there was."]


def _dials(ledger: Ledger) -> list[str]:
    share = ledger.space.rungs[0]
    lines = head(("family", "dial", "trials", f"rank correlation with seconds at rung {share:g}", "95% interval"))
    named: list[str] = []
    for family in ledger.space.families:
        for dial in dials_tell(ledger, family):
            if dial.medians:
                told = ", ".join(f"{name} {median:.2f} s ({n})" for name, (n, median) in sorted(dial.medians.items()))
                named.append(f"- {text(f'{family}, {dial.name}, median by choice: {told}')}")
            else:
                _, *figures = _correlated(dial.correlation)
                lines.append(row([text(family), text(dial.name), str(dial.trials), *figures]))
    note = "Below 0: more of it was sooner. Trials of both samplers; TPE draws near what was good, so values are uneven."
    return [*lines, *([""] if named else []), *named, "", note]


def _correlated(found: Correlation | None) -> list[str]:
    if found is None:
        return ["fewer than 3", "-", "-"]
    return [str(found.runs), f"{found.value:+.2f}", f"{found.low:+.2f} to {found.high:+.2f}"]


def _below(ledger: Ledger) -> Iterator[str]:
    disturbed = [trial for trial in ledger.trials if any(rung.disturbed for rung in trial.rungs)]
    if disturbed:
        told = f"* Seconds of a run that others took processor time from: {_named(disturbed)}."
        yield text(f"{told} They are used as they are, but in slopes.")
        yield ""
    for trial in ledger.trials:
        if trial.state in ("failed", "stopped"):
            yield f"- {text(f'{trial.arm} {trial.number} {trial.state}: {trial.why}')}"


def _named(trials: Sequence[LedgerTrial]) -> str:
    return ", ".join(f"{trial.arm} {trial.number}" for trial in trials)
