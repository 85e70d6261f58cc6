"""What a study looks for in its runs: what is there is taken, any other is made once, and what cannot be made is named."""

import json

import pytest
from inspect_factory import write_inspection
from report_factory import edit_record
from task_records import TASKS, write_task_run

from harness.launch import child
from harness.launch.looks import INSTANCES, take_or_look
from harness.report.run_data import load_run

STRENGTH = dict.fromkeys(TASKS, 0.5)


@pytest.fixture(name="look")
def look_fixture(tmp_path, monkeypatch):
    """look() -> (how often `inspect` was started, complaints) of a run; what is started writes what it should, or `broken`."""
    folder, started = write_task_run(tmp_path / "run"), []

    def start(words, **how):
        started.append(words)
        if not look.broken:
            write_inspection(folder, STRENGTH)
        return child.Ended(2 if look.broken else 0, "")

    def look():
        started.clear()
        complaints = []
        take_or_look("inspect", "one seed 1", load_run(folder), complaints)
        assert started in ([], [["inspect", str(folder), "--instances", str(INSTANCES)]])
        return len(started), complaints

    monkeypatch.setattr(child, "run", start)
    look.folder, look.broken = folder, False
    return look


def change(path, **fields):
    content = json.loads(path.read_text())
    for place, value in fields.items():
        *parents, leaf = place.split("__")
        node = content
        for parent in parents:
            node = node[int(parent) if parent.isdecimal() else parent]
        node[int(leaf) if leaf.isdecimal() else leaf] = value
    path.write_text(json.dumps(content))


def test_a_run_is_inspected_once(look, capsys):
    assert look() == (1, []) and "== inspect one seed 1: it has no inspect.json" in capsys.readouterr().out
    assert look() == (0, []) and "have inspect of one seed 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "fields, why",
    [({"run__weights_sha256": "ab" * 32}, "is of weights abababab, the run has eeeeeeee"),
     ({"run__plan_hash": "ab" * 32}, "is of plan abababab"), ({"run__seed": 2}, "is of seed 2, the run has 1"),
     ({"run__content_sha256": "ab" * 32}, "is of record abababab"),
     ({"tasks__0__instances": 16}, "it was asked 16, 256 instances of a task, not 256"),
     ({"tasks__0__task": "other"}, "asked other, brevo"), ({"schema_version": 99}, "has schema version 99"),
     ({"task_routing": None}, "has nothing about experts and tasks"),
     ({"task_routing__0__chosen__3": 7}, "nats of depo in layer 0, its counts give"),
     ({"task_routing__0__information": 0.5}, "says 0.5 nats of depo in layer 0"),
     ({"specialists": []}, "has not each expert of each layer"),
     ({"routing": []}, "has not what each layer tells of all tasks"),
     ({"routing__0__information": 0.5}, "says 0.5 nats of all tasks in layer 0"),
     ({"task_routing__0__chosen": [1]}, "does not count 16 experts in layer 0"),
     ({"ablation__rows__0__nats": "much"}, "expected a finite number")],
)  # fmt: skip
def test_one_of_another_run_or_that_is_not_whole_is_not_taken_but_made_anew(look, fields, why, capsys):
    path = write_inspection(look.folder, STRENGTH)
    change(path, **fields)
    assert look() == (1, []) and why in capsys.readouterr().out
    change(path, **fields)
    look.broken = True
    started, (complaint,) = look()
    assert started == 1 and complaint.startswith("one seed 1 was not looked into by inspect (status 2): ") and why in complaint


def test_a_torn_file_is_made_anew(look, capsys):
    path = write_inspection(look.folder, STRENGTH)
    path.write_text(path.read_text()[:999])
    assert look() == (1, []) and "truncated or corrupt" in capsys.readouterr().out


def test_another_training_of_the_same_plan_and_seed_is_looked_at_anew(look):
    write_inspection(look.folder, STRENGTH)
    edit_record(look.folder, artifacts__x={"sha256": "aa" * 32, "bytes": 1})
    assert look() == (1, [])
