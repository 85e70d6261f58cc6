"""Trains every lane of a track that this machine can run, and puts dense and MoE by precision side by side.

usage: python -m harness matrix [track=tiny] [seeds=1,2,3] [key=value ...]
       make matrix TRACK=tiny [SEEDS=1,2,3] [SET="key=value ..."]

examples
  python -m harness matrix track=sotu seeds=1,2,3
  python -m harness matrix track=tiny optim.muon.lr=0.01              the same recipe for every lane

Open lanes, which fix no architecture, are left out. A run is a `speedrun` process of its own. The same command again goes on:
an unfinished run resumes, and a finished one of the same plan, seed and hardware class, in the folder of runs or in results/,
is taken as it is. A lane that fails is named and the others go on; then the exit status is 1, as it is where a record found on
the way cannot be read or is not whole. Tables, of all lanes and of each format against bf16 at equal seeds, and figure:
RUNS/matrix-TRACK/matrix.md and matrix.png.
"""

import sys
from pathlib import Path

from harness.errors import UserError
from harness.launch.job import Job, State, make_job, take_or_run
from harness.launch.options import SEEDS, Word, Words, choice
from harness.shown import one_line

SUMMARY = "every lane of a track: dense and MoE by precision, table and figure"


def main(arguments: list[str]) -> int:
    from harness.files import replace_atomically
    from harness.report.compare.matrix_figure import draw_matrix
    from harness.report.compare.paired import paired_table
    from harness.report.compare.summary import summary_table
    from harness.report.groups import Group, find_groups

    track, seeds, words = _read(arguments)
    jobs, cannot, complaints = _jobs(track, words)
    for lane, why in cannot.items():
        print(f"{lane}: not run here: {why}")
    found = find_groups(_places(jobs))
    known = [run for group in found.groups for run in group.runs]
    state = State(complaints=complaints + [f"skipped: {one_line(problem)}" for problem in found.problems])
    for complaint in state.complaints:
        print(f"warning: {complaint}", file=sys.stderr)
    for seed in seeds:
        for job in jobs:
            take_or_run(job, seed, known, state)
    runs = {job.name: [state.done[job.name, seed] for seed in seeds if (job.name, seed) in state.done] for job in jobs}
    groups = [Group(tuple(some)) for some in runs.values() if some]
    if groups:
        home = Path(jobs[0].plan.run.folder) / f"matrix-{track}"
        table = "\n\n".join(part for part in (summary_table(groups), paired_table(groups)) if part)
        replace_atomically(home / "matrix.md", [f"{table}\n".encode()])
        print(f"\n{table}\n\nwritten: {home / 'matrix.md'}, {draw_matrix(groups, home / 'matrix.png')}")
    for complaint in state.complaints:
        print(f"failed: {complaint}", file=sys.stderr)
    return int(bool(state.complaints))


def _read(arguments: list[str]) -> tuple[str, list[int], list[str]]:
    from harness.plan.lanes import track_names

    own = Words("matrix", Word("track", choice(*track_names()), "tiny"), Word("seeds", SEEDS, [1]), plan=True).read(arguments)
    for word in own.plan:
        if word.split("=")[0] in ("lane", "seed", "fork") or "=" not in word:
            raise UserError(
                f"{word!r} in a matrix", "it runs every lane of a track: track=tiny seeds=1,2,3, and overrides key=value"
            )
    return own.track, own.seeds, own.plan


def _jobs(track: str, words: list[str]) -> tuple[list[Job], dict[str, str], list[str]]:
    """The lanes to run, why others of the track cannot run on this machine, and complaints about those whose plan does not
    compose with these overrides. Raises: UserError when no lane is left."""
    from harness.plan.compose import compose
    from harness.plan.words import known_words

    known_words(words)
    jobs, cannot, complaints = [], {}, []
    if not (lanes := _lanes_of(track)):
        raise UserError(f"track {track} has open lanes alone", "make speedrun LANE=... trains one; `make lanes` lists them")
    for lane in lanes:
        try:
            plan = compose([f"lane={lane}", *words]).plan
        except UserError as error:
            complaints.append(f"{lane}: {error.problem}")
            continue
        try:
            jobs.append(make_job(lane, words, plan))
        except UserError as error:
            cannot[lane] = error.problem
    if not jobs:
        why = "\n  ".join([*(f"{lane}: {problem}" for lane, problem in cannot.items()), *complaints])
        raise UserError(f"no lane of track {track} can be run here:\n  {why}", "`make lanes` lists them")
    return jobs, cannot, complaints


def _lanes_of(track: str) -> list[str]:
    """Those that fix an architecture."""
    from harness.plan.compose import compose
    from harness.plan.lanes import lane_names

    plans = {lane: compose([f"lane={lane}"]).plan for lane in lane_names()}
    return [lane for lane, plan in plans.items() if plan.track.name == track and not plan.lane.open]


def _places(jobs: list[Job]) -> list[str]:
    return [jobs[0].plan.run.folder, "results"]
