"""Cases against the first, a row each: what each costs in bits per byte; a dot a seed. For dense and MoE lanes."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from harness.plan.study import Study
from harness.report import style
from harness.report.study.frame import Case, new_figure
from harness.report.study.rules import ROW_IN, draw_panel, name_rows
from harness.report.study.trials import val_bpb, val_percent


def draw_cost(study: Study, cases: Sequence[Case]) -> Figure:
    first, there = next(iter(study.cases)), cases[0].number == 0
    notes = [f"a dot a seed, a bar their mean; {f'{first} is 0 at every seed' if there else f'no run of {first}'}"]
    fig = new_figure(study, cases, ROW_IN * len(cases) + 0.85, *notes)
    axes = fig.subplots(1, 2 if there else 1, sharey=True, squeeze=False, width_ratios=(1, 1.4)[: 2 if there else 1])[0]
    draw_panel(axes[0], cases, "bits per byte of val", val_bpb)
    name_rows(axes, cases)
    if not there:
        return fig
    draw_panel(axes[1], cases, f"minus {first} at equal seeds, %", lambda trial: val_percent(trial, cases[0].trials))
    axes[1].axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
    return fig
