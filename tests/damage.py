"""Damages one file at a time in the ways that a disk, an editor or a stranger might, and asks a verb to make something of it.

`Stage` holds whole examples of every file that is read back: a finished run, one that was left, one that health stopped,
records under a claim, a baseline, a study. A trial copies what its verb needs, damages one file of it, and runs the verb in
this process: it may work or explain what is wrong, and nothing else. `python tests/damage.py [TRIALS] [SEED] [figures]` runs
many, from the repository's root with PYTHONPATH=. set.
"""

import io
import json
import lzma
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import micro
import pytest
import report_factory
import yaml
from study_factory import trial

from harness.__main__ import main
from harness.launch import scores, sinks
from harness.plan.study import Study
from harness.record import mlflow_sink
from harness.record.documents import Probe, Timing, UniformScores
from harness.report.board import publish as publish_report
from harness.report.compare import figure as figure_compare
from harness.report.gate import baseline as gate_baseline
from harness.report.run import draw as draw_figures
from harness.report.run_data import load_run
from harness.report.study import folder as study_folder
from harness.report.study.trials import read_trial

UNIFORM = UniformScores(all=8.0, slice=8.0, masked=8.0, targets=9.0, expected=8.0, expected_targets=9.0)
HUGE, DEEP = "@1e400@", "@deep@"  # what json.dumps cannot write
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 3, 0.5, -0.5, 1e300, 1e49, 1e-49, 5e-324, 2**63, 10**30, 10**400, HUGE, DEEP, float("nan"),
    float("inf"), float("-inf"), "", "x", "1", "a\x00b", "\x1b[2J", "../../x", "x" * 300, "$\\frac{1$", "${oc.env:HOME}", "a.b",
    "*", "é\u2028", [], [[]], [0], [None], ["x"], [[1], [2, 3]], {}, {"x": 1}, {"": None},
]  # fmt: skip


def at_every_place(node: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value below."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from at_every_place(node[key])


def damage(path: Path, chance: random.Random) -> str:
    """Damages the file; returns how, in words."""
    how = chance.choices(("value", "lost", "rows", "bytes", "file"), (10, 3, 2, 2, 1))[0]
    if path.suffix == ".safetensors" or how == "bytes":
        return _damage_bytes(path, chance)
    if how == "file":
        return _damage_file(path, chance)
    rows = _parsed(path)
    if how == "rows" and len(rows) > 1:
        return _damage_rows(path, rows, chance)
    row = chance.choice(rows)
    container, key = chance.choice(list(at_every_place(row)))
    if how == "lost":
        told = f"{key} removed (was {str(container[key])[:40]})"
        del container[key]
    else:
        value = chance.choice(VALUES)
        told = f"{key} is {str(value)[:40]!r} (was {str(container[key])[:40]})"
        container[key] = value
    _write(path, rows)
    return told


def _parsed(path: Path) -> list[Any]:
    if ".jsonl" in path.suffixes:
        content = path.read_bytes()
        return list(map(json.loads, (lzma.decompress(content) if path.suffix == ".xz" else content).splitlines()))
    return [yaml.safe_load(path.read_text()) if path.suffix == ".yaml" else json.loads(path.read_text())]


def _write(path: Path, rows: list[Any]) -> None:
    if path.suffix == ".yaml":
        text = yaml.safe_dump(rows[0], sort_keys=False, width=120)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    deep = "[" * 3000 + "]" * 3000
    for mark, meant in ((HUGE, "1e400"), (DEEP, deep)):
        text = text.replace(f'"{mark}"', meant).replace(f"'{mark}'", meant)
    path.write_bytes(lzma.compress(text.encode()) if path.suffix == ".xz" else text.encode())


def _damage_rows(path: Path, rows: list[Any], chance: random.Random) -> str:
    at, how = chance.randrange(len(rows)), chance.choice(("gone", "twice", "last", "cut", "no object"))
    changed = {
        "gone": rows[:at] + rows[at + 1 :], "twice": rows[: at + 1] + rows[at:], "cut": rows[:at],
        "last": rows[:at] + rows[at + 1 :] + [rows[at]], "no object": rows[:at] + [chance.choice(VALUES)] + rows[at:],
    }  # fmt: skip
    _write(path, changed[how])
    return f"row {at + 1} {how}"


def _damage_bytes(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    how = chance.choice(("cut", "flipped", "garbage", "empty"))
    if how == "flipped":
        content[at] ^= 1 << chance.randrange(8)
    elif how == "garbage":
        content[at : at + 8] = chance.randbytes(8)
    else:
        content = content[:at] if how == "cut" else bytearray()
    path.write_bytes(bytes(content))
    return f"{how} at byte {at}"


def _damage_file(path: Path, chance: random.Random) -> str:
    how = chance.choice(("a folder", "a link to itself", "a link to nothing", "gone", "deep", "a list", "a pipe"))
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how == "a link to itself":
        path.symlink_to(path.name)
    elif how == "a link to nothing":
        path.symlink_to("nowhere")
    elif how == "a pipe":
        os.mkfifo(path)
    elif how in ("deep", "a list"):
        path.write_text("[" * 50_000 if how == "deep" else "[]")
    return how


LONGEST_S = 60  # of a trial
RUN_FILES = ("record.json", "plan.yaml", "metrics.jsonl*", "identity.json")  # a log plain or packed


@dataclass(frozen=True)
class Act:
    """`part` of the stage is copied and one of `files` (patterns below it) damaged; `words` are given to `main`."""

    name: str
    part: str
    files: tuple[str, ...]
    words: tuple[str, ...]


def _acts(run: str, left: str, entered: str) -> list[Act]:
    """`run`, `left`: the folders of the finished and of the left run below their parts; `entered`: that of a record."""
    acts = [
        Act(f"{words[0]} of a finished run", "finished", (*RUN_FILES, "weights.safetensors"), words)
        for words in (
            ("verify", run, "steps=0"), ("show", run), ("sample", run, "--bytes", "2"), ("evaluate", run), ("mlflow", run),
            ("doctor", run), ("doctor", run, "--json"), ("report", "finished", "--out", "out"),
            ("submit", run, "--to", "out"),
        )
    ]  # fmt: skip
    acts += [
        Act(f"{words[0]} of a run that health stopped", "ill", ("stopped.json", "plan.yaml", "metrics.jsonl"), words)
        for words in (("doctor", "ill/ill/1"), ("mlflow", "ill/ill/1"))
    ]
    acts += [
        Act(f"{words[0]} of records", "results", tuple(f"*/*/{name}" for name in RUN_FILES) + ("*/claim-*.json",), words)
        for words in (
            ("report", "results", "--out", "out"), ("show", "results"), ("verify", "results", "steps=0"),
            ("compare", "results/tiny-dense", "results/tiny-moe-16e", "--out", "out"),
            ("submit", "results/late", "--to", "results"), ("submit", "results/tiny-dense", "--to", "out"),
            ("gate", entered, "baselines=baselines"),
        )
    ]  # fmt: skip
    acts += [
        Act("gate against a damaged baseline", "baselines", ("*.json",), ("gate", entered, "baselines=baselines")),
        Act("study from a folder", "study", ("study.json",), ("study", "--from", "study")),
        Act("study from a folder", "study", tuple(f"*/1/{name}" for name in RUN_FILES), ("study", "--from", "study")),
        Act("doctor of a run that was left", "left", ("plan.yaml", "metrics.jsonl"), ("doctor", left)),
        Act("track of a run that was left", "left", ("plan.yaml", "metrics.jsonl", "identity.json"), ("mlflow", left)),
        Act("resume", "left", ("plan.yaml", "metrics.jsonl", "identity.json", "step-*.json", "step-*.safetensors"),
            ("speedrun", *micro.MOE, "run.folder=left")),
    ]  # fmt: skip
    return acts


class Stage:
    """`finished` and `left`: run folders of `micro`, which are copied."""

    def __init__(self, home: Path, finished: Path, left: Path):
        self.home, self.whole = home, home / "whole"
        self.code = 0  # the exit status of the last trial
        for name, folder in (("finished", finished), ("left", left)):
            shutil.copytree(folder, self.whole / name / "tiny-moe-16e" / folder.name)
        self._results()
        trial(self.whole / "ill", "ill", steps=64, validations=(32,), stopped=50)
        study = Study("s", "t", "q?", "tiny-moe-16e", "load", {"a": ""}, " ".join(micro.MOE[1:]))
        copied = read_trial("a", 1, self.whole / "finished" / "tiny-moe-16e" / finished.name)
        study_folder.publish(study, [copied], self.whole / "study", {("a", 1): []})
        entered = next((self.whole / "results" / "tiny-moe-16e").glob("1-*"))
        self.acts = _acts(
            f"finished/tiny-moe-16e/{finished.name}", f"left/tiny-moe-16e/{left.name}", str(entered.relative_to(self.whole))
        )

    def _results(self) -> None:
        results = self.whole / "results"
        for lane, experts in (("tiny-moe-16e", 16), ("tiny-dense", 0)):
            for seed in (1, 2, 3):
                report_factory.write_run(
                    self.home / "made" / lane / f"{seed}-plan", lane=lane, experts=experts, seed=seed, steps=48, window=8,
                    validations=(16, 32), offset=0.01 * seed,
                )  # fmt: skip
            with redirect_stdout(io.StringIO()):
                assert main(["submit", str(self.home / "made" / lane), "--to", str(results), "--trials", "1"]) == 0
        report_factory.write_run(results / "late" / "4-plan", seed=4, steps=48, window=8, validations=(16, 32))
        runs = [load_run(folder) for folder in sorted((results / "tiny-moe-16e").glob("*-*/"))]
        probes = [Probe(hardware_class="x", timing=Timing(ratio=2.0 + i / 100, version=1), uniform=UNIFORM) for i in range(3)]
        before = gate_baseline.empty("tiny-moe-16e")
        gate_baseline.write(self.whole / "baselines", gate_baseline.updated(before, runs, probes, "first", "2026-01-01"))

    def trial(self, act: Act, seed: int, signed: bool) -> str | None:
        """What went wrong in a way that it may not, with its traceback; None where all is well. `signed`: the hashes are made
        to fit what was damaged, as a forger would."""
        chance, here = random.Random(seed), self.home / "trial"
        shutil.rmtree(here, ignore_errors=True)
        for part in {act.part, *(("results",) if act.part == "baselines" else ()), "baselines"}:
            shutil.copytree(self.whole / part, here / part)
        files = sorted(path for name in act.files for path in (here / act.part).rglob(name))
        path = chance.choice(files)
        how = damage(path, chance)
        if signed and path.is_file():
            _sign(path.parent)
        said, where = io.StringIO(), f"{act.name}: {path.relative_to(here)}: {how}"
        with chdir(here), redirect_stdout(said), redirect_stderr(said), _at_most(LONGEST_S):
            try:
                self.code = main(list(act.words))
            except BaseException:  # noqa: BLE001  whatever it is
                return f"{where}\n{traceback.format_exc()}"
        if "not in the shape of a record" in said.getvalue() or "Traceback" in said.getvalue():
            return f"{where}\n{said.getvalue()}"
        return None if self.code in (0, 1, 2, 3) else f"{where}: exit status {self.code}"

    def trials(self, count: int, seed: int, acts: Callable[[Act], bool] = lambda act: True) -> Iterator[str]:
        """The faults of `count` trials, verbs in turns; two of three with hashes made to fit."""
        chosen = [act for act in self.acts if acts(act)]
        found = (self.trial(chosen[i % len(chosen)], seed * 1_000_003 + i, signed=i % 3 > 0) for i in range(count))
        return (fault for fault in found if fault)


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in what does not come back."""

    def over(*_: object) -> None:
        raise TimeoutError(f"no answer in {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _sign(folder: Path) -> None:
    """Where the record can still be read."""
    try:
        report_factory.sign(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass


class Quiet:
    """In place of the MLflow sink: reads all that it would log."""

    def __init__(self, store: str):
        self.store = store

    def track(self, folder: Path) -> tuple[str, int] | None:
        run = mlflow_sink._Folder(folder)
        json.dumps([run.tags, run.started_ms, run.ended_ms])
        return ("a run", len(list(run.points()))) if run.key else None


def score_nothing(subject: Any, words: Any) -> Any:
    """In place of scoring all of val."""
    return scores.Scored("val", {"val_bpb": 1.0}, "", {})


@contextmanager
def without_what_reads_nothing(figures: bool = False) -> Iterator[None]:
    """MLflow and scoring take long; so do `figures`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_sink, "Sink", Quiet)
        patch.setitem(scores.SCORES, "val", score_nothing)
        if not figures:
            patch.setattr(sinks, "show_at_end", lambda run: None)
            patch.setattr(draw_figures, "draw_all", lambda *_: [])
            patch.setattr(publish_report, "draw_board", lambda board, path: path)
            patch.setattr(publish_report, "draw_holders", lambda board, path: path)
            patch.setattr(figure_compare, "draw_compare", lambda *words: words[-1])
            patch.setattr(study_folder, "draw_study", lambda study, trials, path: path)
        yield


def by_hand(count: int, seed: int, figures: bool) -> int:
    """Prints each fault as it is found."""
    with tempfile.TemporaryDirectory(prefix="damage-") as place, without_what_reads_nothing(figures):
        home, found = Path(place), 0
        finished = micro.run(home / "f")
        assert micro.speedrun(home / "l", "run.stop_after_step=12", "run.checkpoint_every_s=0", "run.log_every_steps=1") == 0
        for fault in Stage(home, finished, micro.the_folder(home / "l")).trials(count, seed):
            found += 1
            print(f"FAULT {fault}", flush=True)
    print(f"{found} faults in {count:,} trials, seed {seed}, {'with' if figures else 'without'} figures")
    return int(found > 0)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word.isdecimal()]
    sys.exit(by_hand(int((words or ["1000"])[0]), int((words[1:] or ["1"])[0]), "figures" in sys.argv))
