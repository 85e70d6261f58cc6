"""The matrix of a track: every lane is run once, what is finished is taken, what fails is named."""

import contextlib
import io
import json
from pathlib import Path

import micro
import pytest
from micro import no_figures_fixture  # noqa: F401
from report_factory import edit_record, write_run
from test_report_figures import assert_nothing_is_cut_off_or_overlaps

from harness.__main__ import main
from harness.launch import child
from harness.report import style
from harness.report.compare.matrix_figure import draw_matrix
from harness.report.compare.paired import paired, paired_table
from harness.report.compare.summary import summary_table
from harness.report.groups import Group
from harness.report.run_data import load_run
from harness.verbs import matrix as verb


@pytest.fixture
def matrix(tmp_path, monkeypatch, no_figures, capsys):
    """`matrix` of two lanes in a folder of its own, its runs in this process. Gives (exit status, lanes and seeds run,
    output)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verb, "_lanes_of", lambda track: ["tiny-dense", "tiny-moe-16e"])
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
    monkeypatch.setattr(child, "speedrun", run_one)
    return go


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_tiny_track_is_dense_and_moe_in_three_precisions():
    names, found = ["tiny-dense", "tiny-moe-16e"], verb._lanes_of("tiny")
    assert {name + low for name in names for low in ("", "-fp8", "-nvfp4")} <= set(found)
    assert not any(name.startswith("sotu") for name in found)


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


@pytest.mark.slow
def test_a_lane_that_the_overrides_do_not_fit_fails_by_name_and_the_others_run(matrix):
    status, ran, said = matrix("track=tiny", "balance=bias")
    assert status == 1 and ran == [("tiny-moe-16e", "1")]
    assert "failed: tiny-dense: balance.rule=bias in a dense model" in said.err


def group(home, lane, precision="bf16", seeds=(1, 2), **words):
    execution = words.pop("execution", "native")
    some = {"lane": lane, "precision": precision, "execution": execution, "steps": 128} | words
    return Group(tuple(load_run(write_run(home / f"{lane}-{seed}", seed=seed, **some)) for seed in seeds))


def all_six(home, seeds=(1, 2, 3)):
    """Dense and MoE, each in bf16, fp8 and nvfp4, whose bits per byte are 0.002 and 0.012 above those of bf16."""
    more, took = {"bf16": 0.0, "fp8": 0.002, "nvfp4": 0.012}, {"bf16": 1.0, "fp8": 1.7, "nvfp4": 2.3}
    groups = []
    for name, words in (("tiny-dense", {"experts": 0, "step_s": 0.17}), ("tiny-moe-16e", {"step_s": 0.26})):
        for precision in more:
            low = precision != "bf16"
            words_of = words | {"step_s": words["step_s"] * took[precision], "offset": more[precision], "steps": 384}
            groups.append(group(
                home, f"{name}-{precision}" if low else name, precision, seeds, execution="emulated" if low else "native",
                twin=name if low else "tiny-dense", **words_of,
            ))  # fmt: skip
    return groups


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


def test_what_emulation_took_is_in_parentheses_and_bf16s_seconds_are_not(tmp_path):
    table = summary_table(all_six(tmp_path, seeds=(1,)))
    rows = {
        cells[0].strip("| "): cells for cells in (line.split(" | ") for line in table.splitlines() if line.startswith("| t"))
    }
    low, plain = rows["tiny-moe-16e-nvfp4"], rows["tiny-moe-16e"]
    assert low[1] == "nvfp4 emulated" and plain[1] == "bf16 native"
    assert all(low[i].startswith("(") and not plain[i].startswith("(") for i in (3, 6, 7, 8)) and low[8] == "(2.30x)"
    assert not low[4].startswith("(") and "no claim about speed (tiny-dense-fp8, tiny-dense-nvfp4, " in table


def test_formats_are_paired_with_bf16_of_their_architecture_at_equal_seeds(tmp_path):
    groups = all_six(tmp_path)
    groups[1] = Group(groups[1].runs[1:])  # fp8 of the dense lane has no seed 1
    found = {pair.group.lane: pair for pair in paired(groups)}
    assert sorted(found) == ["tiny-dense-fp8", "tiny-dense-nvfp4", "tiny-moe-16e-fp8", "tiny-moe-16e-nvfp4"]
    assert found["tiny-dense-fp8"].seeds == (2, 3) and found["tiny-moe-16e-nvfp4"].seeds == (1, 2, 3)
    for pair in found.values():
        base = {run.record.seed: run.record.metrics.val_bpb for run in pair.base.runs}
        more = 0.002 if pair.group.precision == "fp8" else 0.012
        assert list(pair.percent.values) == pytest.approx([100 * more / base[seed] for seed in pair.seeds])
    table = paired_table(groups)
    pair = found["tiny-moe-16e-nvfp4"].percent
    assert f"| tiny-moe-16e | nvfp4 emulated | 3 (1, 2, 3) | {pair.mean:+.2f}% | " in table
    assert "{:+.2f}% to {:+.2f}%".format(*pair.interval()) in table


def test_one_pair_has_no_interval_and_other_machines_or_no_bf16_no_pair(tmp_path):
    bf16, fp8 = group(tmp_path, "tiny-dense", experts=0), group(tmp_path, "tiny-dense-fp8", "fp8", seeds=(2,), experts=0)
    elsewhere = group(tmp_path / "b", "tiny-dense-nvfp4", "nvfp4", experts=0, hardware_class="another")
    (row,) = [line for line in paired_table([bf16, fp8, elsewhere]).splitlines() if line.startswith("| tiny")]
    assert "| 1 (2) | +0.00% | - |" in row
    assert paired_table([bf16]) == paired_table([fp8]) == ""


@pytest.mark.slow
def test_six_lanes_are_told_apart_by_shape_and_emulated_seconds_are_hollow_and_have_no_mean(tmp_path, monkeypatch):
    figures, save = [], style.save
    monkeypatch.setattr(style, "save", lambda fig, path: figures.append(fig) or save(fig, path))
    draw_matrix(all_six(tmp_path), tmp_path / "matrix.png")
    seconds, bits, health, against = figures[0].axes
    assert_nothing_is_cut_off_or_overlaps(figures[0], tmp_path / "matrix.png")

    def marks(ax):
        return [line for line in ax.lines if line.get_marker() in "os^"]

    def bars(ax):
        return [line for line in ax.lines if line.get_linewidth() == 2 and len(line.get_xdata()) == 2]

    assert [line.get_marker() for line in marks(bits)] == ["o", "s", "^"] * 2
    assert [line.get_markerfacecolor() == "none" for line in marks(seconds)] == [False, True, True] * 2
    assert all(line.get_markerfacecolor() != "none" for line in marks(bits))
    assert len(bars(bits)) == 6 and len(bars(health)) == 3 and len(bars(against)) == 4
    means = [line.get_ydata()[0] for line in bars(seconds)]
    assert means == pytest.approx([g.to_target().mean for g in all_six(tmp_path / "again")[::3]])
    said = " ".join(text.get_text() for text in (*figures[0].texts, *figures[0].legends[0].get_texts()))
    assert "hollow: emulated, no claim about speed" in said and "tiny-moe-16e-nvfp4" in said


def test_a_seed_that_missed_the_target_is_a_cross_and_its_lane_has_no_mean(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(style, "save", lambda fig, path: figures.append(fig) or path)
    reached = group(tmp_path, "tiny-moe-16e", seeds=(1,), steps=384)
    missed = group(tmp_path, "tiny-moe-16e", seeds=(2,), steps=384, offset=9.0)
    draw_matrix([Group(reached.runs + missed.runs)], tmp_path / "matrix.png")
    seconds = figures[0].axes[0]
    assert [len(line.get_xdata()) for line in seconds.lines if line.get_marker() == "x"] == [1]
    assert not [line for line in seconds.lines if line.get_marker() == "None"]
    assert "target not reached" in [text.get_text() for text in figures[0].legends[0].get_texts()]
