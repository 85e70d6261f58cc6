"""Asks one question of a lane: runs the cases of a study, and puts them side by side in a table and a figure.

usage: python -m harness study                                       lists the studies
       python -m harness study NAME [seeds=1,2,3] [key=value ...] [--out FOLDER]
       python -m harness study --from FOLDER                          table and figure again, from the records in FOLDER
       make study NAME=sparsity [SEEDS=1,2,3] [OUT=results/studies/sparsity] [SET="key=value ..."]

examples
  python -m harness study balancing seeds=1,2,3 --out results/studies/balancing
  python -m harness study expert-lr unranked=true budget.tokens=131072          every case shorter

A study is a file in studies/: a lane, overrides of all cases, and those of each case; key=value comes after both. With
fork=CASE@STEP a case starts from that checkpoint of an earlier one. Every run is a `speedrun` process of its own, and the table
has what the doctor finds in it. The same command again goes on: an unfinished run resumes, and one that has finished, or that
health stopped, with the same plan, seed and hardware class is taken, from the folder of runs or from results/. A case that
fails is named and the others go on; then the exit status is 1. A case that health stops is a result and shown as one.
A study whose figure is about experts and tasks looks into every run that has finished (`inspect`, a minute each), once; one
about damage or occupancy interferes with the routers of each (`damage`, some seconds of a small run).
Written: RUNS/study-NAME/study.md, study.png, and study.json with the numbers. --out FOLDER does so from copies of the records
(record.json or stopped.json, plan.yaml, metrics.jsonl, identity.json, and what was scored and seen inside) that it puts there,
in place of what FOLDER held.
"""

import sys
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.launch.job import Job, Start, State, make_job, take_or_run
from harness.launch.options import PATH, SEEDS, TEXT, Names, Word, Words
from harness.shown import one_line

WORDS = Words("study", Word("seeds", SEEDS), Word("out", PATH), Word("from", PATH), names=Names("study", TEXT), plan=True)
SUMMARY = "one question, several plans: cases side by side, table and figure"


def main(arguments: list[str]) -> int:
    words = _read(arguments)
    if words.source:
        from harness.launch.evidence import asked
        from harness.report.study.check import missing_cases, study_problems
        from harness.report.study.folder import read_folder, write_study

        study, trials = read_folder(words.source)
        if study.series:
            raise UserError(f"{words.source} holds series {study.name}", f"python -m harness series --from {words.source}")
        if words.seeds:
            _refuse_seeds(study, trials, words)
        if problems := study_problems(study, trials, asked(study, trials)):
            raise UserError("the evidence does not hold:\n    " + "\n    ".join(problems), "restore it; nothing was drawn")
        if missing := missing_cases(study, trials):
            print(f"warning: {words.source} has no record of {', '.join(missing)}", file=sys.stderr)
        verdicts = verdicts_of(trials)
        _say(study, trials, verdicts, write_study(study, trials, words.source, verdicts))
        return 0
    from harness.plan.study import read_study, study_names

    if words.name is None:
        width = max(map(len, study_names()), default=0) + 2
        for name in study_names():
            study = read_study(name)
            cases = f"{len(study.cases)} cases of {study.lane}: {', '.join(study.cases)}"
            print(f"{name:<{width}}{study.question}\n{'':<{width}}{cases}")
        print("\nmake study NAME=<study>")
        return 0
    return _run(read_study(words.name), words)


def _read(arguments: list[str]):
    words = WORDS.read(arguments)
    words.source, words.name, anything = vars(words)["from"], (words.names or [None])[0], words.names + words.plan
    for word in [*words.names[1:], *(w for w in words.plan if w.lstrip("+~").split("=")[0] in ("lane", "seed", "fork"))]:
        raise UserError(f"{word!r} in a study", "a study has one name and its own lane: NAME seeds=1,2,3 key=value")
    if words.source and (anything or words.out):
        raise UserError("--from draws what its folder holds", "leave out everything else")
    if not (words.name or words.source) and (anything or words.seeds or words.out):
        raise UserError("no study is named", "`python -m harness study` lists them")
    words.seeds = words.seeds or ([] if words.source else [1])
    return words


def _refuse_seeds(study, trials, words) -> None:
    """Raises: UserError, unless the seeds that are asked are those of every case of the folder."""
    there = {case: {trial.seed for trial in trials if trial.case == case} for case in study.cases}
    asked = ",".join(map(str, words.seeds))
    if lacking := [f"{case} has {_listed(some)}" for case, some in there.items() if set(words.seeds) - some]:
        raise UserError(
            f"{words.source} has no runs of seeds {asked}: {'; '.join(lacking)}",
            f"make study NAME={study.name} SEEDS={asked} OUT={words.source} makes them; without seeds it draws what is there",
        )
    if more := {seed for some in there.values() for seed in some} - set(words.seeds):
        raise UserError(
            f"{words.source} has seeds {_listed(more)} too, and --from draws what its folder holds", "leave seeds out"
        )


def _listed(seeds) -> str:
    return ", ".join(map(str, sorted(seeds))) or "none"


def _run(study, words) -> int:
    from harness.launch.evidence import refuse_out, why_kept
    from harness.launch.looks import take_or_look
    from harness.report.groups import read_runs
    from harness.report.study.folder import publish, write_study
    from harness.report.study.trials import read_trial

    refuse_out(study, words.out, words.seeds)
    state = State()
    jobs = _jobs(study, words.plan, state.complaints)
    places = [Path(jobs[0].plan.run.folder), Path("results")]
    problems: list[str] = []
    known = list(read_runs(places, problems, studies=True))
    state.complaints += [f"skipped: {one_line(problem)}" for problem in problems]
    for complaint in state.complaints:
        print(f"warning: {complaint}", file=sys.stderr)
    for seed in words.seeds:
        for job in jobs:
            take_or_run(job, seed, known, state, places)
    if study.look:
        for (name, seed), run in state.done.items():
            take_or_look(study.look, f"{name} seed {seed}", run, state.complaints)
    folders = {key: run.folder for key, run in state.done.items()} | state.stopped
    trials = [
        read_trial(job.name, seed, folders[job.name, seed])
        for job in jobs
        for seed in sorted(words.seeds)
        if (job.name, seed) in folders
    ]
    if trials:
        said = replace(study, common=_common(study, words.plan))
        verdicts = verdicts_of(trials)
        _say(said, trials, verdicts, write_study(said, trials, places[0] / f"study-{study.name}", verdicts))
        if words.out and (why := why_kept(study, trials, words.out)):
            state.complaints.append(f"{words.out} is left as it was: {why}")
        elif words.out:
            print("written: " + ", ".join(map(str, publish(said, trials, words.out, verdicts))))
    for complaint in state.complaints:
        print(f"failed: {complaint}", file=sys.stderr)
    return int(bool(state.complaints))


def _common(study, overrides: list[str]) -> str:
    """What all cases share, as the table states it: of one key the last word; none about where and how runs are logged."""
    last = {word.partition("=")[0]: word for word in [*study.common.split(), *overrides]}
    return " ".join(word for key, word in last.items() if not key.startswith("run."))


def _jobs(study, overrides: list[str], complaints: list[str]) -> list[Job]:
    """The cases that can be run here, why the others cannot among `complaints`. Raises: UserError when none is left, or two
    cases are one plan."""
    from harness.plan.compose import compose
    from harness.plan.race import RACE, refuse_race
    from harness.plan.study import OF_ANY_MODEL
    from harness.plan.words import known_words

    known_words(overrides)
    jobs: list[Job] = []
    parts: dict[str, None] = {}  # of val, and beside it, that a case is scored on
    for case in study.cases:
        words = [*study.words(case), *overrides]
        try:
            composed = compose(words)
            job = make_job(case, words[1:], composed.plan, _start(study, case, jobs))
        except UserError as error:
            complaints.append(f"{case}: {error.problem}")
            continue
        if not composed.plan.model.num_experts and study.figure not in OF_ANY_MODEL:
            remedy = f"figure {study.figure} is about the load of experts; of any model is {', '.join(OF_ANY_MODEL)}"
            raise UserError(f"{case} is a dense model", remedy)
        if study.figure == "tasks" and not composed.plan.data.tasks:
            raise UserError(
                f"figure tasks of lane {study.lane}, whose track has no tasks", "use lane: physics-dense, or figure: cost"
            )
        if study.figure == "damage" and not composed.plan.run.checkpoint_steps:
            remedy = "figure damage is about routers of earlier checkpoints: add run.checkpoint_steps=[16,64,256] to common"
            raise UserError(f"{case} keeps no checkpoints", remedy)
        if study.inspects and len(composed.plan.data.tasks) < 2:
            tasks = ", ".join(composed.plan.data.tasks) or "none"
            remedy = "figure routing is about two tasks or more: of a lane such as physics-moe-16e, with its data.tasks"
            raise UserError(f"{case} has {len(composed.plan.data.tasks)} generated tasks ({tasks})", remedy)
        if study.inspects and "tasks" not in composed.final:
            remedy = "tasks are scored where all of val is: raise budget.tokens, or add track.tokens.final=[tasks]"
            raise UserError(f"{case} is not scored on its tasks", remedy)
        broken = "; ".join(f"{key}={now} instead of {was}" for key, (was, now) in composed.broken.items())
        print(f"{case}: " + (f"unranked: {broken}" if broken else "unranked" if composed.plan.unranked else "may be ranked"))
        parts |= dict.fromkeys([*composed.plan.track.sources, *(f"noise-{kind}" for kind in composed.plan.data.noise)])
        same = [other.name for other in jobs if (other.plan_hash, other.start) == (job.plan_hash, job.start)]
        if same:
            raise UserError(f"{same[0]} and {case} are one plan with {' '.join(overrides)}", "leave out what the cases turn")
        jobs.append(job)
    if not jobs:
        raise UserError(f"no case of study {study.name} can be run here:\n  " + "\n  ".join(complaints), "see make plan")
    if study.figure == RACE:
        refuse_race(study.families, {job.name: job.plan for job in jobs})
    if study.figure == "parts" and not (parts.keys() and set(study.parts) <= parts.keys()):
        wanted = ", ".join(part for part in study.parts if part not in parts) or "parts of val"
        raise UserError(
            f"figure parts of lane {study.lane}, none of whose cases is scored on {wanted}",
            f"there are {', '.join(parts)}" if parts else "use a lane whose track has sources: renderings-dense",
        )
    return jobs


def _start(study, case: str, jobs: list[Job]) -> Start | None:
    """Raises: UserError where the case that this one starts from cannot be run here."""
    fork = study.fork(case)
    if fork is None:
        return None
    source = next((job for job in jobs if job.name == fork[0]), None)
    if source is None:
        raise UserError(f"{fork[0]}, which it starts from, cannot be run here", "")
    return Start(source, fork[1])


def verdicts_of(trials) -> dict[tuple[str, int], list[str]]:
    from harness.doctor.diagnose import troubles

    return {(trial.case, trial.seed): troubles(trial.folder) for trial in trials}


def _say(study, trials, verdicts, written: list[Path]) -> None:
    from harness.report.study.table import study_table

    print(f"\n{study_table(study, trials, verdicts)}\n\nwritten: {', '.join(map(str, written))}")
