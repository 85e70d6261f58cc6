"""A format that gives way to bf16 at a share of the budget, and dithered weights, in whole runs."""

import micro
import pytest
import torch
from micro import bits, no_figures_fixture  # noqa: F401
from test_train_precision import NVFP4
from test_train_ranks import run_ranks

from harness.errors import UserError
from harness.evaluate.bpb import score
from harness.evaluate.inspect.inspected import untrained
from harness.launch.run_checkpoints import models_at
from harness.launch.run_model import load_run_model
from harness.model.build import build_model
from harness.plan.check import check
from harness.plan.compose import compose
from harness.plan.stored import read_plan

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_figures")]

WINDOWS = "run.log_every_steps=2"
SWITCHED = ["precision.switch_at=0.5", WINDOWS]


def windows(run):
    return micro.rows(run, "window")


def test_until_the_switch_it_is_the_format_and_after_it_bf16(tmp_path):
    whole, switched, plain = (
        micro.run(tmp_path / name, *words, WINDOWS, lane=NVFP4)
        for name, words in {"whole": [], "switched": ["precision.switch_at=0.5"], "plain": ["precision.format=bf16"]}.items()
    )
    of_whole, of_switched, of_plain = map(micro.losses, (whole, switched, plain))
    assert of_switched[:8] == of_whole[:8] and all(a != b for a, b in zip(of_switched[8:], of_whole[8:]))
    assert of_switched[4] != of_plain[4]
    tensors = [bool(row["precision"]["tensors"]) for row in windows(switched)]
    assert tensors == [True] * 4 + [False] * 4
    assert micro.record(switched).plan_hash != micro.record(whole).plan_hash
    assert not any(part.precision.quantization for part in load_run_model(switched).quantizing)
    assert all(part.precision.quantization for part in load_run_model(whole).quantizing)


@pytest.mark.parametrize("stops", [6, 8, 11])
def test_a_run_resumed_before_at_and_after_the_switch_has_the_bits_of_an_untouched_one(tmp_path, stops):
    untouched = micro.run(tmp_path / "untouched", *SWITCHED, lane=NVFP4)
    assert micro.speedrun(tmp_path / "left", *SWITCHED, f"run.stop_after_step={stops}", lane=NVFP4) == 0
    resumed = micro.run(tmp_path / "left", *SWITCHED, lane=NVFP4)
    assert micro.record(resumed).resumes == 1 and bits(resumed) == bits(untouched)
    assert micro.record(resumed).metrics.val_bpb == micro.record(untouched).metrics.val_bpb


def test_a_checkpoint_is_read_in_the_format_of_its_step(tmp_path):
    run = micro.run(tmp_path, *SWITCHED, "run.checkpoint_steps=[4,8,12]", lane=NVFP4)
    blank = untrained(read_plan(run / "plan.yaml"))
    low = [any(part.precision.quantization for part in model.quantizing) for model in models_at(run, [4, 8, 12], blank)]
    assert low == [True, True, False, False]


def test_dither_changes_training_and_never_a_score(tmp_path, monkeypatch):
    scored = []

    def noted(model, *words, **more):
        scored.append({part.precision.quantization.dither for part in model.quantizing})
        return score(model, *words, **more)

    monkeypatch.setattr("harness.train.loop.score", noted)
    dithered = micro.run(tmp_path / "dithered", "precision.dither=1", WINDOWS, lane=NVFP4)
    assert len(scored) > 1 and all(dithers == {0.0} for dithers in scored)
    still = micro.run(tmp_path / "still", WINDOWS, lane=NVFP4)
    assert micro.losses(dithered)[-4:] != micro.losses(still)[-4:]
    causes = windows(dithered)[-1]["precision"]["flip_causes"]["0"]
    assert causes["up.dither"] > 0.02 and causes["up.weight"] > 0 and causes["up.scale"] >= 0
    assert set(windows(still)[-1]["precision"]["flip_causes"]["0"]) == {
        f"{w}.{c}" for w in ("up", "down") for c in ("weight", "scale")
    }


def test_the_causes_of_weights_that_stay_what_they_are_are_the_dither_alone(tmp_path):
    run = micro.run(tmp_path, "precision.dither=1", WINDOWS, "optim.muon.lr=0", "optim.adamw.lr=0", lane=NVFP4)
    precision = windows(run)[0]["precision"]
    causes = precision["flip_causes"]["0"]
    assert causes["up.dither"] > 0.02 and causes["up.weight"] == causes["up.scale"] == precision["flips"]["0"]["up"] == 0


def test_a_dithered_run_resumed_has_the_bits_of_an_untouched_one(tmp_path):
    words = ["precision.dither=0.125", WINDOWS]
    untouched = micro.run(tmp_path / "untouched", *words, lane=NVFP4)
    assert micro.speedrun(tmp_path / "left", *words, "run.stop_after_step=6", lane=NVFP4) == 0
    assert bits(micro.run(tmp_path / "left", *words, lane=NVFP4)) == bits(untouched)


@pytest.mark.parametrize(
    "words, said",
    [
        (["precision.switch_at=0.01"], "leaves precision.format=nvfp4 none of"),
        (["precision.switch_at=1.5"], "precision.switch_at"),
        (["precision.format=bf16", "precision.switch_at=0.5"], "which quantizes nothing"),
        (["precision.format=bf16", "precision.dither=0.5"], "which quantizes nothing"),
        (["precision.format=mxfp8", "model.width=64", "model.expert_width=32", "precision.dither=0.5"], "no E2M1 weights"),
        (["precision.high_precision_operands=[weight]", "precision.dither=0.5"], "high_precision_operands"),
    ],
)
def test_a_switch_outside_the_budget_and_what_does_nothing_are_refused(words, said):
    with pytest.raises(UserError) as refused:
        check(compose([*NVFP4, *words]).plan)
    assert said in f"{refused.value}"


def test_triton_has_no_dither(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert micro.speedrun(tmp_path, "precision.dither=0.5", "kernels.backend=triton", lane=NVFP4) == 2
    assert "kernels.backend=triton, which has no dither" in capsys.readouterr().err


def test_the_keys_are_part_of_the_plan_where_they_are_turned():
    plans = [compose([*NVFP4, *words]).plan for words in ([], ["precision.switch_at=1"], ["precision.switch_at=0.9"])]
    assert [plan.below_bf16 for plan in plans] == [16, 16, 14]


def test_copies_of_weights_that_a_device_holds_are_made_anew_whenever_a_format_gives_way():
    """As on a GPU; also where no weight was written since they were last held."""
    model = micro.session("precision.switch_at=0.5", lane=NVFP4).model
    part = model.blocks[0].feedforward
    model.hold_operands()
    for on in (True, False, True, False):
        model.quantize(on, trains=True)
        assert (part.operands is None) == on
        assert on or torch.equal(part.operands[0], part.up.to(part.operands[0].dtype))


def test_a_model_that_is_built_multiplies_as_it_is_scored_at_last():
    def built(*words):
        return {part.precision for part in build_model(compose([*NVFP4, *words]).plan, "native").quantizing}

    (still,), (plain,) = built("precision.dither=0.5"), built("precision.switch_at=0.5")
    assert still.quantization == next(iter(built())).quantization and plain.quantization is None


@pytest.mark.process
@pytest.mark.parametrize("ep", [1, 2])
def test_two_ranks_switch_at_the_same_step_and_have_the_bits_of_one(tmp_path, ep):
    """Micro-batches are the units that both sum over, so that their formats see the same rows."""
    words = [*SWITCHED, "parallel.sums=units", "parallel.micro_batch_tokens=64"]
    run_ranks(tmp_path / "two", *words, f"parallel.ep={ep}", lane=NVFP4)
    (two,), alone = (tmp_path / "two").glob("*/*"), micro.run(tmp_path / "one", *words, lane=NVFP4)
    assert [bool(row["precision"]["tensors"]) for row in windows(two)] == [True] * 4 + [False] * 4
    assert micro.losses(two) == micro.losses(alone)
