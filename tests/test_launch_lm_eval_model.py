"""A run as a model of lm-evaluation-harness, without the package: what is asked reaches the run. With it: tests/referee."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import micro
import pytest
from micro import finished_fixture  # noqa: F401

from harness.__main__ import main
from harness.errors import UserError
from harness.evaluate.own_model import OwnModel
from harness.evaluate.requests import coding, continuation, whole_text
from harness.launch.run_model import load_run_model

NAME = "harness.launch.lm_eval_model"


class Template:
    """As much of lm_eval's TemplateLM as has to do with answers."""

    def __init__(self):
        self.told = []
        self.cache_hook = SimpleNamespace(add_partial=lambda *answered: self.told.append(answered))

    def loglikelihood(self, requests):
        pairs = [(request.args, self.tok_encode(request.args[0]), self.tok_encode(request.args[1])) for request in requests]
        return self._loglikelihood_tokens(pairs, disable_tqdm=True)


@pytest.fixture
def module(monkeypatch):
    """The file, imported beside a stub of the package."""
    packages = {name: ModuleType(name) for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model")}
    packages["lm_eval.api.model"].TemplateLM = Template
    packages["lm_eval"].__spec__ = SimpleNamespace(name="lm_eval")
    for name, package in packages.items():
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, NAME, raising=False)


def asked(*args):
    return SimpleNamespace(args=args)


def test_every_kind_of_request_is_answered_by_the_run(module, finished):
    lm, own, code = module.RunLM(str(finished())), OwnModel(load_run_model(finished())), coding("")
    pair, text = ("The state of", " the Union"), "A text that is longer than the window of thirty-two bytes."
    assert lm.loglikelihood([asked(*pair)]) == [continuation(own, *map(code.encode, pair))]
    assert lm.loglikelihood_rolling([asked(text)]) == [whole_text(own, code.encode(text), 10)]
    (written,) = lm.generate_until([asked("The ", {"until": ["\n"], "max_gen_toks": 6})])
    assert 0 < len(written.encode(errors="replace")) <= 18
    assert [told[0] for told in lm.told] == ["loglikelihood", "loglikelihood_rolling", "generate_until"]


def test_the_results_name_the_run_and_its_weights(module, finished):
    record, lm = micro.record(finished()), module.RunLM(finished())
    facts = lm.get_model_info()
    assert facts["plan_hash"] == record.plan_hash and facts["weights"] == record.artifacts["weights.safetensors"].sha256
    assert lm.eot_token_id == 10 and lm.tokenizer_name == "moe-speedrun-bytes"


def test_without_the_package_the_error_says_how_to_get_it(without):
    with pytest.raises(UserError, match="need the package lm-eval") as caught:
        importlib.import_module(NAME)
    assert "pip install lm-eval==" in caught.value.remedy


def test_evaluate_says_so_before_it_scores_anything(without, finished, capsys):
    assert main(["evaluate", str(finished()), "--val", "tasks=arc_easy"]) == 2
    said = capsys.readouterr()
    assert "need the package lm-eval" in said.err and "bpb" not in said.out


def test_evaluate_leaves_tasks_out_where_none_is_named(finished, without, monkeypatch, capsys):
    monkeypatch.setattr("harness.verbs.evaluate.SCORES", {"tasks": None})
    assert main(["evaluate", str(finished())]) == 0
    assert "left out" not in capsys.readouterr().out
