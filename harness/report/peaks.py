"""The best that machines of a hardware class have reached, as records say: what a busy machine is measured against."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.record.read import read_record
from harness.record.record_folders import record_folders
from harness.revision import without_revision


@dataclass(frozen=True)
class Peaks:
    """`matmul`, `fp32` in FLOP/s, `memory` in bytes/s, each the best of any record; 0 where none states it. `folder` holds the
    record of the best matmul."""

    matmul: float = 0.0
    fp32: float = 0.0
    memory: float = 0.0
    folder: Path | None = None


def known_peaks(folders: Iterable[str | Path], speed_class: str) -> Peaks:
    """Over every record below `folders` of the class. Its revision does not matter: the machine is the same. A record that
    cannot be read is left out; whoever searches for twins names it."""
    best, machine = Peaks(), without_revision(speed_class)
    for folder in record_folders(folders):
        try:
            record = read_record(folder)
        except UserError:
            continue
        if without_revision(record.speed_class) == machine:
            it = record.hardware
            best = Peaks(
                max(best.matmul, it.matmul_peak_flops), max(best.fp32, it.fp32_peak_flops or 0.0),
                max(best.memory, it.memory_bytes_per_s or 0.0),
                folder if it.matmul_peak_flops > best.matmul else best.folder,
            )  # fmt: skip
    return best
