"""The models that a run's kept checkpoints hold, for the verbs that look at a run over its steps."""

from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError
from harness.launch.replay import short_words
from harness.launch.run_model import load_run_model
from harness.model.transformer import Transformer
from harness.plan.stored import read_plan
from harness.record import checkpoint_files
from harness.record.read import read_record
from harness.report.run_data import load_run
from harness.train import checkpoint

TRAINED, SCORED = "model.", "schedule_free.mean."  # of a checkpoint: what Schedule-Free trains is not what it scores and keeps
SHARES = (0.125, 0.25, 0.5, 0.75)  # of a run, at which one might keep checkpoints


def kept_steps(run: Path) -> list[int]:
    """Steps before the last of which a finished run kept a checkpoint.

    Raises:
        UserError: it has none, or is not finished.
    """
    read_record(run)  # says what there is instead
    last = read_plan(run / "plan.yaml").steps
    steps = [step for step in checkpoint_files.complete(run / "checkpoints") if step < last]
    if not steps:
        raise UserError(f"{run} kept no checkpoint: of what it was on its way nothing is left", how_to_keep(run))
    return steps


def how_to_keep(run: Path) -> str:
    """What to type to have the run again, with the same bits and with checkpoints."""
    data, plan = load_run(run), read_plan(run / "plan.yaml")
    wanted = ",".join(str(step) for step in sorted({max(1, round(share * plan.steps)) for share in SHARES}))
    return (
        "run.checkpoint_steps keeps them, and moves no bit of a run:\n"
        f"  python -m harness speedrun {' '.join(short_words(data, plan.seed))} 'run.checkpoint_steps=[{wanted}]'"
    )


def models_at(run: Path, steps: list[int], untrained: Transformer) -> Iterator[Transformer]:
    """The model after each of these steps, as it would be scored, then at the end of the run: one object, in fp32 on the CPU,
    with other weights each time. `untrained`: the model to fill.

    Raises:
        UserError: a checkpoint is damaged, or of another model.
    """
    below_bf16 = read_plan(run / "plan.yaml").below_bf16
    for step in steps:
        try:
            tensors = checkpoint.load(run / "checkpoints", step).tensors
        except ValueError as error:
            raise UserError(str(error), f"delete that one and take the others, or train again:\n{how_to_keep(run)}") from error
        own = {
            name.removeprefix(prefix): t[...]
            for prefix in (TRAINED, SCORED)
            for name, t in tensors.items()
            if name.startswith(prefix)
        }
        try:
            untrained.load_state_dict(own)
        except RuntimeError as error:
            problem = f"the checkpoint of step {step} does not fit {run / 'plan.yaml'}: {error}"
            raise UserError(problem, "train it again") from error
        untrained.quantize(step <= below_bf16)
        yield untrained
    yield load_run_model(run)
