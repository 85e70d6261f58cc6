"""Writes an exported folder: whole or not at all, and the same bytes for the same run and words."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors.torch import save_file
from torch import Tensor

from harness.errors import UserError
from harness.export import configuration, published
from harness.export.page import page
from harness.export.tokenizer import byte_tokenizer
from harness.files import whole
from harness.plan.schema import Plan
from harness.reading import is_there
from harness.record.folder import writing
from harness.record.schema import Record

WEIGHTS = "model.safetensors"
FILES = (
    WEIGHTS, "config.json", "generation_config.json", *configuration.FILES, "tokenizer.json", "tokenizer_config.json",
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


@dataclass(frozen=True)
class Exported:
    """What is written: texts by file name, and the weights' names in the run's state."""

    texts: dict[str, str]
    tensors: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


def plan_export(plan: Plan, record: Record, command: str, as_published: bool = False) -> Exported:
    """`command`: what was typed, for the README. `as_published`: as an architecture of the library's own, where one fits.

    Raises:
        UserError: the model has a part that cannot be exported so.
    """
    if as_published:
        texts, code = {"config.json": _json(published.configuration(plan))}, published.architecture(plan)[0]
    else:
        texts, code = {"config.json": _json(configuration.configuration(plan))}, None
        texts["generation_config.json"] = _json({"use_cache": False})
        texts |= {name: (Path(__file__).parent / name).read_text() for name in configuration.FILES}
    texts["README.md"] = page(plan, record, command, code)
    if not plan.track.tokens.tokenizer:
        texts |= byte_tokenizer(plan.model.sequence_length)
    return Exported(texts, partial(published.tensors, plan) if as_published else dict)


def write(out: Path, export: Exported, run: Mapping[str, Tensor], overwrite: bool = False) -> None:
    """`run`: the state of the run's model.

    Raises:
        UserError: something else is at `out`, or it cannot be written.
    """
    check_place(out, overwrite)
    aside = out.with_name(f".{out.name[:80]}.{uuid4().hex}.tmp")
    try:
        with writing(out), whole(out) as part:
            part.mkdir()
            tensors = {name: t.contiguous() for name, t in export.tensors(run).items()}
            save_file(tensors, part / WEIGHTS, metadata={"format": "pt"})
            for name, text in export.texts.items():
                (part / name).write_text(text)
            if is_there(out):
                os.rename(out, aside)
    finally:
        if is_there(aside) and not is_there(out):
            os.rename(aside, out)
        shutil.rmtree(aside, ignore_errors=True)


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"
