"""Prints the starting plan, trains with a live line, scores, writes the record and figures.

usage: python -m harness speedrun [key=value ...] [--multirun]
       make speedrun [LANE=tiny-moe-16e] [SEED=1 | SEEDS=1,2,3] [SET="key=value ..."]

examples
  python -m harness speedrun lane=sotu-dense optim.muon.lr=0.02 seed=1
  python -m harness speedrun --multirun lane=tiny-dense seed=1,2,3 optim.muon.lr=0.01,0.02
  python -m harness speedrun lane=tiny-moe-16e unranked=true budget.tokens=65536       a short look; scoring is capped alike
  python -m harness speedrun lane=tiny-moe-16e fork=runs/tiny-moe-16e/1-0123abcd@256 seed=2
  torchrun --nproc-per-node 2 -m harness speedrun lane=tiny-dense

The same command again goes on with an unfinished run from its last good checkpoint; after a finished one it starts a new
folder. The last line is `record: PATH`.
"""

import os
from functools import partial

from harness.errors import UserError
from harness.launch.options import SWITCH, Word, Words
from harness.terminal import warn

SUMMARY = "train and score a lane; ends with a table, figures and `record: PATH`"
WORDS = Words("speedrun", Word("multirun", SWITCH, False, other="-m"), plan=True)


def main(arguments: list[str]) -> int:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return on_ranks(arguments)
    own = WORDS.read(arguments)
    if own.multirun:
        from harness.launch.multirun import multirun

        return multirun(own.plan)
    from harness.plan.compose import compose
    from harness.ranks import ALONE
    from harness.train.determinism import set_torch

    composed = compose(own.plan)
    set_torch()
    return train(composed, ALONE)


def on_ranks(arguments: list[str]) -> int:
    """The same as one of several processes, which meet before one of them refuses anything: a refusal is then said once."""
    from harness.plan.compose import compose
    from harness.plan.schema import Run
    from harness.ranks import LostRank, join, leave
    from harness.train.determinism import set_torch

    composed, fault = None, None
    try:
        own = WORDS.read(arguments)
        if own.multirun:
            raise UserError(
                "--multirun on several ranks, each of which would start the whole sweep",
                "start it once, and give its jobs several ranks: harness/README.md, On a cluster",
            )
        composed = compose(own.plan)
    except UserError as error:
        fault = error
    set_torch()
    ranks = join((composed.plan.run if composed else Run()).timeout_s)

    def refuse() -> None:
        if fault:
            raise fault

    try:
        ranks.all_or_none(refuse)
        return train(composed, ranks)
    except LostRank as lost:  # while it trains, `run` says after which step
        raise UserError(
            f"rank {ranks.rank} of {ranks.world} lost another one before training, in {lost.during}: {lost}",
            "see what that one said or does; where it only takes long, as preparing data may, set run.timeout_s",
        ) from lost
    finally:
        leave(ranks)


def train(composed, ranks) -> int:
    from harness.launch.sinks import finish
    from harness.progress import Progress
    from harness.ranks import leave
    from harness.train.health import HealthStop
    from harness.train.machine import is_out_of_memory
    from harness.train.run import Stopped, run

    plan, progress = composed.plan, Progress(quiet=not ranks.is_first)
    try:
        here, processors, corpus = ready(composed, ranks, progress)
        path = run(composed, here, ranks, processors, corpus, progress, partial(_follow, plan, progress))
    except Stopped as stopped:
        progress.say(f"stopped with a checkpoint in {stopped.path}; the same command goes on from it")
        return stopped.code
    except HealthStop as stop:
        if ranks.is_first:  # of all that stop
            warn(f"stopped by health ({stop.reason}): {stop.what}\n  {stop.remedy}")
            warn(f"  make doctor RUN={stop.folder} says what is wrong and what to type")
        return 3
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory: {str(error).splitlines()[0]}",
            "set parallel.micro_batch_tokens to a part of the step, or parallel.activation_checkpointing=true; "
            "the same command then starts a new run, the last checkpoint of this one stays",
        ) from error
    finally:
        leave(ranks)
    if path is not None:
        finish(path, plan.run.mlflow, plan.run.folder)
    return 0


def ready(composed, ranks, progress):
    """The machine, the processors of the run and its data, before anything is spent.

    Raises:
        UserError: what cannot run here, on whichever rank; on all of them, and told by the first.
    """
    from harness.data.corpora import load_for, wanted_by
    from harness.data.prepare import prepare
    from harness.evaluate.public import fetch_all
    from harness.launch.starting_plan import refuse_what_cannot_run, starting_plan
    from harness.model.build import count_plan
    from harness.plan.check_parallel import check_ranks
    from harness.train import alike, machine, processors
    from harness.train.occupancy import Look

    plan = composed.plan
    alike.refuse_other_runs(composed, ranks)
    ranks.all_or_none(lambda: check_ranks(plan, ranks.world))
    look = Look(own := processors.of_ranks(ranks))
    found = ranks.all_or_none(lambda: machine.detect(plan, ranks.world))
    here = ranks.broadcast(found)  # one for all: timings differ from rank to rank
    alike.refuse_other_machines(found, here, ranks)
    ranks.all_or_none(lambda: refuse_what_cannot_run(composed, here))
    progress.say(starting_plan(composed, here, count_plan(plan), look.taken(here)))

    def cached() -> None:
        prepare(wanted_by(plan), progress.say)
        fetch_all(plan, composed.final)

    ranks.all_or_none(lambda: cached() if ranks.is_first else None)  # the others wait for the cache
    return here, own, ranks.all_or_none(lambda: load_for(plan))


def _follow(plan, progress, folder) -> None:
    """Starts the follower of a run that is tracked live."""
    from harness.launch.sinks import start_follower

    if plan.run.mlflow == "live":
        start_follower(folder, plan.run.folder)
        progress.say("tracking live: the follower runs at the lowest priority, but it shares this machine with the timed run")
