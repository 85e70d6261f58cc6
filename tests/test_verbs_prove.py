"""Prove: equal runs pass, runs that differ do not."""

import json
import re

import micro
import processes
import pytest
from report_factory import edit_record, write_run

import harness.verbs.prove as prove
from harness.__main__ import main
from harness.launch import child


def write_record(folder, chain="aa" * 16, weights="bb" * 16, differs_at=None):
    write_run(folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] == "window":
            row["chain"] = f"{row['step']:08x}{'f' if differs_at and row['step'] >= differs_at else ''}"
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    edit_record(folder, determinism__chain=chain, determinism__weights=weights, resumes=1)
    return folder / "record.json"


@pytest.fixture
def pretended(tmp_path, monkeypatch, capsys):
    """`prove` over runs that are only pretended: `differing` are the marks of the killed one."""

    def go(**differing):
        monkeypatch.setattr(prove, "_untouched", lambda words, folder: write_record(folder))
        monkeypatch.setattr(prove, "_killed", lambda words, folder, *_: write_record(folder, **differing))
        status = main(["prove", *micro.MOE, f"run.folder={tmp_path}"])
        return status, capsys.readouterr().out

    return go


def test_equal_runs_are_proved_and_cleaned_up(pretended, tmp_path):
    status, said = pretended()
    assert status == 0 and "proved: 3 runs" in said and not list(tmp_path.glob("prove-*"))


@pytest.mark.parametrize(
    "differing, said",
    [({"chain": "cc" * 16, "differs_at": 128}, "leaves the first run at step 128"), ({"weights": "cc" * 16}, "cc")],
)
def test_runs_that_differ_are_not_proved_and_are_kept(pretended, tmp_path, differing, said):
    status, out = pretended(**differing)
    assert status == 1 and "NOT proved" in out and said in out
    assert len(list(tmp_path.glob("prove-*/*/record.json"))) == 3


@pytest.mark.parametrize("word", ["kills=many", "kills=-1", "tokens=1.5"])
def test_numbers_that_are_none_are_refused(tmp_path, capsys, word):
    assert main(["prove", *micro.MOE, word, f"run.folder={tmp_path / 'runs'}"]) == 2
    assert word in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_micro_lane_is_proved_with_a_killed_run_that_really_resumed(tmp_path, monkeypatch, capsys):
    """A run that was killed before its first checkpoint starts anew, and proves nothing about resuming. None draws figures."""
    started = child.started
    monkeypatch.setattr(child, "started", lambda words, **how: started(words, **how | {"program": processes.UNDRAWN}))
    status = main(["prove", *micro.DENSE, "budget.tokens=24576", "tokens=24576", "kills=1", f"run.folder={tmp_path}"])
    said = capsys.readouterr().out
    assert status == 0 and "proved: 3 runs" in said
    (row,) = re.findall(r"^ *killed 1 times .* (\d+)$", said, re.MULTILINE)
    assert int(row) == 1, said
