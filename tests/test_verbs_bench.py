"""Bench: whole steps side by side, and expert kernels against their peers at toy shapes."""

import json

import micro
import pytest

import harness.bench.steps as steps
from harness.__main__ import main
from harness.bench.floor import work, work_fp8
from harness.bench.shapes import Shape
from harness.report.bench import STAGE_COLOURS
from kernels.cpu.brgemm import library
from kernels.stages import STAGES


def test_a_bench_of_a_micro_lane_prints_three_rows_and_writes_them(tmp_path, monkeypatch, capsys):
    plans = []
    build = steps.session
    monkeypatch.setattr(steps, "session", lambda plan, here: plans.append(plan) or build(plan, here))
    twin_width = "model.ffn_width=32"  # of the dense twin; a MoE model without dense layers has no use for it
    assert main(["bench", "steps", *micro.MOE, twin_width, "rounds=2", f"run.folder={tmp_path / 'runs'}"]) == 0
    said, written = capsys.readouterr().out, json.loads((tmp_path / "runs" / "bench" / "steps.json").read_text())
    names = ["tiny-moe-16e", "mask and loop", "tiny-dense"]
    assert [row["name"] for row in written["rows"]] == names and written["rounds"] == 2
    assert all(any(line.startswith(name) for line in said.splitlines()) for name in names)
    for row in written["rows"]:
        assert row["tokens_per_second"] == pytest.approx(256 / row["step_s"]) and row["mfu"] > 0
        low, high = row["quartiles_s"]
        assert 0 < low <= row["step_s"] <= high
    assert written["rows"][0]["ratio"] == 1
    assert [path.name for path in (tmp_path / "runs" / "bench").iterdir()] == ["steps.json"]

    ours, loop, twin = plans
    assert loop.kernels.backend == "reference" and loop.model == ours.model
    assert twin.model.num_experts == 0 and twin.model.ffn_width == 32 and twin.model.width == 32  # dense, as its name says


def test_attention_is_timed_beside_torchs_and_told_with_its_errors(tmp_path, capsys):
    assert main(["bench", "attention", "set=toy", "rounds=2", f"out={tmp_path}", "precision.format=fp32", "unranked=true"]) == 0
    (table,) = json.loads((tmp_path / "attention.json").read_text())["tables"]
    names = ["torch"] if library.missing() else ["brgemm", "torch"]
    assert [row["name"] for row in table["rows"]] == names
    for row in table["rows"]:
        assert max(row["errors"]) < 1e-5
        assert row["floors"] == pytest.approx((row["forward_s"] + row["backward_s"]) / table["floor_s"])
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in names)
    assert not (tmp_path / "mixers.json").exists()  # no lane is named


def test_every_stage_of_a_layer_has_a_colour():
    assert set(STAGE_COLOURS) == {*STAGES, "other"}


def test_contestants_take_turns_and_warm_up_is_thrown_away():
    class Session:
        order = []

        def __init__(self, name):
            self.name = name

        def step(self, index):
            self.order.append((self.name, index))

    seconds = steps.in_turns({name: Session(name) for name in "ab"}, 3, "cpu")
    assert Session.order == [(name, index) for index in range(5) for name in "ab"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    "words, said",
    [
        (["rounds=0"], "rounds=0"),
        (["rounds=many"], "rounds=many"),
        (["lane=tiny-dense"], "no experts"),
        (["rounds="], "rounds="),
        (["kernel"], "did you mean kernels"),
        (["set=huge"], "gpu, cpu, first, toy"),
    ],
)
def test_mistakes_are_explained(words, said, capsys):
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture(name="toy", scope="module")
def toy_fixture(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    assert main(["bench", "floor", "kernels", "rows", "layer", "set=toy", "rounds=1", f"out={out}", "kernels.compile=off"]) == 0
    return out


def test_every_contestant_that_runs_here_is_timed_and_checked_against_fp32(toy):
    found = json.loads((toy / "kernels.json").read_text())
    for table in found["tables"]:
        rows = {row["name"]: row for row in table["rows"]}
        assert list(rows) == ["ours (torch)", "grouped_mm", "loop", "bound: one dense GEMM"]
        for row in rows.values():
            assert row["forward_ms"] > 0 and row["backward_ms"] > 0
        for name in ("ours (torch)", "grouped_mm", "loop"):
            assert max(rows[name]["errors"].values()) < 1e-2 and rows[name]["bit_equal"]
        assert rows["ours (torch)"]["forward_ratio"] == 1
    assert sorted(found["missing"]) == ["liger-kernel", "scattermoe", "sonic-moe"]


def test_flops_are_6_t_k_d_f_for_swiglu_and_4_for_squared_relu(toy):
    swiglu, relu2 = (table["rows"][-1] for table in json.loads((toy / "kernels.json").read_text())["tables"])
    for row, flops in ((swiglu, 6 * 24 * 2 * 32 * 16), (relu2, 4 * 24 * 2 * 32 * 16)):
        assert row["forward_tflops"] * row["forward_ms"] == pytest.approx(flops / 1e9)
        assert row["backward_tflops"] * row["backward_ms"] == pytest.approx(2 * flops / 1e9)


def test_the_floor_of_a_large_product_is_its_flops_and_of_a_small_one_its_bytes(toy):
    few, many = work(Shape(64, 32, 16, 64, 1)), work(Shape(1 << 20, 4096, 4096, 2, 1))
    peak, bandwidth = 100.0, 1.0  # FLOPs and bytes a second: 100 FLOPs a byte
    assert few["up"][0] / peak < few["up"][1] / bandwidth and many["up"][0] / peak > many["up"][1] / bandwidth
    shape = Shape(10, 8, 4, 2, 2)
    total = sum(flops for name, (flops, _) in work(shape).items() if not name.startswith("combine"))
    assert total == 3 * shape.forward_flops
    assert json.loads((toy / "floor.json").read_text())["tables"][0]["total_s"]["forward"] > 0


def test_the_floor_of_fp8_halves_the_flops_that_it_multiplies_and_adds_the_bytes_of_quantizing():
    plain, fp8 = work(Shape(1 << 16, 1024, 512, 8, 2)), work_fp8(Shape(1 << 16, 1024, 512, 8, 2))
    assert [fp8[n][0] / plain[n][0] for n in ("up", "down", "dH", "dX", "dW")] == [0.5] * 4 + [1]
    assert all(fp8[n][1] < plain[n][1] for n in ("up", "down", "dH", "dX")) and fp8["quantize"][1] > 0


def test_a_layers_stages_are_timed_forward_and_backward(toy):
    for table in json.loads((toy / "layer.json").read_text())["tables"]:
        forward, backward = table["stages_ms"]["forward"], table["stages_ms"]["backward"]
        assert set(forward) == {"metadata", "gather", "up", "activation", "down", "combine", "other"}
        assert set(backward) == {"metadata", "gather", "activation", "dH", "dW", "dX", "combine", "other"}


def test_formats_are_timed_beside_ours_as_it_is_and_are_further_from_fp32(tmp_path):
    assert main(["bench", "formats", "set=toy", "rounds=1", f"out={tmp_path}", "kernels.compile=off"]) == 0
    rows = json.loads((tmp_path / "formats.json").read_text())["tables"][0]["rows"]
    ours = ["ours (torch)", *(f"ours, {format}" for format in ("fp8", "nvfp4", "mxfp8", "mxfp4"))]
    assert [row["name"] for row in rows] == [*ours, "bound: one dense GEMM"]
    plain, fp8, nvfp4, mxfp8, mxfp4 = (max(row["errors"].values()) for row in rows[:5])
    assert plain < 1e-2 < min(fp8, mxfp8) and max(fp8, mxfp8) < nvfp4 < mxfp4
    assert all(row["bit_equal"] for row in rows[:5])


def test_the_parts_are_drawn(toy):
    for part in ("kernels", "rows", "layer"):
        assert (toy / f"{part}.png").read_bytes().startswith(b"\x89PNG")


def test_a_contestant_that_fails_is_named_and_the_others_are_timed(tmp_path, monkeypatch, capsys):
    def broken(shape, given):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("harness.bench.contestants._loop", broken)
    assert main(["bench", "kernels", "set=toy", "rounds=1", f"out={tmp_path}", "kernels.compile=off"]) == 0
    rows = json.loads((tmp_path / "kernels.json").read_text())["tables"][0]["rows"]
    assert [("failed" in row) for row in rows] == [False, False, True, False]
    assert "no such kernel" in capsys.readouterr().out
