"""Initial weights of experts: each is drawn by its name and number, whichever others a process holds."""

import pytest
import torch

import harness.model.init
from harness.keyed import generator
from harness.model.init import initialize
from harness.model.transformer import Transformer
from harness.model.transport.local import Local
from harness.plan.schema import Init, Model
from harness.revision import REVISION, revision_of
from kernels import Arithmetic

SHAPE = dict(width=16, layers=2, heads=2, sequence_length=8, vocab_size=19, num_experts=6, expert_width=8, top_k=2)


def started(seed: int = 1, **changes) -> Transformer:
    model = Transformer(Model(**SHAPE | changes), Arithmetic.of("full"), "torch")
    initialize(model, Init(zero_output=False), seed)
    return model


@pytest.mark.parametrize("held", [range(0, 3), range(3, 6), range(2, 3)])
def test_a_process_that_holds_some_experts_draws_them_as_one_that_holds_all(held, monkeypatch):
    whole = dict(started().named_parameters())
    monkeypatch.setattr(Local, "held", held)
    for name, part in started().named_parameters():
        stack = name.endswith(("feedforward.up", "feedforward.down"))
        assert torch.equal(part, whole[name][held.start : held.stop] if stack else whole[name])


def test_an_expert_is_drawn_by_name_and_number_and_scaled_by_its_own_fan_in():
    model = started()
    drawn = generator(1, "initial weights", "blocks.1.feedforward.up", 4).standard_normal((16, 8), dtype="float32")
    assert torch.equal(model.blocks[1].feedforward.up[4], torch.from_numpy(drawn).mul_(16**-0.5))
    assert not torch.equal(model.blocks[1].feedforward.up[4], model.blocks[1].feedforward.up[3])
    assert not torch.equal(model.blocks[1].feedforward.up[4], model.blocks[0].feedforward.up[4])


def test_an_expert_of_a_lane_with_more_experts_starts_as_in_one_with_fewer():
    few, many = started(), started(num_experts=12)
    assert torch.equal(few.blocks[0].feedforward.down, many.blocks[0].feedforward.down[:6])


def test_no_more_than_one_expert_is_drawn_at_a_time(monkeypatch):
    largest = 0

    class Draws:
        def __init__(self, *words):
            self.draws = generator(*words)

        def standard_normal(self, shape, dtype):
            nonlocal largest
            largest = max(largest, torch.Size(shape).numel())
            return self.draws.standard_normal(shape, dtype=dtype)

    monkeypatch.setattr(harness.model.init, "generator", Draws)
    started(num_experts=64)
    assert largest == 16 * 64  # the router: one expert has 128, the stack 8,192


def test_the_weights_of_a_stack_have_the_planned_standard_deviation():
    up = started(width=64, expert_width=64, num_experts=32).blocks[0].feedforward.up
    assert float(up.std()) == pytest.approx(1 / 8, rel=0.02) and abs(float(up.mean())) < 1e-3


def test_the_revision_is_part_of_the_hardware_class_and_old_classes_are_of_the_first():
    assert revision_of(f"cpu, X, 2 threads, python 3.11, revision {REVISION}") == REVISION
    assert revision_of("cpu, X, 2 threads, torch 2.13.0+cpu, python 3.11") == 1
    assert revision_of("") == 1 and revision_of("revision two") == 1
