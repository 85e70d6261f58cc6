"""A run folder read once, whatever became of the run: what report, doctor and studies start from.

Nothing here is trusted to be whole: a run folder may be unfinished, cut short by a full disk, edited by hand, or written by a
newer harness, and each of these is told apart. Whether the numbers are *true* is the question of `python -m harness verify`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.plan.steps import Steps
from harness.plan.stored import read_stored_plan, stored_moe_layers, stored_steps
from harness.plan.track import TASKS, measure, nats, scored, shortly
from harness.reading import is_there
from harness.record.documents import Stop
from harness.record.read import check_shapes, read_record, read_rows, read_stop
from harness.record.rows import FinalRow, Rows, StepRow, ValidationRow, WindowRow
from harness.record.schema import Record


@dataclass(frozen=True)
class Run:
    """`record` of a finished run, `stop` of one that health stopped, neither of one that goes on or was left. `plan`: plan.yaml
    as it is stored, whatever keys the schema has gained since."""

    folder: Path
    plan: dict[str, Any]
    rows: Rows
    record: Record | None
    stop: Stop | None

    @property
    def steps(self) -> list[StepRow]:
        return self.rows["step"]

    @property
    def windows(self) -> list[WindowRow]:
        return self.rows["window"]

    @property
    def validations(self) -> list[ValidationRow]:
        return self.rows["validation"]

    @property
    def final(self) -> FinalRow | None:
        """What the final evaluation logged."""
        return self.rows["final"][-1] if self.rows["final"] else None

    @property
    def experts(self) -> int:
        """The experts of each MoE layer; 0 of a dense model."""
        return self.plan["model"]["num_experts"]

    @property
    def top_k(self) -> int:
        return self.plan["model"]["top_k"]

    @property
    def moe_layers(self) -> list[int]:
        """The layers that windows count experts of, in their order."""
        return stored_moe_layers(self.plan)

    @property
    def counts_bytes(self) -> bool:
        """A token is a byte: token counts are bytes of text and the training loss is bits per byte."""
        return self.plan["model"]["vocab_size"] == 256 and not self.of_tasks

    @property
    def of_tasks(self) -> bool:
        """Data are generated, and answers alone are scored: what is called bits per byte is bits per answer."""
        return self.track_format == TASKS

    @property
    def measure(self) -> str:
        """What val is scored in."""
        return measure(self.track_format)

    @property
    def shortly(self) -> str:
        return shortly(self.track_format)

    @property
    def nats(self) -> str:
        """What the losses of val and its slice are in."""
        return nats(self.track_format)

    @property
    def scored(self) -> str:
        """What `scored_bytes` counts, one of them."""
        return scored(self.track_format)

    @property
    def track_format(self) -> str:
        return (self.plan["track"].get("tokens") or {}).get("format", "")

    @property
    def by_step(self) -> Steps:
        return stored_steps(self.plan)

    @property
    def planned_steps(self) -> int:
        return self.by_step.count


def read_run(folder: Path) -> Run:
    """Reads what a run folder holds.

    Raises:
        UserError: a file is missing, damaged, of a newer schema, or the files do not belong together.
    """
    record = read_record(folder) if is_there(folder / "record.json") else None
    plan = read_stored_plan(folder / "plan.yaml")
    stop = None if record else read_stop(folder)
    rows = read_rows(folder / "metrics.jsonl", ended=record is not None)
    check_shapes(plan, rows, folder / "metrics.jsonl", stop)
    return Run(folder, plan, rows, record, stop)
