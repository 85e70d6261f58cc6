"""A run in lm_eval itself: tasks of every kind of request, and its answers beside those of HFLM over the export."""

import json

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from micro import finished_fixture  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.__main__ import main
from harness.evaluate.own_model import OwnModel
from harness.evaluate.requests import coding, continuation
from harness.launch.lm_eval_model import RunLM
from harness.launch.run_model import load_run_model

ROWS = [
    {"question": "The state of the", "options": [" Union", " onion", " xq"], "right": 0},
    {"question": "Fellow-Citizens of the ", "options": ["zzzz", "Senate"], "right": 1},
    {"question": "One", "options": [" two three four five six seven eight nine ten", " 2"], "right": 0},
]
COMMON = {"dataset_path": "json", "test_split": "test", "metadata": {"version": 1}}
TASKS = {
    "chosen": {
        "output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "{{options}}",
        "doc_to_target": "{{right}}", "target_delimiter": "", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "text": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{question}}{{options[0]}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
    "written": {
        "output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "{{options[0]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{task: its YAML file}."""
    place = tmp_path_factory.mktemp("tasks")
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    data = COMMON | {"dataset_kwargs": {"data_files": {"test": str(place / "rows.jsonl")}}}
    for name, task in TASKS.items():
        (place / f"{name}.yaml").write_text(json.dumps({"task": f"our_{name}", **data, **task}))
    return {name: str(place / f"{name}.yaml") for name in TASKS}


def results(model, tasks, limit=None):
    found = lm_eval.simple_evaluate(model=model, tasks=tasks, limit=limit, bootstrap_iters=0)
    samples = {name: sorted(rows, key=lambda row: row["doc_id"]) for name, rows in found["samples"].items()}
    return found["results"], {name: [row["resps"] for row in rows] for name, rows in samples.items()}, found["config"]


@pytest.fixture(scope="module")
def ours(finished, files):
    return results(RunLM(finished()), list(files.values()))


def test_a_run_answers_tasks_of_every_kind(ours, finished):
    table, answers, config = ours
    assert table["our_text"]["bits_per_byte,none"] > 0 and 0 <= table["our_chosen"]["acc,none"] <= 1
    assert [len(text[0][0]) <= 8 for text in answers["our_written"]] == [True] * 3
    assert config["plan_hash"] and config["run"] == str(finished())


def test_the_answers_are_the_runs_own(ours, finished):
    own, code = OwnModel(load_run_model(finished())), coding("")
    for row, answer in zip(ROWS[:1], ours[1]["our_chosen"]):
        expected = [continuation(own, code.encode(row["question"]), code.encode(option)) for option in row["options"]]
        assert [tuple(each[0]) for each in answer] == expected


def test_the_same_tasks_have_the_same_answers_to_the_bit_alone_and_together(ours, finished, files):
    for name in files:
        assert results(RunLM(finished()), [files[name]])[1][f"our_{name}"] == ours[1][f"our_{name}"]


def test_lm_evals_own_model_over_the_export_gives_the_same_nats(ours, finished, files, tmp_path):
    out = tmp_path / "exported"
    assert main(["export", str(finished()), f"out={out}"]) == 0
    tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=True)
    tokenizer.pad_token = tokenizer.bos_token = tokenizer.eos_token = "\u010a"  # a newline, which begins our texts too
    network = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)
    model = HFLM(pretrained=network, tokenizer=tokenizer, batch_size=2)
    theirs = results(model, [files["chosen"], files["text"]], limit=2)[1]  # it refuses options that are longer than it reads
    for name in ("our_chosen", "our_text"):
        assert nats(ours[1][name][:2]) == pytest.approx(nats(theirs[name]), rel=1e-5)


def nats(answers):
    """Of every request of every example; what answers more than a number begins with it."""
    found = [each[0] for answer in answers for each in answer]
    return [float(one[0] if isinstance(one, (tuple, list)) else one) for one in found]


def test_evaluate_prints_and_writes_the_figures_of_tasks(finished, files, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert main(["evaluate", str(finished()), f"tasks={files['chosen']},{files['text']}", f"out={out}"]) == 0
    said, written = capsys.readouterr().out, json.loads(out.read_text())["scores"]["tasks"]
    assert "our_text bits_per_byte,none" in said and written["protocol"] == f"lm-eval-{lm_eval.__version__}"
    assert written["our_chosen acc,none"] == written["results"]["our_chosen"]["acc,none"]


def test_an_unknown_task_is_a_clear_error(finished, capsys):
    assert main(["evaluate", str(finished()), "tasks=no_such_task_at_all"]) == 2
    assert "no task 'no_such_task_at_all'" in capsys.readouterr().err
