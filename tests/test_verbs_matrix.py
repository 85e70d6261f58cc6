"""The matrix of a track: every lane is run once, what is finished is taken, what fails is named."""

import contextlib
import io
import json
from pathlib import Path

import micro
import pytest
from micro import no_figures_fixture  # noqa: F401
from report_factory import edit_record, write_run

from harness.__main__ import main
from harness.report.figure_matrix import draw_matrix
from harness.report.groups import Group
from harness.report.run_data import load_run
from harness.report.summary import summary_table
from harness.verbs import multirun


@pytest.fixture
def matrix(tmp_path, monkeypatch, no_figures, capsys):
    """`matrix` in a folder of its own, its runs in this process. Gives (exit status, lanes and seeds run, output)."""
    monkeypatch.chdir(tmp_path)
    fails = set()

    def run_one(overrides):
        ran.append((overrides[0].removeprefix("lane="), overrides[1].removeprefix("seed=")))
        if ran[-1][0] in fails:
            return 3, None
        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert main(["speedrun", *overrides]) == 0
        return 0, Path(said.getvalue().splitlines()[-1].removeprefix("record: "))

    def go(*words, failing=()):
        fails.clear()
        fails.update(failing)
        ran.clear()
        status = main(["matrix", *words, *micro.COMMON])
        return status, list(ran), capsys.readouterr()

    ran = []
    monkeypatch.setattr(multirun, "run_one", run_one)
    return go


def test_the_matrix_goes_on_where_it_was_left(matrix, tmp_path):
    status, ran, said = matrix("track=tiny", failing=["tiny-moe-16e"])
    assert status == 1 and ran == [("tiny-dense", "1"), ("tiny-moe-16e", "1")]
    assert "tiny-moe-16e seed 1 ended with status 3" in said.err and "| tiny-dense | bf16" in said.out

    status, ran, said = matrix("track=tiny", "seeds=1")
    assert status == 0 and ran == [("tiny-moe-16e", "1")] and "have tiny-dense seed 1: runs/tiny-dense/1-" in said.out
    table = (tmp_path / "runs" / "matrix-tiny" / "matrix.md").read_text()
    assert "| tiny-dense | bf16" in table and "| tiny-moe-16e | bf16" in table
    assert (tmp_path / "runs" / "matrix-tiny" / "matrix.png").stat().st_size > 1000

    (path,) = (tmp_path / "runs" / "tiny-dense").glob("1-*")
    edit_record(path, metrics__val_bpb=1.0)
    (tmp_path / "results" / "cut").mkdir(parents=True)
    (tmp_path / "results" / "cut" / "record.json").write_text("{")
    status, ran, said = matrix("track=tiny")
    assert status == 1 and ran == [("tiny-dense", "1")]
    assert "is not whole: metrics.val_bpb is 1.0" in said.err and "results/cut/record.json is truncated" in said.err


@pytest.mark.parametrize(
    "word, said",
    [("track=tinny", "did you mean tiny?"), ("seeds=1,1", "each once"), ("seeds=one", "seeds=one"),
     ("lane=tiny-dense", "every lane"), ("seed=2", "seeds=1,2,3"), ("--multirun", "--multirun"),
     ("optim.muon.rl=1", "did you mean optim.muon.lr?")],
)  # fmt: skip
def test_bad_arguments_are_explained(tmp_path, monkeypatch, capsys, word, said):
    monkeypatch.chdir(tmp_path)
    assert main(["matrix", word]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_lane_that_does_not_fit_is_named_and_the_others_run(matrix, monkeypatch):
    from harness.train import machine

    monkeypatch.setattr(machine, "memory_available_bytes", lambda device: 0)
    status, ran, said = matrix("track=tiny")
    assert status == 2 and not ran and "tiny-dense: needs about" in said.err and "0.0 GiB are free" in said.err


def test_a_lane_that_the_overrides_do_not_fit_fails_by_name_and_the_others_run(matrix):
    status, ran, said = matrix("track=tiny", "balance=bias")
    assert status == 1 and ran == [("tiny-moe-16e", "1")]
    assert "failed: tiny-dense: balance.rule=bias in a dense model" in said.err


def group(home, lane, precision="bf16", seeds=(1, 2), **words):
    runs = []
    for seed in seeds:
        runs.append(load_run(write_run(home / f"{lane}-{seed}", lane=lane, seed=seed, steps=128, **words)))
        runs[-1].record["precision"]["format"] = precision
    return Group(tuple(runs))


def test_the_table_gives_every_lane_its_precision_seconds_bits_and_health(tmp_path):
    groups = [
        group(tmp_path, "tiny-moe-16e"), group(tmp_path, "tiny-moe-16e-fp8", "fp8", seeds=(1,)),
        group(tmp_path, "tiny-dense", experts=0, step_s=0.13, offset=9.0),
    ]  # fmt: skip
    rows = [line.split(" | ") for line in summary_table(groups).splitlines() if line.startswith("| tiny")]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("| tiny-dense", "bf16 native", "2"), ("| tiny-moe-16e", "bf16 native", "2"),
        ("| tiny-moe-16e-fp8", "fp8 native", "1"),
    ]  # fmt: skip
    dense, moe, _ = rows
    assert dense[3] == "0 of 2 reached it" and dense[9:] == ["-", "-", "- |"] and moe[8] == "2.00x"
    assert moe[10] == "0" and float(moe[9]) > 0.9


def test_the_figure_is_drawn_for_dense_lanes_alone_too(tmp_path):
    groups = [group(tmp_path, "tiny-dense", experts=0)]
    assert draw_matrix(groups, tmp_path / "matrix.png").stat().st_size > 1000
    assert json.loads((groups[0].runs[0].folder / "record.json").read_text())["router_health"] is None
