"""The files of a run's checkpoints by name, for whoever looks at the folder without torch.

A process that holds all state writes `step-000128.safetensors`; of several ranks each writes a file of its own,
`step-000128.rank-003-of-008.safetensors`. `step-000128.json` commits what it names (`harness/train/checkpoint.py`).
"""

import re
from collections import Counter
from pathlib import Path

NOTE = re.compile(r"step-(\d+)\.json")
TENSORS = re.compile(r"step-(\d+)(?:\.rank-\d+-of-(\d+))?\.safetensors")


def name(step: int, rank: int = 0, of: int = 1) -> str:
    """The file of tensors that a rank writes, of so many that state is spread over."""
    return f"step-{step:06d}" + (f".rank-{rank:03d}-of-{of:03d}" if of > 1 else "") + ".safetensors"


def note_name(step: int) -> str:
    return f"step-{step:06d}.json"


def committed(folder: Path) -> list[int]:
    """Steps that have a note, ascending."""
    found = (NOTE.fullmatch(path.name) for path in folder.glob("step-*.json"))
    return sorted(int(match[1]) for match in found if match)


def complete(folder: Path) -> list[int]:
    """Those of them of which no file is missing; nothing is read."""
    files = (TENSORS.fullmatch(path.name) for path in folder.glob("step-*.safetensors"))
    written = Counter((int(match[1]), int(match[2] or 1)) for match in files if match)
    there = {step for (step, of), number in written.items() if number == of}
    return [step for step in committed(folder) if step in there]
