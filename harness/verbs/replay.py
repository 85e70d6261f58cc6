"""Runs records again in this checkout, each as a run of its own in runs/, and prints them beside their replays.

usage: python -m harness replay RECORD [seed=N | seeds=1,2,3] [class=same|any] [run.folder=runs ...]
       make replay RECORD=results/tiny-dense/1-0123abcd [SEEDS=1,2,3] [SET="seed=2 class=any"]

examples
  python -m harness replay results/tiny-dense/1-0123abcd           the record's plan and seed
  python -m harness replay results/tiny-dense/1-0123abcd seed=7    its plan under another seed
  python -m harness replay results/tiny-dense/claim-0123abcd-9f86d0.json   all seeds of a claim, one after the other
  python -m harness replay runs/tiny-dense                         every record below a folder

RECORD is a run folder or its record.json, a claim, or a folder of records. A replay is timed, and ranked, as any run, and has
as many threads and ranks as the record. Its words are made from the typed plan of plan.yaml; of yours it takes run.folder and
other keys of `run` that move no bit. `make verify` re-executes to prove bits and leaves nothing but its verdict, whereas
`make replay` makes a run that stays.

Printed are seconds, bits per byte, rates, and whether chain and weights are equal; what could have made them differ (another
commit, other versions) is named, and the exit status is 1 where nothing could, and they do. Under another seed no bits are
compared. With three recorded seeds or more it says whether the figures lie within their prediction intervals. A record of
another hardware class or revision of the arithmetic is refused; class=any runs its plan nevertheless, and nothing is claimed
of seconds.

Interrupted, the same command goes on: with the unfinished run, and of several with those that are still to come.
"""

import hashlib
import json
from pathlib import Path

from harness.errors import UserError
from harness.launch.options import PATH, SEEDS, Names, Word, Words, choice, whole

SUMMARY = "run a record again as a run of its own, and print the two side by side"
RECORD = Names("record", PATH, 1, 1, "name one: python -m harness replay results/LANE/SEED-PLAN")
CLASS = Word(
    "class", choice("same", "any"), "same", "same, or any (another hardware class: nothing is claimed of seconds or bits)"
)
WORDS = Words("replay", Word("seed", whole()), Word("seeds", SEEDS), CLASS, names=RECORD, plan=True)
TAKEN = ("run.folder", "run.mlflow", "run.checkpoint_every_s", "run.keep_checkpoints", "run.timeout_s")
HEALTH = 3  # exit status of a run that health stopped


def main(arguments: list[str]) -> int:
    from harness.launch.replay import records_at, refuse_what_cannot_be_replayed, replays
    from harness.report.verify.replayed import line

    own = WORDS.read(arguments)
    _refuse_other_words(own.plan)
    if own.seed is not None and own.seeds:
        raise UserError(f"seed={own.seed} and seeds={','.join(map(str, own.seeds))}", "leave one of them out")
    (path,), any_class = own.names, getattr(own, "class") == "any"
    seeds = own.seeds or (None if own.seed is None else [own.seed])
    wanted = replays(records_at(path), seeds)
    refuse_what_cannot_be_replayed([one.source for one in wanted], any_class)
    progress = _Progress(own.plan, [one.name for one in wanted])
    found, status = [], 0
    for number, one in enumerate(wanted, 1):
        if len(wanted) > 1:
            print(f"\n== {number} of {len(wanted)}: {one.name}", flush=True)
        beside, ended = _replayed(one, own.plan, progress)
        if beside is None and ended != HEALTH:
            return ended
        found += [beside] if beside else []
        status = max(status, ended, int(beside is not None and beside.failed))
    progress.forget()
    if len(wanted) > 1:
        print("\n" + "\n".join(map(line, found)))
        print(f"{sum(one.equal for one in found)} of {len(wanted)} replays have the bits of their record")
    return status


def _refuse_other_words(words: list[str]) -> None:
    for said in words:
        if said.partition("=")[0] not in TAKEN:
            raise UserError(
                f"{said!r} is no word of replay, which runs the record's own plan",
                f"it takes {', '.join(TAKEN)}; another plan is run by make speedrun LANE=... SET=...",
            )


def _replayed(one, words: list[str], progress: "_Progress"):
    """(the two side by side, exit status): None where the replay has no record."""
    from harness.launch.replay import run_again
    from harness.report.run_data import load_run
    from harness.report.verify.replayed import Beside, told

    status, folder = 0, progress.done(one.name)
    if folder is None:
        status, folder = run_again(one, words)
    if status or folder is None:
        return None, status
    progress.note(one.name, folder)
    beside = Beside(load_run(folder), one.record, one.recorded)
    print(told(beside), flush=True)
    return beside, 0


class _Progress:
    """Which of several replays are done, so that the same command goes on: a file among the runs until all are."""

    def __init__(self, words: list[str], of: list[str]):
        from harness.plan.schema import Run
        from harness.plan.words import known_words, parsed

        said = {parsed(word).key_or_group: parsed(word).value() for word in known_words(words)}
        name = hashlib.sha256(repr(of).encode()).hexdigest()[:8]
        self.path, self.several = Path(str(said.get("run.folder", Run().folder))) / f"replay-{name}.json", len(of) > 1
        self.known = self._read()

    def done(self, name: str) -> Path | None:
        """The folder of a replay that is done and still there."""
        folder = Path(self.known[name]) if name in self.known else None
        return folder if folder and (folder / "record.json").exists() else None

    def note(self, name: str, folder: Path) -> None:
        from harness.files import replace_atomically

        self.known[name] = str(folder.resolve())
        if self.several:
            replace_atomically(self.path, [json.dumps({"done": self.known}, indent=1).encode()])

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, str]:
        from harness.reading import is_there, read_json
        from harness.record.documents import Replays

        return read_json(self.path, Replays, f"remove {self.path}").done if is_there(self.path) else {}
