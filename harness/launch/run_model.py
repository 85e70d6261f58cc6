"""The model that a finished run left behind, for the verbs that use one."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from harness.errors import UserError
from harness.files import file_sha256
from harness.model.build import build_model
from harness.model.transformer import Transformer
from harness.plan.check import check
from harness.plan.schema import Plan
from harness.plan.stored import read_plan
from harness.reading import is_there
from harness.record.read import read_record
from harness.record.schema import Record


def load_run_model(run: Path) -> Transformer:
    """In fp32, on the CPU, in evaluation mode. Raises: UserError when there is none or its weights are damaged."""
    record, weights = read_record(run), run / "weights.safetensors"
    if not is_there(weights):
        raise UserError(f"{run} has no weights.safetensors", "it was pruned; train it again")
    for path in (weights, run / "plan.yaml"):
        _check_hash(path, record)
    plan = read_plan(run / "plan.yaml")
    check(plan)
    model = build_model(plan, "full")
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{weights} does not fit {run / 'plan.yaml'}: {error}", "train it again") from error
    return model.eval()


def refuse_without_text(name: str, plan: Plan) -> None:
    """Raises: UserError for a model that text means nothing to."""
    if plan.track.of_tasks:
        raise UserError(
            f"{name} was trained on generated tasks (track {plan.track.name}): it knows their ids, and no text",
            f"make evaluate RUN={name} scores it on its own tasks",
        )


def _check_hash(path: Path, record: Record) -> None:
    """Raises: UserError unless the file is, byte for byte, the one that the record was made of."""
    if path.name not in record.artifacts:
        raise UserError(f"{path.parent / 'record.json'} states no hash of {path.name}", "train it again")
    try:
        found = file_sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "train it again") from error
    if found != record.artifacts[path.name].sha256:
        raise UserError(f"{path} is corrupt: its sha256 is not the recorded one", "train it again")
