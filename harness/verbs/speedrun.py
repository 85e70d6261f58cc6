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

from functools import partial

from harness.errors import UserError
from harness.launch.options import SWITCH, Word, Words
from harness.terminal import warn

SUMMARY = "train and score a lane; ends with a table, figures and `record: PATH`"
WORDS = Words("speedrun", Word("multirun", SWITCH, False, other="-m"), plan=True)


def main(arguments: list[str]) -> int:
    own = WORDS.read(arguments)
    if own.multirun:
        from harness.launch.multirun import multirun

        return multirun(own.plan)
    from harness.plan.compose import compose

    return train(compose(own.plan))


def train(composed) -> int:
    from harness.data.corpora import load_for, wanted_by
    from harness.data.prepare import prepare
    from harness.evaluate.public import fetch_all
    from harness.launch.sinks import finish
    from harness.launch.starting_plan import refuse_what_cannot_run, starting_plan
    from harness.model.build import count_plan
    from harness.plan.check_parallel import check_ranks
    from harness.progress import Progress
    from harness.ranks import LostRank, join, leave
    from harness.train import machine, processors
    from harness.train.determinism import set_torch
    from harness.train.health import HealthStop
    from harness.train.occupancy import Look
    from harness.train.run import Stopped, run

    set_torch()
    plan = composed.plan
    ranks = join(plan.run.timeout_s)
    progress = Progress(quiet=not ranks.is_first)
    try:
        check_ranks(plan, ranks.world)
        look = Look(own := processors.of_ranks(ranks))
        here = ranks.broadcast(machine.detect(plan, ranks.world))  # one class for all: timings differ from rank to rank
        counts = count_plan(plan)
        refuse_what_cannot_run(composed, here)
        progress.say(starting_plan(composed, here, counts, look.taken(here)))
        if ranks.is_first:
            prepare(wanted_by(plan), progress.say)
            fetch_all(plan, composed.final)
        ranks.broadcast(None)  # the others wait for the cache
        path = run(composed, here, ranks, own, load_for(plan), progress, partial(_follow, plan, progress))
    except Stopped as stopped:
        progress.say(f"stopped with a checkpoint in {stopped.path}; the same command goes on from it")
        return stopped.code
    except HealthStop as stop:
        warn(f"stopped by health ({stop.reason}): {stop.what}\n  {stop.remedy}")
        warn(f"  make doctor RUN={stop.folder} says what is wrong and what to type")
        return 3
    except LostRank as lost:  # while it trains, `run` says after which step
        raise UserError(
            f"rank {ranks.rank} of {ranks.world} lost another one before training, in {lost.during}: {lost}",
            "see what that one said or does; where it only takes long, as preparing data may, set run.timeout_s",
        ) from lost
    except RuntimeError as error:
        if not machine.is_out_of_memory(error):
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


def _follow(plan, progress, folder) -> None:
    """Starts the follower of a run that is tracked live."""
    from harness.launch.sinks import start_follower

    if plan.run.mlflow == "live":
        start_follower(folder, plan.run.folder)
        progress.say("tracking live: the follower runs at the lowest priority, but it shares this machine with the timed run")
