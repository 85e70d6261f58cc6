"""Golden runs: three committed records as they were when the thresholds were measured, whatever results/ holds now.

tests/golden/NAME.tar.xz has the files of a record folder, unchanged. Read only.
"""

import tarfile
from collections.abc import Callable
from pathlib import Path

import micro
import pytest

GOLDEN = sorted(path.name.removesuffix(".tar.xz") for path in (Path(__file__).parent / "golden").iterdir())
MOE = [name for name in GOLDEN if "moe" in name]


@pytest.fixture(name="golden", scope="session")
def golden_fixture(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """golden(name): the record folder, LANE/1-PLAN below one that holds nothing else."""
    base = micro.shared(tmp_path_factory) / "golden"

    def folder(name: str) -> Path:
        def unpack(home: Path) -> None:
            there = home / name / "1-golden"
            there.mkdir(parents=True)
            with tarfile.open(Path(__file__).parent / "golden" / f"{name}.tar.xz") as packed:
                for file in packed:
                    (there / file.name).write_bytes(packed.extractfile(file).read())

        return micro.made_once(base / name, unpack)

    return folder
