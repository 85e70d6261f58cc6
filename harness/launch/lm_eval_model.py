"""A finished run as a model of lm-evaluation-harness (the extra `lm-eval` of pyproject.toml), for any of its tasks:

    import lm_eval
    from harness.launch.lm_eval_model import RunLM

    lm_eval.simple_evaluate(model=RunLM("runs/tiny-moe-16e/1-..."), tasks=["arc_easy"])

How a context and its continuation are encoded is the package's own rule (`TemplateLM`); what is answered is in
`harness/evaluate/requests.py`. Importing this file without the package is a UserError.
"""

import math
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.evaluate.own_model import OwnModel
from harness.evaluate.requests import Coding, coding, continuation, whole_text, writes
from harness.launch.run_model import load_run_model, refuse_without_text
from harness.plan.stored import read_plan
from harness.progress import Progress
from harness.record.read import read_record
from harness.train.determinism import set_environment, set_torch

if find_spec("lm_eval") is None:
    raise UserError(
        "tasks of lm-evaluation-harness need the package lm-eval (an extra of pyproject.toml), which is not installed",
        ".venv/bin/python -m pip install lm-eval==0.4.13",
    )

from lm_eval.api.model import TemplateLM  # noqa: E402


class RequestsLM(TemplateLM):
    """`facts` (JSON data) say which model it is, in the results."""

    def __init__(self, model: OwnModel, code: Coding, facts: dict[str, Any]):
        super().__init__()
        self.model, self.code, self.facts = model, code, facts
        self.line = Progress()

    @property
    def eot_token_id(self) -> int:
        """What a text without a context follows."""
        return self.code.first

    @property
    def tokenizer_name(self) -> str:
        return f"moe-speedrun-{self.code.name}"

    def get_model_info(self) -> dict[str, Any]:
        return self.facts

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self.code.encode(string)

    def _loglikelihood_tokens(self, requests: list[tuple[Any, list[int], list[int]]], **_: Any) -> list[tuple[float, bool]]:
        found = []
        for done, (texts, before, tokens) in enumerate(requests, 1):
            found.append(continuation(self.model, before, tokens))
            self._answered("loglikelihood", texts, found[-1], done, len(requests))
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        found = []
        for done, request in enumerate(requests, 1):
            found.append(whole_text(self.model, self.code.encode(request.args[0]), self.code.first))
            self._answered("loglikelihood_rolling", request.args, found[-1], done, len(requests))
        return found

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        found = []
        for text in writes(self.model.model, self.code, (request.args for request in requests)):
            found.append(text)
            self._answered("generate_until", requests[len(found) - 1].args, text, len(found), len(requests))
        return found

    def _answered(self, kind: str, asked: Any, answer: Any, done: int, total: int) -> None:
        self.cache_hook.add_partial(kind, asked, answer)
        self.line.count(f"requests for {kind}", done, total)


class RunLM(RequestsLM):
    def __init__(self, run: str | Path, device: str = "cpu"):
        """Raises: UserError when there is no such run, it is of no text, or its weights are damaged."""
        set_environment()
        set_torch()
        run = Path(run)
        record, plan = read_record(run), read_plan(run / "plan.yaml")
        refuse_without_text(str(run), plan)
        facts = {
            "run": str(run), "lane": record.lane, "seed": record.seed, "plan_hash": record.plan_hash,
            "weights": record.artifacts["weights.safetensors"].sha256, "model_num_parameters": record.counts.params_total,
            "model_dtype": "float32",
        }  # fmt: skip
        super().__init__(OwnModel(load_run_model(run).to(device)), coding(plan.track.tokens.tokenizer), facts)


def evaluated(model: RequestsLM, tasks: list[str], limit: int | None = None) -> dict[str, Any]:
    """JSON data: what `simple_evaluate` found of these tasks, and the package's version.

    Raises:
        UserError: a task that the package does not have.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    known = TaskManager()
    for name in tasks:
        if not known.match_tasks([name]) and not Path(name).is_file():
            raise UserError(f"lm-evaluation-harness has no task {name!r}", "`lm-eval ls tasks` lists them; a YAML file will do")
    found = simple_evaluate(model=model, tasks=list(tasks), limit=limit, log_samples=False, task_manager=known)
    kept = ("results", "groups", "versions", "n-shot", "n-samples")
    return {"version": version("lm_eval"), **{key: _plain(found[key]) for key in kept if key in found}}


def _plain(value: Any) -> Any:
    """With numbers that JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value
