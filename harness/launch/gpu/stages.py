"""Stages that need a GPU: read from a file, run one after the other, each under its own limit, none at another's cost."""

import glob
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from harness.launch import child
from harness.plan.lanes import ROOT
from harness.reading import is_there, read_json, read_yaml
from harness.values import Closed, Count, Filled, Flag, Model, Name, absent, broken

HERE = Path(__file__).parent
TAIL_LINES = 45  # of a stage's output, shown when it ends
LEAST_S = 5.0  # with less time left than this a stage is not begun


class StageEntry(Closed):
    """A stage of a file; `first.yaml` says what its fields mean."""

    name: Name
    limit_s: Count
    real: Annotated[list[Filled], Field(min_length=1)]
    toy: Annotated[list[Filled], Field(min_length=1)]
    interpreted: Flag = False
    call: Count = absent()
    needs: Name = absent()
    keeps: list[Filled] = []


class StageFile(Closed):
    words: dict[Name, Filled] = {}
    stages: Annotated[list[StageEntry], Field(min_length=1)]

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        known: set[str] = set()
        for stage in self.stages:
            if stage.name in known:
                raise broken(f"stage {stage.name} is there twice")
            if stage.needs and stage.needs not in known:
                raise broken(f"stage {stage.name} needs {stage.needs}, which is no earlier stage")
            known.add(stage.name)
        return self


class Marker(Model):
    """done.json of a stage: of which source, and where."""

    identity: dict[str, str | bool]


@dataclass(frozen=True)
class Stage:
    """`real` and `toy`: lines of words behind `python -m`, in which {out} is the stage's folder and {tokens} a budget."""

    name: str
    real: tuple[str, ...]
    toy: tuple[str, ...]
    limit_s: int = 480
    interpreted: bool = False
    call: int | None = None
    needs: str | None = None
    keeps: tuple[str, ...] = ()


def stages(name: str) -> tuple[Stage, ...]:
    """Those of `all` or `first`. Raises: UserError for a file that is none."""
    file = read_yaml(HERE / f"{name}.yaml", StageFile, "restore it: git checkout -- harness/launch/gpu")
    return tuple(
        Stage(
            it.name, tuple(_filled(line, file.words) for line in it.real), tuple(_filled(line, file.words) for line in it.toy),
            it.limit_s, it.interpreted, it.call, it.needs, tuple(it.keeps),
        )
        for it in file.stages
    )  # fmt: skip


def _filled(line: str, words: dict[str, str]) -> str:
    """The line with what `words` says in place of {name}, which may say more of them; {out} and {tokens} stay."""
    for _ in range(len(words) + 1):
        for name, text in words.items():
            line = line.replace(f"{{{name}}}", text)
    return line


def run(
    wanted: Sequence[Stage], on_gpu: bool, out: Path, say: Callable[[str], None], *, again: bool = False,
    limit_s: int | None = None, within_s: float | None = None, tokens: int = 0,
) -> dict[str, str]:  # fmt: skip
    """By stage, one line of what came of it; out/results.json has them as they come. `within_s`: what all may take together: a
    stage gets what is left, so that one which hangs costs those behind it nothing that they were promised before it."""
    begun, found = time.monotonic(), {}
    out.mkdir(parents=True, exist_ok=True)
    for stage in wanted:
        left_s = float("inf") if within_s is None else within_s - (time.monotonic() - begun)
        limit = min(stage.limit_s, limit_s or stage.limit_s, left_s)
        if stage.needs in found and not _ended_well(found[stage.needs]):
            found[stage.name] = f"left out: it needs {stage.needs}"
        elif left_s < LEAST_S:
            found[stage.name] = "left out: no time is left"
        else:
            found[stage.name] = _one(stage, on_gpu, out / stage.name, limit, again, tokens, say)
        (out / "results.json").write_text(json.dumps(found, indent=1))
    return found


def _ended_well(result: str) -> bool:
    return result.startswith(("passed", "done"))


def failed(results: dict[str, str]) -> bool:
    return not all(map(_ended_well, results.values()))


def _one(stage: Stage, on_gpu: bool, out: Path, limit_s: float, again: bool, tokens: int, say: Callable[[str], None]) -> str:
    from harness.record.provenance import source_hash

    identity: dict[str, Any] = {"source_sha256": source_hash(), "on_gpu": on_gpu}
    marker, log = out / "done.json", out / "log.txt"
    if not again and is_there(marker) and read_json(marker, Marker, f"remove {out}").identity == identity:
        return f"done before, in {marker.parent}"
    out.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    log.write_text("")
    environment = {"TRITON_INTERPRET": "1"} if stage.interpreted and not on_gpu else {}
    say(f"\n== {stage.name}")
    start = time.monotonic()
    for line in stage.real if on_gpu else stage.toy:
        left_s = max(1.0, limit_s - (time.monotonic() - start))
        words, program = line.format(out=out, tokens=tokens).split(), child.PROGRAM[:2]
        ended = child.run(words, folder=ROOT, program=program, environment=environment, log=log, limit_s=left_s)
        if ended.status:
            break
    said = log.read_text(errors="replace").splitlines()
    say("\n".join(said[-TAIL_LINES:]))
    for pattern in stage.keeps:
        for path in map(Path, sorted(glob.glob(pattern.format(out=out)))):
            shutil.copy(path, out / path.name)
    took_s = time.monotonic() - start
    if ended.status:
        return f"FAILED ({f'ran past {limit_s:.0f} s' if ended.late else f'exit {ended.status}'}): {log}"
    if not any("configurations.json" in kept for kept in stage.keeps) and "harness tune" not in stage.real:
        # a stage that changes the table changes the source: its marker would never match
        marker.write_text(json.dumps({"identity": identity, "seconds": took_s}))
    return f"passed in {took_s:,.0f} s: {log}"
