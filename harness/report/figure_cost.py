"""Cases against the first, a row each: what each costs in bits per byte; a dot a seed. For dense and MoE lanes."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from harness.plan.study import Study
from harness.report import style
from harness.report.figure_rules import ROW_IN, draw_panel, name_rows
from harness.report.study_figure import Case, new_figure
from harness.report.study_runs import val_bpb, val_percent


def draw_cost(study: Study, cases: Sequence[Case]) -> Figure:
    first = cases[0]
    notes = [f"a dot a seed, a bar their mean; {first.name} is 0 at every seed"]
    fig = new_figure(study, cases, ROW_IN * len(cases) + 0.85, *notes)
    axes = fig.subplots(1, 2, sharey=True, width_ratios=(1, 1.4))
    draw_panel(axes[0], cases, "bits per byte of val", val_bpb)
    draw_panel(axes[1], cases, f"minus {first.name} at equal seeds, %", lambda trial: val_percent(trial, first.trials))
    axes[1].axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
    name_rows(axes, cases)
    return fig
