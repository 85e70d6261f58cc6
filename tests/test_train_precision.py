"""Training below bf16: bits, resumes, ranks, micro-batches, telemetry, and what stops or refuses a run."""

import json
import math
import signal
from functools import cache

import micro
import processes
import pytest
import torch
from micro import bits, no_figures_fixture  # noqa: F401
from test_train_ranks import run_ranks
from test_train_resume import DIES_AT_STEP

from harness.launch.run_model import load_run_model
from harness.model.build import build_model
from harness.model.feedforward import Experts
from harness.model.transformer import Transformer
from harness.train.session import Session
from kernels import Arithmetic, Precision, Quantization

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_figures")]

STEPS = 16
SHORT = ["budget.tokens=4096", "validation.steps=[8]", "run.log_every_steps=4"]
NVFP4 = ["lane=tiny-moe-16e-nvfp4", *micro.MOE[1:], *SHORT]
# blocks of 128; stochastic rounding is off in the recipe
FP8 = [
    "lane=tiny-moe-16e-fp8", *micro.MOE[1:], *SHORT, "model.width=128", "model.expert_width=128", "model.num_experts=4",
    "precision.stochastic_rounding=on",
]  # fmt: skip
DENSE = ["lane=tiny-dense-nvfp4", *micro.DENSE[1:], *SHORT]
LANES = {"nvfp4": NVFP4, "fp8": FP8}
EVERY_STEP = ("run.checkpoint_every_s=0", "run.log_every_steps=1")
QUANTIZED = {"input", "hidden", "weight_up", "weight_down", "gradient", "hidden_gradient"}
WEIGHT_GRADIENTS = {"wgrad_input", "wgrad_hidden", "wgrad_gradient", "wgrad_hidden_gradient"}
both = pytest.mark.parametrize("format", LANES)


@cache
def _done(base, format):
    return micro.run(base / format, lane=DENSE if format == "dense" else LANES[format])


@pytest.fixture(name="done")
def done_fixture(tmp_path_factory):
    """done(format): the folder of a run that ended untouched. Read only."""
    base = tmp_path_factory.getbasetemp() / "low precision"
    return lambda format: _done(base, format)


def test_a_second_run_left_half_way_and_resumed_has_the_bits_of_an_untouched_one(tmp_path, done):
    assert micro.speedrun(tmp_path, "run.stop_after_step=6", lane=FP8) == 0
    assert micro.checkpointed_steps(micro.the_folder(tmp_path))[-1] == 6
    resumed = micro.run(tmp_path, lane=FP8)
    assert micro.record(resumed).resumes == 1 and bits(resumed) == bits(done("fp8"))


@pytest.mark.process
def test_a_run_killed_within_stochastic_rounding_resumes_with_the_same_bits(tmp_path, done):
    words = ["speedrun", *NVFP4, f"run.folder={tmp_path}", *EVERY_STEP]
    assert processes.run(DIES_AT_STEP, *words).returncode == -signal.SIGKILL
    assert micro.checkpointed_steps(micro.the_folder(tmp_path))[-1] == 12
    assert bits(micro.run(tmp_path, *EVERY_STEP, lane=NVFP4)) == bits(done("nvfp4"))


def test_another_seed_and_another_rounding_have_other_bits():
    norms = []
    for words in ((), ("seed=2",), ("precision.stochastic_rounding=off",)):
        session = micro.session(*words, lane=NVFP4)
        norms.append(torch.stack([session.step(index).norms for index in range(2)]))
    assert not torch.equal(norms[0], norms[1]) and not torch.equal(norms[0], norms[2])


def test_the_seed_that_rounds_is_the_plans():
    """Weights and batches of seed 1, rounded as seed 2 would: only what is drawn in the backward differs."""
    plain, other = (micro.session(lane=NVFP4) for _ in range(2))
    at = Transformer.at
    other.model.at = lambda seed, step, first: at(other.model, 2, step, first)
    results = [[session.step(index) for index in range(3)] for session in (plain, other)]
    assert torch.equal(results[0][0].loss, results[1][0].loss)
    assert not torch.equal(results[0][2].norms, results[1][2].norms)


def test_activation_checkpointing_rounds_the_recomputed_layer_as_before():
    plain, saving = micro.session(lane=NVFP4), micro.session("parallel.activation_checkpointing=true", lane=NVFP4)
    for index in range(3):
        a, b = plain.step(index), saving.step(index)
        assert torch.equal(a.loss, b.loss) and torch.equal(a.norms, b.norms)


@both
def test_micro_batches_round_by_their_place_in_the_global_batch_and_give_about_the_same_losses(monkeypatch, format):
    places, at = [], Transformer.at
    whole = micro.session(lane=LANES[format])
    parts = micro.session("parallel.micro_batch_tokens=64", "seed=1", lane=LANES[format])
    monkeypatch.setattr(Transformer, "at", lambda self, *place: (places.append(place), at(self, *place)))
    for index in range(3):
        assert float(parts.step(index).loss) == pytest.approx(float(whole.step(index).loss), rel=2e-2)
    assert places[:5] == [(1, 0, 0), (1, 0, 64), (1, 0, 128), (1, 0, 192), (1, 0, 0)] and places[5] == (1, 1, 0)
    keys = [m.key_4.tolist() for m in parts.model.modules() if getattr(m, "key_4", None) is not None]
    assert keys == [[1, 2, 192, 0], [1, 2, 192, 1]]


@pytest.mark.process
def test_two_ranks_train_to_about_the_losses_of_one(tmp_path, done):
    """Not to its bits: tensor scales span a rank's share of the batch, and blocks of rows are other rows."""
    run_ranks(tmp_path, lane=NVFP4)
    ours, alone = (micro.rows(folder, "step") for folder in (micro.the_folder(tmp_path), done("nvfp4")))
    assert [row["step"] for row in ours] == list(range(1, STEPS + 1))
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in alone], rel=3e-2)
    assert "2 ranks" in micro.record(micro.the_folder(tmp_path)).hardware_class
    assert all("precision" in row for row in micro.rows(micro.the_folder(tmp_path), "window"))


@pytest.mark.parametrize("kind", ["nvfp4", "fp8", "dense"])
def test_window_rows_hold_what_the_format_did_in_finite_numbers(done, kind):
    windows = micro.rows(done(kind), "window")
    assert len(windows) == STEPS // 4
    for row in windows:
        found = row["precision"]
        assert found.keys() == {"tensors", "flips", "flip_causes", "router_grad_rms", "smallest_step"}
        assert list(found["tensors"]) == list(found["flips"]) == ["0", "1"]
        for layer in ("0", "1"):
            assert found["tensors"][layer].keys() == QUANTIZED | (set() if kind == "fp8" else WEIGHT_GRADIENTS)
            assert found["flips"][layer].keys() == {"up", "down"}
            assert all(0 < share < 1 for share in found["flips"][layer].values())
            for figures in found["tensors"][layer].values():
                assert figures.keys() == {"snr_db", "underflow", "saturation", "smallest"}
                assert all(math.isfinite(value) for value in figures.values()) and figures["snr_db"] > 0
                assert 0 <= figures["underflow"] < 1 and 0 < figures["smallest"]
                # nvfp4's scales are rounded: below half of them a block's largest lies above what decodes, and of a lone
                # value's block the transform makes 16 that are the largest; fp8's lie where the largest does
                assert 0 <= figures["saturation"] < (1e-9 if kind == "fp8" else 0.25)
        routed = [] if kind == "dense" else ["0", "1"]
        assert list(found["router_grad_rms"]) == list(found["smallest_step"]) == routed
        for layer in routed:
            assert found["smallest_step"][layer] == found["tensors"][layer]["gradient"]["smallest"]
            assert 0 < found["router_grad_rms"][layer] < math.inf


def test_a_run_in_bf16_has_no_telemetry_of_formats():
    result = micro.session().step(0, measured=True)
    assert result.precision is None


def test_a_kept_layer_and_kept_weights_have_no_figures():
    words = (
        "precision.high_precision_layers=[0]",
        "precision.high_precision_operands=[weight]",
        "precision.weight_blocks=auto",
    )
    found = micro.session(*words, lane=NVFP4).step(0, measured=True).precision
    assert list(found["tensors"]) == ["1"] and found["flips"] == {"1": {}}
    assert found["tensors"]["1"].keys() == (QUANTIZED | WEIGHT_GRADIENTS) - {"weight_up", "weight_down"}


def plant(monkeypatch, layer, name, at_step, value=math.nan):
    """Puts `value` into a weight before step `at_step`, counted from 1."""
    step = Session.step

    def planted(self, index, **words):
        if index == at_step - 1:
            with torch.no_grad():
                getattr(self.model.blocks[layer].feedforward, name).view(-1)[5] = value
        return step(self, index, **words)

    monkeypatch.setattr(Session, "step", planted)


@pytest.mark.parametrize("layer, name, value", [(1, "up", math.nan), (0, "down", math.inf)])
def test_a_weight_that_is_not_finite_stops_the_run_and_names_layer_tensor_and_step(
    tmp_path, monkeypatch, capsys, layer, name, value
):
    plant(monkeypatch, layer, name, 7, value)
    assert micro.speedrun(tmp_path, lane=NVFP4) == 3
    said = f"step 7: layer {layer}: weight_{name}, on its way into the nvfp4 quantizer, not finite"
    run_folder = micro.the_folder(tmp_path)
    stopped = json.loads((run_folder / "stopped.json").read_text())
    assert (stopped["reason"], stopped["step"]) == ("nan", 7) and said in capsys.readouterr().err
    assert [row["step"] for row in micro.rows(run_folder, "step")] == [1, 2, 3, 4, 5, 6]
    assert not (run_folder / "record.json").exists()


@both
def test_a_machine_that_emulates_the_format_says_so_and_is_refused_where_the_plan_requires_it_natively(
    tmp_path, done, capsys, format
):
    record = micro.record(done(format))
    assert record.precision.content() == {"format": format, "execution": "emulated"}
    assert micro.speedrun(tmp_path, "precision.require_native=true", lane=LANES[format]) == 2
    assert f"precision.require_native=true, but {format} is emulated on" in capsys.readouterr().err
    assert not list(tmp_path.rglob("identity.json"))


def test_the_starting_plan_says_how_the_format_is_executed_and_which_dials_are_turned(tmp_path, capsys):
    words = ("precision.clip=0.9", "precision.high_precision_layers=[1]", "run.stop_after_step=1")
    assert micro.speedrun(tmp_path, *words, lane=NVFP4) == 0
    assert "nvfp4 emulated (high_precision_layers=[1], clip=0.9)" in capsys.readouterr().out


def test_evaluation_of_a_saved_run_keeps_its_quantization(done):
    """In fp32 arithmetic, over the operands that the run multiplied: not the model that bf16 would make of its weights."""
    model, token_BS = load_run_model(done("nvfp4")), torch.arange(64).view(2, 32)
    (first, _) = (module for module in model.modules() if isinstance(module, Experts))
    assert first.precision == Precision(Arithmetic.of("full"), Quantization.recipe("nvfp4"))
    plain = build_model(micro.session().plan, "full")
    plain.load_state_dict(micro.weights(done("nvfp4")))
    with torch.no_grad():
        ours, others = model.logits(token_BS), plain.eval().logits(token_BS)
        assert torch.equal(ours, model.logits(token_BS))
    difference = float((ours - others).norm() / others.norm())
    assert 1e-3 < difference < 0.3
