"""The table of tile sizes: what is looked up, what is said when nothing is, and what tuning writes."""

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import micro
import pytest
import torch

from harness.__main__ import main
from kernels.triton import configuration, expert_mlp
from kernels.triton.configuration import SAFE, Key

KEY = Key.of("NVIDIA A100", "sm_80", torch.bfloat16, 768, 384, 64, 6, True)
TUNED = replace(SAFE[torch.bfloat16], rows=64)


@pytest.fixture(name="table", autouse=True)
def table_fixture(tmp_path, monkeypatch):
    path = tmp_path / "configurations.json"
    configuration.store([(KEY, TUNED, {"up": 1.0})], path)
    found = configuration.read(path)
    monkeypatch.setattr(configuration, "read", lambda _=path: found)
    configuration._warn.cache_clear()
    return path


def test_a_tuned_shape_gets_its_configuration_silently():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert configuration.configuration(KEY, torch.bfloat16) == TUNED
    assert configuration.describe(KEY).startswith("tuned: 64 rows")


@pytest.mark.parametrize("change", [{"device": "NVIDIA A100-PCIE"}, {"E": 256}, {"K": 1}, {"triton": "0"}])
def test_what_was_tuned_serves_other_experts_versions_and_gpus_of_the_same_capability(change):
    other = replace(KEY, **change)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert configuration.configuration(other, torch.bfloat16) == TUNED
    assert configuration.describe(other).startswith("tuned for 64 experts, top-6, on NVIDIA A100 under triton ")


def test_of_several_entries_that_serve_the_nearest_does(tmp_path, monkeypatch):
    monkeypatch.undo()
    table = tmp_path / "several.json"
    far, near, elsewhere = (replace(KEY, **change) for change in ({"E": 8}, {"E": 32}, {"E": 64, "device": "NVIDIA A100-PCIE"}))
    rows = {far: 16, near: 32, elsewhere: 256}
    configuration.store([(key, replace(TUNED, rows=rows[key]), {}) for key in rows], table)
    found = configuration.read(table)
    monkeypatch.setattr(configuration, "read", lambda _=table: found)
    assert configuration.configuration(replace(KEY, E=60), torch.bfloat16).rows == 32  # on the same GPU before the same E
    assert configuration.configuration(replace(KEY, E=9), torch.bfloat16).rows == 16


@pytest.mark.parametrize("change", [{"capability": "sm_89"}, {"D": 512}, {"F": 1}, {"gated": False}, {"dtype": "float16"}])
def test_another_capability_or_width_gets_the_safe_one_with_one_warning(change):
    other = replace(KEY, **change)
    dtype = getattr(torch, other.dtype)
    with pytest.warns(UserWarning, match="no tuned kernel configuration.*make tune") as seen:
        for _ in range(3):
            assert configuration.configuration(other, dtype) == SAFE[dtype]
    assert len(seen) == 1
    assert configuration.describe(other).startswith("safe, untuned")


@pytest.mark.parametrize("D, F, gated", [(512, 256, True), (768, 384, True), (2048, 768, True), (256, 128, False)])
def test_hopper_has_defaults_whose_tiles_divide_the_widths(D, F, gated):
    key = replace(KEY, device="NVIDIA H200", capability="sm_90", D=D, F=F, gated=gated)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        c = configuration.configuration(key, torch.bfloat16)
    assert configuration.describe(key).startswith("the default of sm_90, untuned (make tune): 128 rows")
    G = 2 * F if gated else F
    of = ((F, c.up), (D, c.down), (F, c.dh), (D, c.dx), (G, c.dw_up), (D, c.dw_down))
    assert [width % tile.columns for width, tile in of] == [0] * 6
    assert D % c.dw_rows == F % c.dw_rows == 0


OF_HOPPER = [configuration.hopper(*of) for of in ((512, 256, True), (2048, 768, True), (256, 128, False))]


@pytest.mark.parametrize("c", [*SAFE.values(), *configuration.QUANTIZED.values(), *OF_HOPPER], ids=range(len(SAFE) + 10))
def test_a_fold_keeps_the_inner_elements_of_its_weight_gradient_and_a_thread_can_hold_both(c):
    for fold, dw in ((c.fold_up, c.dw_up), (c.fold_down, c.dw_down)):
        assert (fold.inner, fold.stages) == (dw.inner, dw.stages) and fold.warps <= max(8, dw.warps)
        assert 2 * c.dw_rows * fold.columns <= configuration.SUMS * 32 * fold.warps
        assert dw.columns % fold.columns == 0


@pytest.mark.parametrize("change", [{"D": 96}, {"F": 96}, {"dtype": "float32"}, {"format": "fp8"}])
def test_where_hoppers_defaults_do_not_fit_the_safe_one_runs(change):
    key = replace(KEY, device="NVIDIA H200", capability="sm_90", **change)
    assert configuration.describe(key).startswith("safe, untuned")


@pytest.mark.parametrize("format", ["fp8", "nvfp4"])
def test_a_format_has_tiles_of_its_own_and_no_promise_of_tuning_that_there_is_not(format):
    key = replace(KEY, format=format)
    with pytest.warns(UserWarning, match=f"for NVIDIA A100, {format},.*using the safe one$"):
        assert configuration.configuration(key, torch.bfloat16) == configuration.QUANTIZED[format]
    assert "make tune" not in configuration.describe(key)


def test_the_key_never_holds_the_number_of_tokens():
    assert "T" not in vars(KEY)


def test_storing_keeps_other_entries_and_replaces_its_own(table, monkeypatch):
    monkeypatch.undo()
    other = replace(KEY, E=256)
    configuration.store([(other, TUNED, {}), (KEY, SAFE[torch.bfloat16], {"up": 0.5})], table)
    entries = {entry["key"]["E"]: entry for entry in json.loads(table.read_text())}
    assert entries.keys() == {64, 256} and entries[64]["configuration"]["rows"] == 128


def test_the_committed_table_can_be_read():
    text = configuration.TABLE.read_text()
    for entry in json.loads(text):
        Key(**entry["key"])
        configuration.Configuration.of(entry["configuration"])


def test_an_entry_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.undo()
    bad = tmp_path / "bad.json"
    bad.write_text('[{"key": {"device": "x"}}]')
    with pytest.raises(ValueError, match=r"bad.json, entry 0.*make tune"):
        configuration.read(bad)


@pytest.mark.process
def test_tuning_is_rehearsed_without_a_gpu_and_goes_on_where_it_was_left(tmp_path):
    table = tmp_path / "rehearsal.json"
    code = "import sys; sys.path.insert(0, 'tests'); import triton_interpreter; from harness.__main__ import main; "
    code += "sys.exit(main(sys.argv[1:]))"
    words = ["tune", "shape=9,16,16,4,2,relu2", f"table={table}"]
    done = micro.python(code, *words, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(table.read_text())
    assert entry["key"]["device"] == "interpreter" and set(entry["milliseconds"]) == {
        "up", "down", "dh", "dx", "dw_up", "dw_down", "combine",
    }  # fmt: skip
    assert "in the table already" in micro.python(code, *words, TRITON_INTERPRET="1").stdout


MISTAKES = [(["shape=1,2,3"], "T,D,F,E,K"), (["shape=1,2,3,4,5,gelu"], "gelu"), (["set=x"], "toy")]


@pytest.mark.parametrize("words, said", MISTAKES)
def test_mistakes_are_explained(words, said, capsys, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert main(["tune", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "triton_is, numpy_is, fails", [("3.6.0", "2.4.6", True), ("3.6.0", "2.3.5", False), ("3.7.1", "2.5.2", False)]
)
def test_a_triton_whose_interpreter_fails_with_this_numpy_names_the_pair(monkeypatch, triton_is, numpy_is, fails):
    knobs = SimpleNamespace(runtime=SimpleNamespace(interpret=True))  # the real one writes the environment
    monkeypatch.setattr(expert_mlp.triton, "knobs", knobs)
    monkeypatch.setattr(expert_mlp.triton, "__version__", triton_is)
    monkeypatch.setattr(expert_mlp, "version", lambda package: numpy_is)
    if fails:
        with pytest.raises(RuntimeError, match=r"Triton 3.6.0's interpreter fails with numpy 2.4.6.*numpy below 2.4"):
            expert_mlp.interpreted()
    else:
        assert expert_mlp.interpreted() is True
