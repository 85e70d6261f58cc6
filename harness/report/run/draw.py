"""Every figure of one run, drawn into its folder."""

from pathlib import Path

from harness.record.evaluations import Evaluation
from harness.report.run.bpb import draw_bpb
from harness.report.run.core import draw_core, published
from harness.report.run.precision import draw_precision, has_precision
from harness.report.run.router import draw_expert_load, draw_router_health
from harness.report.run.tasks import draw_tasks
from harness.report.run.updates import draw_updates
from harness.report.run_data import RunData, load_run
from harness.report.style import styled
from harness.report.task_scores import scored


def draw_all(run_folder: str | Path, twin_folder: str | Path | None = None) -> list[Path]:
    """Draws `bpb.png` and `updates.png`, for MoE runs `router_health.png` and `expert_load.png`, below bf16
    `precision.png`, where CORE was scored `core.png`, where tasks were `tasks.png`; returns their paths.

    The twin's curve joins `bpb.png` where the two runs may share an axis; the caption says where they may not. Its tasks join
    `tasks.png` where both were asked the same instances.

    Raises:
        UserError: one of the two run folders cannot be read (see `load_run`).
    """
    run = load_run(run_folder)
    twin = load_run(twin_folder) if twin_folder is not None else None
    with styled():
        paths = [draw_bpb(run, twin, run.folder / "bpb.png")]
        if run.experts:
            paths.append(draw_router_health(run, run.folder / "router_health.png"))
            paths.append(draw_expert_load(run, run.folder / "expert_load.png"))
        paths.append(draw_updates(run, run.folder / "updates.png"))
        if has_precision(run):
            paths.append(draw_precision(run, run.folder / "precision.png"))
        if (core := run.record.evaluations.get("core")) and core.tasks:
            paths.append(draw_core([(run.record.lane, core)], published(), run.folder / "core.png"))
        if tasks := scored(run.record.evaluations):
            paths.append(draw_tasks([(run.name, tasks), *_beside(tasks, twin)], run.folder / "tasks.png"))
    return paths


def _beside(tasks: Evaluation, twin: RunData | None) -> list[tuple[str, Evaluation]]:
    other = scored(twin.record.evaluations) if twin else None
    return [(twin.name, other)] if other and other.sha256 == tasks.sha256 else []
