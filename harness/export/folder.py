"""Writes an exported folder: whole or not at all, and the same bytes for the same run and words."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from safetensors.torch import save_file
from torch import Tensor

from harness.errors import UserError
from harness.export.configuration import CODE, configuration
from harness.export.page import page
from harness.export.tokenizer import byte_tokenizer
from harness.files import whole
from harness.plan.schema import Plan
from harness.reading import is_there
from harness.record.folder import writing
from harness.record.schema import Record

FILES = (
    "model.safetensors", "config.json", "generation_config.json", f"{CODE}.py", "tokenizer.json", "tokenizer_config.json",
    "README.md",
)  # fmt: skip


def check_place(out: Path, overwrite: bool) -> None:
    """Raises: UserError where nothing may be put at `out`."""
    if not is_there(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise UserError(f"{out} is no folder", "name another place: out=FOLDER")
    held = sorted(path.name for path in out.iterdir())
    if other := [name for name in held if name not in FILES]:
        raise UserError(f"{out} holds {other[0]}, which no export wrote", "name an empty or a new folder: out=FOLDER")
    if held and not overwrite:
        raise UserError(f"{out} holds an export already", "add --overwrite to replace it, or name another place: out=FOLDER")


def write(out: Path, plan: Plan, record: Record, tensors: Mapping[str, Tensor], command: str, overwrite: bool = False) -> None:
    """`tensors`: the state of the run's model. `command`: what was typed, for the README.

    Raises:
        UserError: the model has a part that cannot be exported, something else is at `out`, or it cannot be written.
    """
    texts = documents(plan, record, command)
    check_place(out, overwrite)
    aside = out.with_name(f".{out.name[:80]}.{uuid4().hex}.tmp")
    try:
        with writing(out), whole(out) as part:
            part.mkdir()
            save_file({name: t.contiguous() for name, t in tensors.items()}, part / FILES[0], metadata={"format": "pt"})
            for name, text in texts.items():
                (part / name).write_text(text)
            if is_there(out):
                os.rename(out, aside)
    finally:
        if is_there(aside) and not is_there(out):
            os.rename(aside, out)
        shutil.rmtree(aside, ignore_errors=True)


def documents(plan: Plan, record: Record, command: str) -> dict[str, str]:
    """{file name: content} of all that is no weights. Raises: UserError as `configuration`."""
    made = {
        "config.json": json.dumps(configuration(plan), indent=1) + "\n",
        "generation_config.json": json.dumps({"use_cache": False}) + "\n",
        f"{CODE}.py": (Path(__file__).parent / f"{CODE}.py").read_text(),
        "README.md": page(plan, record, command),
    }
    return made if plan.track.tokens.tokenizer else made | byte_tokenizer(plan.model.sequence_length)
