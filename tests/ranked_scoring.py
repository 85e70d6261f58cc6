"""What each process runs for test_train_ranks_public.py: a small token lane whose public sets are small. Not a test itself.

usage: ranked_scoring.py FOLDER train HOW WORDS ... | FOLDER again RUN_FOLDER
HOW: untouched; broken: a file of CORE is missing on rank 1; val, public: rank 1 hears SIGTERM while that is scored
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import core_bundle
from small_tokens import documents, small_tokenizer, small_track

import harness.data.corpora.documents
import harness.launch.sinks
import harness.train.ending as ending
from harness.__main__ import main
from harness.data import tokenizer
from harness.data.corpora.documents import Corpus
from harness.errors import UserError
from harness.evaluate import public, wikitext
from harness.evaluate.core import bundle, tasks
from harness.evaluate.own_model import OwnModel
from harness.launch.run_model import load_run_model
from harness.plan.compose import Composed
from harness.plan.stored import read_plan
from harness.ranks import Ranks
from harness.train.determinism import set_torch

PAGE = " = First = \n \n " + " ".join(f"A page , of {i} words and more . \n" for i in range(130))


def small_public_sets(home: Path) -> None:
    """Cache and mirror of this process's own, CORE and WikiText of a second's size, and short runs that count as whole."""
    os.environ["SPEEDRUN_CACHE"], os.environ["SPEEDRUN_MIRROR"] = str(home / "cache"), str(home / "mirror")
    place, load = bundle.folder(core_bundle.archive(home / "mirror", core_bundle.files())), tasks.load
    tasks.load = lambda: load(place)
    wikitext.raw_text = lambda: PAGE + PAGE.replace("First", "Second")
    tokenizer.TOKENIZERS["gpt2"] = ending.gpt2 = small_tokenizer
    harness.data.corpora.documents.REBUILDERS = {}
    track, real = small_track(home / "mirror", [documents(1, 10), documents(2, 10)], documents(3, 6)), Corpus.load
    Corpus.load = lambda wanted, *rest: real(replace(wanted, track=track), *rest)
    Composed.cut = False
    harness.launch.sinks.show_at_end = lambda run: None


def broken() -> list:
    raise UserError(f"a file of rank {os.environ['RANK']} was edited", "fetch it again")


def signalled(real, at: int):
    """`real`, before whose call number `at` this process hears SIGTERM."""
    calls = []

    def called(*words, **options):
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(signal.SIGTERM)
        return real(*words, **options)

    return called


def spoil(how: str) -> None:
    if how == "broken":
        tasks.load = broken
    elif how == "val":
        ending._final_scores = signalled(ending._final_scores, 1)
    elif how == "public":
        OwnModel.score = signalled(OwnModel.score, 2)


if __name__ == "__main__":
    folder, what, which, *words = sys.argv[1:]
    rank = os.environ.get("RANK", "alone")
    small_public_sets(Path(folder) / f"home-{rank}")
    if what == "train":
        if rank == "1":
            spoil(which)
        sys.exit(main(["speedrun", *words, f"run.folder={folder}/runs"]))
    set_torch()
    plan, model = read_plan(Path(which, "plan.yaml")), OwnModel(load_run_model(Path(which)))
    found = public.score_all(plan.track.tokens.final, plan, model, small_tokenizer(), lambda *_: None, Ranks(0, 1))
    Path(folder, "again.json").write_text(json.dumps(found))
