"""Records as pandas frames."""

import subprocess
import sys

import pytest
from report_factory import edit_record, telemetry, write_run

import harness.report
from harness.errors import UserError


@pytest.fixture(name="frames", scope="module")
def frames_fixture(tmp_path_factory):
    top = tmp_path_factory.mktemp("results")
    write_run(top / "moe/1", steps=32, window=16, validations=(16,), leading_dense_layers=1)
    write_run(top / "dense/1", lane="tiny-dense", experts=0, steps=32, window=16, validations=(16,))
    low = {"steps": 32, "window": 16, "validations": (16,), "precision": "nvfp4", "leading_dense_layers": 1}
    write_run(top / "nvfp4/1", lane="tiny-moe-16e-nvfp4", execution="emulated", **low)
    edit_record(write_run(top / "edited", seed=3, steps=32, window=16, validations=(16,)), sign=False, metrics__val_bpb=1.0)
    (top / "broken").mkdir()
    (top / "broken/record.json").write_text("{")
    return harness.report.load(str(top) + "/")


def test_records_have_a_row_a_run_with_figures_under_their_own_names(frames):
    records = frames.records.set_index("run")
    assert sorted(records.index) == ["dense/1", "edited", "moe/1", "nvfp4/1"]
    moe = records.loc["moe/1"]
    assert (moe.lane, moe.seed, moe.target_line, moe.params_total) == ("tiny-moe-16e", 1, "xz_given_train", 5390000)
    assert moe.clock_train_s == pytest.approx(32 * 0.26) and moe.dead == 0
    assert records.finished_at["moe/1"].year == 2026 and str(records.finished_at.dtype).startswith("datetime64")
    assert records.worst_entropy_ratio.isna()["dense/1"]


def test_curves_and_steps_are_long(frames):
    assert list(frames.curves.query("run == 'moe/1'").step) == [16, 32]
    steps = frames.steps.query("run == 'dense/1'")
    assert list(steps.step) == list(range(1, 33)) and steps.loss.iloc[0] > steps.loss.iloc[-1]
    assert (steps.grad_norm == 1.0).all()


def test_expert_counts_sum_to_the_windows_assignments_and_name_layers_as_the_model_does(frames):
    assert set(frames.expert_counts.run) == {"moe/1", "nvfp4/1"}
    counts = frames.expert_counts.query("run == 'moe/1'")
    assert sorted(counts.layer.unique()) == [1, 2, 3]
    assert (counts.groupby(["step", "layer"])["count"].sum() == 16 * 4096 * 4).all()
    assert counts.expert.max() == 15 and len(counts) == 2 * 3 * 16


def test_precision_has_a_row_a_step_layer_and_tensor(frames):
    rows = frames.precision
    assert list(rows.columns[:4]) == ["run", "step", "layer", "tensor"] and set(rows.run) == {"nvfp4/1"}
    assert len(rows) == 2 * 4 * 10 and not rows.duplicated(["run", "step", "layer", "tensor"]).any()
    at = rows.query("step == 16 and layer == 1").set_index("tensor")
    raw = telemetry("nvfp4", 4, True, 16 / 32, 1)
    for tensor, figures in raw["tensors"]["1"].items():
        assert at.loc[tensor, ["snr_db", "underflow", "saturation", "smallest"]].to_dict() == figures
    assert at.flipped["weight_up"] == raw["flips"]["1"]["up"] and at.flipped["weight_down"] == raw["flips"]["1"]["down"]
    assert at.flipped.drop(["weight_up", "weight_down"]).isna().all()
    assert (at.router_grad_rms == raw["router_grad_rms"]["1"]).all()
    assert rows.query("layer == 0").router_grad_rms.isna().all()  # that layer is dense


def test_every_nth_layer_counts_under_its_own_number(tmp_path):
    write_run(tmp_path / "moe/1", steps=32, window=16, validations=(16,), layers=6, leading_dense_layers=1, moe_every=2)
    frames = harness.report.load(tmp_path)
    assert frames.problems == [] and sorted(frames.expert_counts.layer.unique()) == [1, 3, 5]


def test_what_is_wrong_is_named_and_only_records_keep_it(frames):
    assert any("broken" in problem for problem in frames.problems)
    assert any("edited" in problem and "content_sha256" in problem for problem in frames.problems)
    assert list(frames.records.query("not evidence_holds").run) == ["edited"]
    assert "edited" not in set(frames.steps.run)


def test_an_empty_folder_gives_empty_frames(tmp_path):
    frames = harness.report.load(tmp_path)
    assert len(frames.records) == 0 and frames.problems == []
    assert list(frames.expert_counts.columns) == ["run", "step", "layer", "expert", "count"]
    assert len(frames.precision) == 0 and "snr_db" in frames.precision


def test_a_missing_folder_or_pandas_is_explained(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is no folder"):
        harness.report.load(tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="needs pandas"):
        harness.report.load(tmp_path)


@pytest.mark.process
def test_importing_the_room_is_light():
    code = "import sys, harness.report; print([m for m in ('torch', 'pandas', 'numpy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
