"""Prove: equal runs pass, runs that differ do not."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

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
        monkeypatch.setattr(prove, "_untouched", lambda words, folder, launch: write_record(folder))
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


RANKS = ["ranks=2,1", "kills=3"]


def test_on_several_numbers_of_ranks_there_is_a_run_on_each_and_the_killed_one_changes_them(monkeypatch, tmp_path, capsys):
    """Under units that all of them can share, with as many threads a rank."""
    asked, killed = [], []

    def untouched(words, folder, launch):
        asked.append((launch, words))
        return write_record(folder)

    def kill(words, folder, steps, kills, launches):
        killed.extend(launches)
        return write_record(folder)

    monkeypatch.setattr(prove, "_untouched", untouched)
    monkeypatch.setattr(prove, "_killed", kill)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(prove.os, "cpu_count", lambda: 6)
    assert main(["prove", *micro.MOE, *RANKS, f"run.folder={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "untouched on 2 ranks, 1 rank" in said and "proved: 3 runs" in said
    spread = prove.Launch(2, 3, ("parallel.ep=2",))
    assert [launch for launch, _ in asked] == [spread, prove.Launch(1, 3)] == killed[::-1]
    assert all({"parallel.sums=units", "parallel.micro_batch_tokens=128"} <= set(words) for _, words in asked)
    assert asked[0][0].how["environment"] == {"OMP_NUM_THREADS": "3"}
    assert asked[0][0].how["program"][-3:] == ("2", "-m", "harness") and asked[1][0].how["program"] == child.PROGRAM


def test_experts_are_spread_over_ranks_where_they_can_be(capsys):
    plain, own, low = (
        [*micro.MOE, "parallel.sums=units", "parallel.micro_batch_tokens=64"],
        "parallel.ep=4",
        "kernels.backend=reference",
    )
    assert prove._spread(4, plain) == ("parallel.ep=4",)
    assert prove._spread(1, plain) == prove._spread(4, [*plain, own]) == prove._spread(4, micro.DENSE) == ()
    assert capsys.readouterr().out == ""
    assert prove._spread(4, [*plain, low]) == () and "takes no rows alone" in capsys.readouterr().out


def test_a_unit_that_all_ranks_can_share_is_kept_and_one_that_was_asked_for_and_they_cannot_is_refused(
    monkeypatch, tmp_path, capsys
):
    asked = []
    monkeypatch.setattr(prove, "_untouched", lambda words, folder, launch: asked.append(words) or write_record(folder))
    unit = "parallel.micro_batch_tokens=64"
    assert main(["prove", *micro.MOE, unit, "ranks=1,4", "kills=0", f"run.folder={tmp_path}"]) == 0
    assert [word for word in asked[0] if "micro_batch" in word] == [unit]
    for words, said in (
        ((unit, "parallel.sums=units", "ranks=1,3"), "4 units of parallel.micro_batch_tokens=64, which 3 ranks"),
        (("ranks=1,3",), "ranks=1,3 cannot all share a step of 256 tokens"),
        (("ranks=1,1",), "each once"),
        (("ranks=0",), "at least 1"),
    ):
        assert main(["prove", *micro.MOE, *words, f"run.folder={tmp_path / 'no'}"]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "no").exists()


@pytest.mark.parametrize("word", ["kills=many", "kills=-1", "tokens=1.5"])
def test_numbers_that_are_none_are_refused(tmp_path, capsys, word):
    assert main(["prove", *micro.MOE, word, f"run.folder={tmp_path / 'runs'}"]) == 2
    assert word in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("steps, most", [(1, 0), (2, 0), (4, 2)])
def test_more_kills_than_there_are_steps_to_kill_in_are_refused(tmp_path, capsys, steps, most):
    words = [f"tokens={256 * steps}", "kills=3", f"run.folder={tmp_path / 'runs'}"]
    assert main(["prove", *micro.MOE, *words]) == 2
    said = capsys.readouterr().err
    assert f"kills=3 with {steps} steps" in said and f"kills={most} or less" in said and not (tmp_path / "runs").exists()


@pytest.mark.process
def test_every_thread_that_waits_for_a_forked_process_hears_how_it_ended():
    """As prove's do: one reads what a run says, another its errors."""
    for _ in range(4):
        with processes.started(["lanes", "of=no"]) as process, ThreadPoolExecutor(8) as threads:
            assert set(threads.map(lambda _: process.wait(), range(8))) == {2} and process.poll() == 2


@pytest.fixture
def forked(monkeypatch):
    monkeypatch.setattr(child, "started", processes.started)


@pytest.mark.slow
def test_a_micro_lane_is_proved_with_a_killed_run_that_really_resumed(tmp_path, forked, capsys):
    """A run that was killed before its first checkpoint starts anew, and proves nothing about resuming."""
    status = main(["prove", *micro.DENSE, "budget.tokens=24576", "tokens=24576", "kills=1", f"run.folder={tmp_path}"])
    said = capsys.readouterr().out
    assert status == 0 and "proved: 3 runs" in said
    (row,) = re.findall(r"^ *killed 1 times .* (\d+)$", said, re.MULTILINE)
    assert int(row) == 1, said


STAGES = ("batch.stages=[128,256,512]", "batch.stage_shares=[0.125,0.375,0.5]", "budget.tokens=16384", "tokens=16384")


@pytest.mark.slow
def test_a_batch_in_stages_is_proved_and_killed_beyond_the_first_one(tmp_path, forked, capsys):
    """16, 24 and 16 steps."""
    status = main(["prove", *micro.MOE, *STAGES, "kills=2", f"run.folder={tmp_path}"])
    said = capsys.readouterr().out
    assert status == 0 and "56 steps" in said and "proved: 3 runs" in said
    assert int(re.findall(r"killed at step (\d+)", said)[1]) > 16, said
    (row,) = re.findall(r"^ *killed 2 times .* (\d+)$", said, re.MULTILINE)
    assert int(row) == 2, said
