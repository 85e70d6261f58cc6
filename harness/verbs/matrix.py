"""Trains every lane of a track that this machine can run, and puts dense and MoE by precision side by side.

usage: python -m harness matrix [track=tiny] [seeds=1,2,3] [key=value ...]
       make matrix TRACK=tiny [SEEDS=1,2,3] [SET="key=value ..."]

examples
  python -m harness matrix track=sotu seeds=1,2,3
  python -m harness matrix track=tiny optim.muon.lr=0.01              the same recipe for every lane

Each run is a `speedrun` process of its own. The same command again goes on: an unfinished run resumes, and a finished one of
the same plan, seed and hardware class, in the folder of runs or in results/, is taken as it is. A lane that fails is named and
the others go on; then the exit status is 1, as it is where a record found on the way cannot be read or is not whole. Tables,
of all lanes and of each format against bf16 at equal seeds, and figure: RUNS/matrix-TRACK/matrix.md and matrix.png.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UserError, nearest

SUMMARY = "every lane of a track: dense and MoE by precision, table and figure"
GIB = 1 << 30


def main(arguments: list[str]) -> int:
    from harness.data.artifact import replace_atomically
    from harness.report.figure_matrix import draw_matrix
    from harness.report.groups import Group, find_groups
    from harness.report.paired import paired_table
    from harness.report.summary import summary_table

    track, seeds, words = _read(arguments)
    jobs, cannot, complaints = _jobs(track, words)
    for lane, why in cannot.items():
        print(f"{lane}: not run here: {why}")
    found = find_groups(_places(jobs))
    known = [run for group in found.groups for run in group.runs]
    state = State(complaints=complaints + [f"skipped: {problem}" for problem in found.problems])
    for complaint in state.complaints:
        print(f"warning: {complaint}", file=sys.stderr)
    for seed in seeds:
        for job in jobs:
            _one(job, seed, known, state)
    runs = {job.lane: [state.done[job.lane, seed] for seed in seeds if (job.lane, seed) in state.done] for job in jobs}
    groups = [Group(tuple(some)) for some in runs.values() if some]
    if groups:
        home = Path(jobs[0].plan.run.folder) / f"matrix-{track}"
        table = "\n\n".join(part for part in (summary_table(groups), paired_table(groups)) if part)
        replace_atomically(home / "matrix.md", [f"{table}\n".encode()])
        print(f"\n{table}\n\nwritten: {home / 'matrix.md'}, {draw_matrix(groups, home / 'matrix.png')}")
    for complaint in state.complaints:
        print(f"failed: {complaint}", file=sys.stderr)
    return int(bool(state.complaints))


@dataclass(frozen=True)
class Job:
    """A lane with what its runs will be known by."""

    lane: str
    words: list[str]
    plan: Any
    plan_hash: str
    hardware_class: str


@dataclass
class State:
    done: dict[tuple[str, int], Any] = field(default_factory=dict)  # RunData by lane and seed
    complaints: list[str] = field(default_factory=list)


def _read(arguments: list[str]) -> tuple[str, list[int], list[str]]:
    from harness.plan.lanes import TRACKS

    own = {"track": "tiny", "seeds": "1"} | dict(
        w.split("=", 1) for w in arguments if w.split("=")[0] in ("track", "seeds") and "=" in w
    )
    words = [word for word in arguments if word.split("=")[0] not in own]
    for word in words:
        if word.split("=")[0] in ("lane", "seed", "fork") or "=" not in word:
            raise UserError(
                f"{word!r} in a matrix", "it runs every lane of a track: track=tiny seeds=1,2,3, and overrides key=value"
            )
    tracks = sorted(path.stem for path in TRACKS.glob("*.yaml"))
    if own["track"] not in tracks:
        raise UserError(f"unknown track {own['track']!r}", nearest(own["track"], tracks))
    seeds = own["seeds"].split(",")
    if not all(seed.isdecimal() for seed in seeds) or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={own['seeds']}", "whole numbers, each once: seeds=1,2,3")
    return own["track"], [int(seed) for seed in seeds], words


def _jobs(track: str, words: list[str]) -> tuple[list[Job], dict[str, str], list[str]]:
    """The lanes to run, why others of the track cannot run on this machine, and complaints about those whose plan does not
    compose with these overrides. Errors: UserError when no lane is left."""
    from harness.plan.compose import compose, known_words
    from harness.plan.fingerprint import plan_hash
    from harness.train.machine import detect

    known_words(words)
    jobs, cannot, complaints = [], {}, []
    for lane in _lanes_of(track):
        try:
            plan = compose([f"lane={lane}", *words]).plan
        except UserError as error:
            complaints.append(f"{lane}: {error.problem}")
            continue
        try:
            here = detect(plan)
            _refuse_too_large(plan, here.device)
        except UserError as error:
            cannot[lane] = error.problem
            continue
        jobs.append(Job(lane, words, plan, plan_hash(plan), here.hardware_class))
    if not jobs:
        why = "\n  ".join([*(f"{lane}: {problem}" for lane, problem in cannot.items()), *complaints])
        raise UserError(f"no lane of track {track} can be run here:\n  {why}", "`make lanes` lists them")
    return jobs, cannot, complaints


def _lanes_of(track: str) -> list[str]:
    from harness.plan.compose import compose
    from harness.plan.lanes import lane_names

    return [lane for lane in lane_names() if compose([f"lane={lane}"]).plan.track.name == track]


def _refuse_too_large(plan, device: str) -> None:
    from harness.train.estimate import memory_bytes
    from harness.train.machine import memory_available_bytes
    from harness.train.session import count_plan

    needed, free = memory_bytes(plan, count_plan(plan)), memory_available_bytes(device)
    if needed > free:
        raise UserError(f"needs about {needed / GIB:.1f} GiB, {free / GIB:.1f} GiB are free", "")


def _places(jobs: list[Job]) -> list[str]:
    return [jobs[0].plan.run.folder, "results"]


def _one(job: Job, seed: int, known: list[Any], state: State) -> None:
    """Takes a finished run, or makes it."""
    from harness.report.integrity import check
    from harness.report.run_data import load_run
    from harness.verbs.multirun import run_one

    for run in known:
        if not _is(run, job, seed):
            continue
        wrong = check(run)
        if not wrong:
            print(f"have {job.lane} seed {seed}: {run.folder}", flush=True)
            state.done[job.lane, seed] = run
            return
        complaint = f"{run.folder} is not whole: {wrong[0]}"
        print(f"warning: {complaint}; running {job.lane} seed {seed} anew", file=sys.stderr)
        state.complaints.append(complaint)
    print(f"\n== {job.lane} seed {seed}", flush=True)
    code, record = run_one([f"lane={job.lane}", f"seed={seed}", *job.words])
    if record is None:
        state.complaints.append(f"{job.lane} seed {seed} ended with status {code}")
        return
    state.done[job.lane, seed] = load_run(record.parent)


def _is(run: Any, job: Job, seed: int) -> bool:
    r = run.record
    return (r["lane"], r["seed"], r["plan_hash"], r["hardware_class"], r["fork"]) == (
        job.lane, seed, job.plan_hash, job.hardware_class, None,
    )  # fmt: skip
