"""Formats below bf16 over training: what each costs by gains and by length, what closes the rest, and whose codes flip why."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from harness.plan.study import Study
from harness.report import style
from harness.report.study.families import sample
from harness.report.study.formats import CAUSES, Formats, format_of, is_plain
from harness.report.study.frame import COLOURS, Case, family_keys, measure_of, new_figure, with_interval

HEIGHT_IN, ROW_IN = 3.0, 0.22
APART = 0.3
MARKS = {"all": "-", "weight": (0, (4, 2)), "scale": (0, (1, 1.5)), "dither": (0, (4, 1, 1, 1))}


def draw_formats(study: Study, cases: Sequence[Case]) -> Figure:
    f = Formats(study, [trial for case in cases for trial in case.trials])
    costs, gained = _rows(study, f, f.low), _rows(study, f, list(f.gained()))
    notes = [
        f"cost: {measure_of(cases)} of val beside the same plan in bf16 at equal seeds, in %; means and 95% intervals (hollow: "
        "one seed)",
        "of the format: what gains change there, minus what they change in bf16",
        "flips: share of weight codes that a step changes, mean over layers and seeds, of plain formats and of the most "
        "dither: solid all but dither's, dashed where the weight moved, dotted where the scale did, dash-dotted by dither",
    ]
    rows_in = ROW_IN * max(len(costs), 8) + 0.6
    fig = new_figure(study, cases, rows_in + HEIGHT_IN, *notes)
    above, below = fig.subfigures(2, 1, height_ratios=(rows_in, HEIGHT_IN))
    left, right = above.subplots(1, 2)
    _forest(left, study, {dial: [f.cost(case) for case in of] for dial, of in costs.items()}, "cost, %")
    bases = f.gained()
    _forest(right, study, {dial: [f.specific(case, bases[case])[2] for case in of] for dial, of in gained.items()},
            "gains: of the format, points of %")  # fmt: skip
    lengths, *flips = below.subplots(1, 1 + len(study.families))
    _lengths(lengths, study, f)
    for ax, family in zip(flips, study.families):
        _flips(ax, study, f, family)
    style.add_legend(fig, left, extra=family_keys(study.families))
    return fig


def _rows(study: Study, f: Formats, cases: Sequence[str]) -> dict[str, list[str]]:
    """{dial: its cases, in the order of families}."""
    found: dict[str, list[str]] = {}
    for case in cases:
        found.setdefault(case.removeprefix(f"{study.family_of(case)}-"), []).append(case)
    return found


def _forest(ax: Axes, study: Study, rows: dict[str, list], title: str) -> None:
    ax.axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
    for row, of_families in enumerate(rows.values()):
        for at, of_family in enumerate(of_families):
            if found := sample(of_family):
                with_interval(ax, row + APART * (at - (len(of_families) - 1) / 2), found, at, sideways=True)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_title(title, loc="left")


def _lengths(ax: Axes, study: Study, f: Formats) -> None:
    """Colours are families, lines formats."""
    formats = list(dict.fromkeys(name for _, name in f.lengths()))
    every: set[int] = set()
    for (family, name), cases in f.lengths().items():
        at = study.families.index(family)
        found = {tokens: one for tokens, case in cases.items() if (one := sample(f.cost(case)))}
        every |= set(found)
        dashes = list(MARKS.values())[formats.index(name) % len(MARKS)]
        ax.plot(list(found), [one.mean for one in found.values()], color=COLOURS[at], linewidth=1.1, linestyle=dashes)
        for tokens, one in found.items():
            with_interval(ax, tokens * (1 + 0.05 * (at - 0.5 + 2 * formats.index(name))), one, at)
    ax.axhline(0, color=style.GREY, linewidth=0.8, zorder=1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted(every), [style.magnitude(tokens) for tokens in sorted(every)])
    ax.xaxis.set_minor_locator(NullLocator())
    said = ", ".join(f"{look} {name}" for name, look in zip(formats, ("solid", "dashed", "dotted")))
    ax.set_title(f"cost, % ({said})" if formats else "one length", loc="left", fontsize=8)
    ax.set_xlabel("training tokens")


def _flips(ax: Axes, study: Study, f: Formats, family: str) -> None:
    """Shown are the plain case of each format, and the one with most dither."""
    here = [case for case in f.low if study.family_of(case) == family]
    plain = [case for case in here if case == f"{family}-{format_of(f.first[case])}"]
    dithered = sorted(here, key=lambda case: f.first[case].plan["precision"].get("dither") or 0)[-1:]
    chosen = [*plain, *(case for case in dithered if not is_plain(f.first[case]))]
    for at, case in enumerate(chosen):
        found = f.flips(case)
        for name in ("all", *CAUSES):
            shares = [100 * of[name] for _, of in found]
            if any(shares):
                label = case.removeprefix(f"{family}-") if name == "all" else None
                ax.plot([100 * share for share, _ in found], [max(share, 1e-3) for share in shares],
                        color=COLOURS[(at + 2) % len(COLOURS)], linestyle=MARKS[name], linewidth=1.2, label=label)  # fmt: skip
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_title(f"{family}: codes flipped a step, %", loc="left", fontsize=8)
    ax.set_xlabel("of the budget, %")
    if chosen:
        ax.legend(loc="lower left", fontsize=7.5, handlelength=1.4, borderpad=0.2, labelspacing=0.3)
