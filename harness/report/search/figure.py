"""The best plan so far of each arm, against trials and against seconds of training; TPE and random side by side, by family."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.record.confirmations import Champion
from harness.record.ledger import Ledger, LedgerTrial
from harness.report import style
from harness.report.search.numbers import so_far

COLOURS = {"tpe": (style.BLUE, "o"), "random": (style.ORANGE, "s")}


def draw_search(ledger: Ledger, champion: Champion | None, path: Path) -> Path:
    with style.styled():
        families = list(ledger.space.families)
        fig = style.plain_figure(f"{ledger.name}: seconds to the line, best so far", 2.6 * len(families), _caption(ledger))
        rows = fig.subplots(len(families), 2, sharey="row", squeeze=False)
        for (of_trials, of_seconds), family in zip(rows, families):
            for sampler, (colour, marker) in COLOURS.items():
                _arm(of_trials, of_seconds, ledger.of_arm(family, sampler), sampler, colour, marker)
            for ax in (of_trials, of_seconds):
                if champion and champion.family == family:
                    ax.axhline(champion.seconds, color=style.GREEN, lw=1.2, ls="--", label="champion, confirmed")
                ax.set_yscale("log")
                ax.yaxis.set_major_formatter(style.MAGNITUDE)
                ax.yaxis.set_minor_formatter(style.MAGNITUDE)
                ax.margins(x=0.04, y=0.12)
            of_trials.set_title(f"{style.words(family)}: equivalent seconds", loc="left")
            of_trials.set_xlabel("trials of the arm")
            of_trials.xaxis.set_major_locator(MaxNLocator(integer=True))
            of_seconds.set_xlabel("seconds of training, all rungs of the arm")
        style.add_legend(fig, max(rows[:, 0], key=lambda ax: len(ax.get_legend_handles_labels()[0])))
        return style.save(fig, path)


def _arm(of_trials: Axes, of_seconds: Axes, trials: list[LedgerTrial], sampler: str, colour: str, marker: str) -> None:
    spent_s = 0.0
    for trial in sorted(trials, key=lambda trial: trial.number):
        spent_s += trial.spent_s
        if trial.equivalent_s:
            dot = style.dot(colour, marker, trial.state == "complete") | {"markersize": 4.5, "linestyle": "none"}
            of_trials.plot(trial.number + 1, trial.equivalent_s, **dot)
            of_seconds.plot(spent_s, trial.equivalent_s, **dot)
    if best := so_far(trials):
        y = [point.best_s for point in best]
        of_trials.step([point.trials for point in best], y, where="post", color=colour, label=sampler)
        of_seconds.step([point.spent_s for point in best], y, where="post", color=colour)


def _caption(ledger: Ledger) -> str:
    counts, rungs = ledger.counts, " and ".join(f"{share:g}" for share in ledger.space.rungs)
    return (
        f"Lane {ledger.space.lane}, line {ledger.target} ({ledger.level:.4f}), seed {ledger.space.seed}, one run a trial and "
        f"rung ({rungs} of its budget); {counts.trials} trials, {counts.complete} complete, {counts.pruned} pruned, "
        f"{counts.failed + counts.stopped} failed or stopped. Filled: complete; hollow: where it ended. Equivalent seconds: "
        f"train_s * exp((slice - line) / slope). Hardware class {ledger.hardware_class}."
    )
