"""The model that a finished run left behind, for the verbs that use one."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from harness.data.artifact import file_sha256
from harness.errors import UserError
from harness.model.transformer import Transformer
from harness.plan.stored import read_plan
from harness.report.run_data import read_record
from harness.train.session import build_model


def load_run_model(run: Path) -> Transformer:
    """In fp32, on the CPU, in evaluation mode. Errors: UserError when there is none or its weights are damaged."""
    record, weights = read_record(run), run / "weights.safetensors"
    if not weights.exists():
        raise UserError(f"{run} has no weights.safetensors", "it was pruned; train it again")
    if file_sha256(weights) != record["artifacts"][weights.name]["sha256"]:
        raise UserError(f"{weights} is corrupt: its sha256 is not the recorded one", "train it again")
    model = build_model(read_plan(run / "plan.yaml"), "full")
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{weights} does not fit {run / 'plan.yaml'}: {error}", "train it again") from error
    return model.eval()
