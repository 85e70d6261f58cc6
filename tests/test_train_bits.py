"""What changes the bits of a run, and what must not."""

import runpy

import micro
import numpy as np
import pytest
import torch
from micro import bits, finished_fixture, no_figures_fixture  # noqa: F401

from harness.evaluate.router_health import bias_ranges
from harness.optim.schedule import lr_scale
from harness.train import chain
from harness.train.chain import hash_tensors, hash_weights
from harness.train.clock import Clock
from harness.train.warmup import held_meanwhile, warm_up

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.mark.slow
def test_logging_and_checkpointing_more_often_change_no_bits(tmp_path, finished):
    often = micro.run(tmp_path, "run.log_every_steps=1", "run.checkpoint_every_s=0", "run.keep_checkpoints=5")
    assert bits(often) == bits(finished())
    assert micro.record(often).plan_hash == micro.record(finished()).plan_hash


@pytest.mark.slow
def test_logging_only_at_the_end_changes_no_bits(tmp_path, finished):
    seldom = micro.run(tmp_path, "run.log_every_steps=1000")
    assert bits(seldom) == bits(finished())
    assert len(micro.rows(seldom, "window")) == 1 and len(micro.rows(seldom, "step")) == micro.STEPS


@pytest.mark.slow
def test_another_seed_gives_other_bits_and_the_same_plan(tmp_path, finished):
    other = micro.run(tmp_path, "seed=2")
    assert bits(other)["chain"] != bits(finished())["chain"] and bits(other)["weights"] != bits(finished())["weights"]
    assert micro.record(other).plan_hash == micro.record(finished()).plan_hash
    assert micro.losses(other)[-1] != micro.losses(finished())[-1]


@pytest.mark.slow
@pytest.mark.parametrize("word", ["parallel.micro_batch_tokens=64", "parallel.activation_checkpointing=true"])
@pytest.mark.parametrize("lane", [micro.MOE, micro.DENSE], ids=["moe", "dense"])
def test_the_ways_to_save_memory_give_the_same_losses(word, lane):
    plain, saving = micro.session(lane=lane), micro.session(word, lane=lane)
    for index in range(3):
        a, b = plain.step(index), saving.step(index)
        assert float(b.loss) == pytest.approx(float(a.loss), rel=2e-3)
        torch.testing.assert_close(b.norms, a.norms, rtol=3e-2, atol=1e-4)
        assert b.count_LE.sum() == a.count_LE.sum()


def test_the_chain_and_the_weights_of_the_record_follow_from_stepping_the_plan_by_hand(finished):
    session, link = micro.session(), chain.START
    for index in range(micro.STEPS):
        result = session.step(index)
        link = chain.extend(link, float(result.loss), float(result.norms.norm()), result.count_LE.tolist())
    assert bits(finished()) == {"chain": link, "weights": hash_weights(session.model)}


def test_every_window_row_holds_the_chain_so_far(finished):
    counts = {}
    link, windows = chain.START, micro.rows(finished(), "window")
    assert [row["step"] for row in windows] == list(range(4, micro.STEPS + 1, 4))
    session = micro.session()
    for index in range(8):
        result = session.step(index)
        link = chain.extend(link, float(result.loss), float(result.norms.norm()), result.count_LE.tolist())
        counts[index] = np.array(result.count_LE.tolist())
        if (index + 1) % 4 == 0:
            row = windows[(index + 1) // 4 - 1]
            assert row["chain"] == link
            assert row["counts"] == sum(counts[i] for i in range(index - 3, index + 1)).tolist()
            assert row["bias_range"] == bias_ranges(session.model)


@pytest.mark.parametrize("change", ["loss", "norm", "counts"])
def test_a_link_of_the_chain_depends_on_every_number_of_its_step(change):
    values = {"loss": 2.5, "norm": 1.0, "counts": [[3, 5]]}
    others = {"loss": np.nextafter(np.float32(2.5), np.float32(3)), "norm": 1.5, "counts": [[5, 3]]}
    link = chain.extend(chain.START, *values.values())
    assert link != chain.extend(chain.START, *(values | {change: others[change]}).values())
    assert link != chain.extend(link, *values.values())


def test_the_hash_of_tensors_depends_on_names_dtypes_shapes_and_bytes_and_not_on_order():
    a, b = torch.arange(6.0), torch.ones(2, 3)
    assert hash_tensors({"a": a, "b": b}) == hash_tensors({"b": b, "a": a})
    others = [{"a": a, "c": b}, {"a": a.double(), "b": b}, {"a": a.view(2, 3), "b": b}, {"a": a + 1, "b": b}]
    assert len({hash_tensors(t) for t in [{"a": a, "b": b}, *others]}) == 5


def test_the_weights_hash_is_the_hash_of_the_tensors_in_the_weights_file(finished):
    for kind in ("moe", "dense"):
        assert hash_tensors(micro.weights(finished(kind))) == bits(finished(kind))["weights"]


def warmed(session, step=0, start=None):
    """The names of the tensors that are others after warm-up than before it."""
    before, places = micro.tensors(session), {name: t.data_ptr() for name, t in session.state().items()}
    clock = Clock()
    rate = warm_up(session, clock, session.corpus.val[:4096], step, start)
    assert {name: t.data_ptr() for name, t in session.state().items()} == places
    assert all(p.grad is None for p in session.model.parameters())
    assert rate > 0 and clock.train_s == 0
    assert {name for name, spent in clock.ledger.items() if spent} == {"compile_s", "warmup_s"}
    return [name for name, t in session.state().items() if hash_tensors({"": t}) != hash_tensors({"": before[name]})]


@pytest.mark.parametrize("lane, words", [
    (micro.DENSE, ["optim=adamw"]), (micro.MOE, ["init.zero_output=false"]), (micro.MOE, ["model.norm_weight=true"]),
    (micro.MOE, ["model.router=hash", "balance=none"]), (["lane=tiny-moe-16e-nvfp4", *micro.MOE[1:]], []),
])  # fmt: skip
def test_warming_up_leaves_every_tensor_as_it_was_drawn(lane, words):
    assert warmed(micro.session(*words, lane=lane)) == []


@pytest.mark.parametrize("step", [2, micro.STEPS - 1])
def test_warming_up_leaves_every_tensor_as_it_was_in_the_checkpoint(step):
    session = micro.session()
    for index in range(2):
        session.step(index)
    assert warmed(session, step, micro.tensors(session)) == []


def test_warming_up_restores_state_that_does_not_start_at_zero():
    session = micro.session()
    signs = runpy.run_path(
        str(micro.ROOT / "tests/parts/optim/signs.py")
    )  # keeps a mean of the weights, from the first ones on
    multipliers = dict.fromkeys(session.optimizer.parameters, 1.0)
    session.optimizer.parts = [signs["PART"](session.optimizer.parameters, multipliers, signs["Keys"](), torch.float32)]
    for layer in session.model.moe_layers:
        session.model.blocks[layer].feedforward.router.bias.fill_(0.25)
    assert warmed(session) == []


def test_warming_up_holds_no_copy_of_weights_nor_of_state_that_starts_at_zero():
    assert held_meanwhile(micro.session()) == {}
    assert {name.split(".")[-1] for name in held_meanwhile(micro.session("model.router=hash", "balance=none"))} == {"table_VK"}


def test_a_step_after_warming_up_has_the_bits_of_one_without():
    cold, warm = micro.session(), micro.session()
    warm_up(warm, Clock(), warm.corpus.val[:4096], 0, None)
    cold.step(0), warm.step(0)
    assert hash_tensors(warm.state()) == hash_tensors(cold.state())


@pytest.mark.slow
def test_the_learning_rate_schedule_reaches_the_metrics(tmp_path):
    words = ("schedule.warmup_share=0.25", "schedule.decay_share=0.5", "schedule.final_fraction=0.1")
    run_folder = micro.run(tmp_path, *words, lane=micro.DENSE)
    plan = micro.compose([*micro.DENSE, *words]).plan
    scales = [row["lr_scale"] for row in micro.rows(run_folder, "step")]
    assert scales == [lr_scale(plan.schedule, (256 * i + 128) / 8192) for i in range(micro.STEPS)]
    assert scales[0] == pytest.approx(0.5 / 8) and scales[10] == 1 and scales[-1] == pytest.approx(0.1 + 0.9 * 0.5 / 16)


def test_the_number_of_windows_does_not_move_a_validation(tmp_path, finished):
    curve = [(row["step"], row["tokens"]) for row in micro.rows(finished(), "validation")]
    assert curve == [(8, 2048), (16, 4096), (24, 6144), (32, 8192)]
    step_rows = micro.rows(finished(), "step")
    assert [row["tokens"] for row in step_rows] == [256 * (i + 1) for i in range(micro.STEPS)]
    assert micro.losses(finished())[-1] < micro.losses(finished())[0] - 1
