"""Trains a lane and judges it against its baseline: exact bits, loss, router health, speed, memory, counts, scoring.

usage: python -m harness gate [key=value ...] [base=GIT_REF] [out=FOLDER] [baselines=FOLDER]
       python -m harness gate RUN_FOLDER [baselines=FOLDER]      judges a finished run; trains nothing, answers at once
       python -m harness gate update reason="..." [seeds=1,2,3] [key=value ...] [RUN_FOLDER ...]
       make gate LANE=tiny-moe-16e [SEED=1] [SET="..."] [BASE=origin/main]
       make gate-update LANE=tiny-moe-16e REASON="the router's scores are computed in fp32"

examples
  python -m harness gate lane=tiny-moe-16e seed=1
  python -m harness gate lane=tiny-dense unranked=true budget.tokens=65536 base=origin/main     a short look, as CI takes it
  python -m harness gate update reason="Muon takes 4 iterations" lane=tiny-moe-16e seeds=1,2,3

A baseline (results/baselines/LANE.json) holds seeds of one plan by hardware class. base=REF runs that commit beside this one
in the same job, for machines and plans that have no baseline. Exit status 1 when a detector fails; gate.md, gate.xml (JUnit)
and the run stay in the folder that is printed. `update` trains what is missing of its seeds, times five processes, and
keeps the reasons of all earlier baselines.
"""

from harness.launch.options import FOLDER, PATH, SEEDS, TEXT, Kind, Names, Word, Words

SUMMARY = "train a lane and judge it against its baseline; `gate update` accepts a new one"
FINISHED = Names("run folder", FOLDER, remedy="python -m harness gate RUN_FOLDER [baselines=FOLDER]")
REF = Kind(str, "a commit, branch or tag")
PLACES = Word("out", PATH), Word("baselines", PATH)
JUDGE = Words("gate", Word("base", REF), *PLACES, names=FINISHED, plan=True)
UPDATE = Words("gate", Word("reason", TEXT, ""), Word("seeds", SEEDS), *PLACES, names=FINISHED, plan=True)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["update"]:
        own = UPDATE.read(arguments[1:])
        from harness.launch.gate_update import update

        return update(own)
    own = JUDGE.read(arguments)
    from harness.launch.gate import judge_finished, train_and_judge

    return judge_finished(own) if own.names else train_and_judge(own)
