"""Prune: what goes, what stays."""

import fcntl

import pytest

from harness.__main__ import main


def make(folder, *names, checkpoints=True):
    """A run folder with the given marks."""
    folder.mkdir(parents=True)
    for name in ("identity.json", "plan.yaml", "metrics.jsonl", "lock", *names):
        (folder / name).write_text("{}")
    if checkpoints:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "step-000004.safetensors").write_bytes(b"0" * 1_000_000)
    return folder


@pytest.fixture
def runs(tmp_path):
    """A finished, an unfinished and a stopped run, and a finished one inside a proof."""
    make(tmp_path / "lane" / "1-finished", "record.json", "weights.safetensors", "bpb.png")
    make(tmp_path / "lane" / "1-unfinished")
    make(tmp_path / "lane" / "1-stopped", "stopped.json")
    make(tmp_path / "prove-x" / "a" / "lane" / "1-proof", "record.json")
    (tmp_path / "prove-x" / "b").mkdir()
    return tmp_path


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def prune(runs, *words):
    assert main(["prune", "--folder", str(runs), *words]) == 0


def test_only_the_checkpoints_of_finished_runs_go(runs, capsys):
    before = files(runs)
    prune(runs)
    gone = before - files(runs)
    checkpoint = "checkpoints/step-000004.safetensors"
    assert gone == {f"lane/1-finished/{checkpoint}", f"prove-x/a/lane/1-proof/{checkpoint}"}
    assert "freed 2.0 MB" in capsys.readouterr().out


def test_all_takes_unfinished_stopped_and_proof_folders_and_keeps_finished_runs(runs):
    prune(runs, "--all")
    assert not (runs / "prove-x").exists() and not (runs / "lane" / "1-stopped").exists()
    assert not (runs / "lane" / "1-unfinished").exists()
    kept = {"identity.json", "plan.yaml", "metrics.jsonl", "lock", "record.json", "weights.safetensors", "bpb.png"}
    assert files(runs / "lane" / "1-finished") == kept


@pytest.mark.parametrize("words", [(), ("--all",)])
@pytest.mark.parametrize("name", ["lane/1-unfinished", "lane/1-finished", "prove-x/a/lane/1-proof"])
def test_a_run_that_is_still_going_is_never_touched(runs, capsys, words, name):
    before = files(runs / name)
    with open(runs / name / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prune(runs, *words)
    assert files(runs / name) == before
    assert f"kept, still running: {runs / name}" in capsys.readouterr().out


def test_pruning_twice_frees_nothing_more(runs, capsys):
    prune(runs, "--all")
    capsys.readouterr()
    prune(runs, "--all")
    assert "freed 0.0 MB" in capsys.readouterr().out


def test_where_nothing_was_run_nothing_is_freed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["prune"]) == 0
    assert "freed 0.0 MB in runs" in capsys.readouterr().out
