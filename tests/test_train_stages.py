"""Runs whose batch changes over the run: the same tokens in the same order, the step's own size everywhere, the same bits."""

import micro
import numpy as np
import pytest
import torch
import torch._dynamo
from micro import bits, no_figures_fixture  # noqa: F401

from harness.errors import UserError
from harness.evaluate.bpb import score
from harness.launch.starting_plan import starting_plan
from harness.model.build import count_plan
from harness.plan.steps import Stage
from harness.ranks import Ranks
from harness.record.rows import StepRow
from harness.report.integrity import check
from harness.report.run_data import load_run
from harness.train import machine
from harness.train.clock import Clock
from harness.train.estimate import run_seconds
from harness.train.machine import compiler_missing
from harness.train.memory import memory
from harness.train.warmup import warm_up

STAGES = ["batch.stages=[128,256,512]", "budget.tokens=6144", "validation.steps=[16,20]"]  # 16, 8 and 4 steps
SIZES = [128] * 16 + [256] * 8 + [512] * 4
ENDS = np.cumsum(SIZES).tolist()
IN_PARTS = "parallel.micro_batch_tokens=64"


@pytest.fixture(name="staged", scope="module")
def staged_fixture(tmp_path_factory):
    """A finished run. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.launch.sinks.show_at_end", lambda run: None)
        return micro.run(tmp_path_factory.mktemp("staged"), *STAGES)


def test_a_staged_run_logs_the_tokens_of_its_steps_and_its_evidence_is_whole(staged):
    assert [row["tokens"] for row in micro.rows(staged, "step")] == ENDS
    assert [(row["step"], row["tokens"]) for row in micro.rows(staged, "validation")] == [(16, 2048), (20, 3072), (28, 6144)]
    run = load_run(staged)
    assert run.planned_steps == 28 and run.record.metrics.tokens == 6144 and check(run) == []
    assert run.record.metrics.step_s == pytest.approx(run.record.clock.train_s / 28)
    assert "batch.stages=[128, 256, 512] instead of []" in run.record.unranked_reasons


def test_the_speed_of_a_window_is_that_of_the_tokens_in_it(staged):
    before, begun = 0, 0.0
    for row in micro.rows(staged, "window"):
        assert row["tokens"] == ENDS[row["step"] - 1] and [sum(c) for c in row["counts"]] == [2 * (row["tokens"] - before)] * 2
        assert row["tokens_per_second"] == pytest.approx((row["tokens"] - before) / (row["train_s"] - begun))
        before, begun = row["tokens"], row["train_s"]


def test_tokens_that_are_not_those_of_the_stages_are_found(staged):
    run = load_run(staged)
    run.rows["step"][20]["tokens"] = 256 * 21
    run.rows["window"][-1]["counts"][0][0] += 1
    found = " ".join(check(run))
    assert "step 21 counts 5,376 tokens instead of 3,328" in found and "not 4096" in found


def test_the_rate_per_token_is_that_of_a_constant_batch(staged):
    """At every point of the schedule: 128 tokens have half the rate of 256, the lane's, and 512 twice as much."""
    rows: list[StepRow] = micro.rows(staged, "step")
    rates = np.array([row["lr_scale"] for row in rows]) / SIZES
    middles = (np.array(ENDS) - np.array(SIZES) / 2) / 6144
    warm, remaining = np.minimum(1, middles / 0.02), np.minimum(1, (1 - middles) / 0.4)
    assert rates == pytest.approx(warm * remaining / 256)


@pytest.mark.parametrize("left_at", [(5,), (16,), (18, 24)], ids=["within a stage", "between stages", "both"])
def test_a_staged_run_that_was_left_and_resumed_has_the_bits_of_an_untouched_one(tmp_path, staged, no_figures, left_at):
    for step in left_at:
        assert micro.speedrun(tmp_path, *STAGES, f"run.stop_after_step={step}") == 0
    resumed = micro.run(tmp_path, *STAGES)
    assert bits(resumed) == bits(staged) and micro.losses(resumed) == micro.losses(staged)
    assert [row["tokens"] for row in micro.rows(resumed, "step")] == ENDS and check(load_run(resumed)) == []


def test_an_unfinished_run_of_other_stages_is_another_run(tmp_path, no_figures):
    assert micro.speedrun(tmp_path, *STAGES, "run.stop_after_step=2") == 0
    assert micro.speedrun(tmp_path, *STAGES, "batch.stages=[128,256]", "run.stop_after_step=2") == 0
    assert len(list(tmp_path.glob("*/*/identity.json"))) == 2


EVERYTHING = (
    "precision.format=fp32", "balance.rule=bias", "balance.rate=0.02", "balance.aux_loss_coef=0.5",
    "balance.sequence_loss_coef=0.25", "balance.z_loss_coef=0.125", "balance.capacity_factor=1.0",
    "optim.expert_gradient_scale=load",
)  # fmt: skip


@pytest.mark.parametrize("words", [(), (IN_PARTS,)], ids=["whole", "in parts"])
def test_the_first_step_of_a_stage_has_losses_and_gradients_of_a_constant_batch_of_its_size(words):
    """Step 16 follows 2,048 tokens, as step 8 of 256 does: the same windows, from the same weights."""
    staged, constant = micro.lively(*STAGES, *EVERYTHING, *words), micro.lively(*EVERYTHING, *words)
    a, b = staged.step(16), constant.step(8)
    assert a.loss == b.loss and torch.equal(a.norms, b.norms) and torch.equal(a.count_LE, b.count_LE)
    assert a.auxiliary == b.auxiliary and len(a.auxiliary) == 3
    assert torch.equal(a.dropped_L, b.dropped_L) and a.dropped_L.sum() > 0


def test_micro_batches_have_one_shape_in_all_stages_where_they_are_cut():
    assert set(micro.session(*STAGES, IN_PARTS).micro_sequences.values()) == {2}
    whole = micro.session(*STAGES, "validation.batch_tokens=0")
    assert whole.micro_sequences == {128: 4, 256: 8, 512: 16} and whole.scoring_tokens == 512


@pytest.mark.parametrize("step, sizes", [(0, {128, 256, 512}), (17, {256, 512}), (24, {512}), (28, {512})])
def test_warming_up_runs_every_size_that_is_still_to_come_before_the_clock_starts(step, sizes):
    session = micro.session(*STAGES)
    take, taken = session.step, []
    session.step = lambda index, measured=False: taken.append(SIZES[index]) or take(index, measured)
    clock = Clock()
    assert warm_up(session, clock, session.corpus.val[:4096], step, micro.tensors(session)) > 0 and clock.train_s == 0
    assert set(taken) == sizes


@pytest.mark.parametrize(
    "words, says", [((), "2 sequences a step"), (("parallel.micro_batch_tokens=64",), "4 sequences a step")]
)
def test_ranks_that_do_not_divide_every_stage_are_refused(words, says):
    stages = "batch.stages=[256,64]" if not words else "batch.stages=[256,128]"
    with pytest.raises(UserError, match=says):
        micro.session(stages, *words, ranks=Ranks(0, 4))


def test_what_a_run_will_take_is_that_of_all_its_stages():
    plan, constant = (micro.compose([*micro.MOE, *words]).plan for words in (STAGES, ["batch.tokens_per_step=512"]))
    here, counts = machine.detect(plan), count_plan(plan)
    assert memory(plan, here) == memory(constant, here)
    parts = [micro.compose([*micro.MOE, f"batch.tokens_per_step={n}", "budget.tokens=2048"]).plan for n in (128, 256, 512)]
    assert run_seconds(plan, counts, here) == pytest.approx(sum(run_seconds(part, counts, here) for part in parts))


def test_the_starting_plan_says_the_stages_and_what_they_make_of_the_rate():
    composed = micro.compose([*micro.MOE, *STAGES, "schedule.batch_lr=sqrt"])
    said = starting_plan(composed, machine.detect(composed.plan), count_plan(composed.plan), None)
    assert "6,144 bytes, 16 steps of 128, then 8 of 256, then 4 of 512" in said
    assert "x 0.7071, 1, 1.414 in the stages of the batch" in said and "1 at batch.tokens_per_step=256" in said
    plain = micro.compose(micro.MOE)
    said = starting_plan(plain, machine.detect(plain.plan), count_plan(plain.plan), None)
    assert "8,192 bytes, 32 steps of 256 " in said and "batch_lr" not in said


def test_the_stages_of_a_plan_are_those_of_its_session():
    assert micro.session(*STAGES).steps.stages == (Stage(128, 16), Stage(256, 8), Stage(512, 4))


compiled = pytest.mark.skipif(bool(compiler_missing()), reason="nothing is compiled here")
COMPILED = "kernels.compile=on"


@pytest.fixture
def traced(monkeypatch):
    """Blocks and head are traced and guarded as ever, and run as they are. The graphs that there are."""
    compile, config, graphs = torch.nn.Module.compile, torch._dynamo.config, []
    keep = lambda graph, inputs: graphs.append(graph) or graph.forward  # noqa: E731
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: compile(self, backend=keep, **how))
    torch._dynamo.reset()
    with config.patch(recompile_limit=8, accumulated_recompile_limit=256):
        yield graphs
    torch._dynamo.reset()


@compiled
@pytest.mark.slow
def test_every_kind_of_block_is_compiled_in_every_size_before_the_clock_starts_and_none_on_it(traced):
    """Four kinds and the head, in three sizes and in that of scoring; the head in one size with targets ahead and without."""
    session = micro.session(
        *STAGES, COMPILED, "model.layers=5", "model.attention_pattern=[full,window,mla,nsa,full]", "attention.window.tokens=8",
        "attention.mla.rotary=4", "attention.nsa.chosen=2", "ahead.weights=[0.5]", "ahead.until=0.6",
    )  # fmt: skip
    slice_N = session.corpus.val[:4097]
    warm_up(session, Clock(), slice_N, 0, micro.tensors(session))
    assert len(traced) == (4 + 1) * (3 + 1) + 1
    for index in (0, 15, 16, 23, 24, 27):
        session.step(index)
        session.step(index, measured=True)
    score(session.model, slice_N, session.scoring_tokens)
    assert len(traced) == (4 + 1) * (3 + 1) + 1


@compiled
@pytest.mark.slow
def test_what_is_beyond_the_limit_of_compilations_fails_and_does_not_run_uncompiled(traced):
    session = micro.session(COMPILED)
    session.step(0)
    with torch._dynamo.config.patch(recompile_limit=1), pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        score(session.model, session.corpus.val[:1025], 1024)


@compiled
@pytest.mark.slow
def test_a_compiled_staged_run_has_the_bits_of_one_that_resumed_in_its_second_stage(tmp_path, no_figures):
    """And the losses of one that is not compiled, to rounding. Two stages, of 16 and 8 steps: each size is compiled for
    seconds. Experts whose width `brgemm` takes, since others are compiled too."""
    two = ("batch.stages=[128,256]", "budget.tokens=4096", "validation.steps=[16]", "validation.batch_tokens=0")
    two += ("model.expert_width=32",)
    words = [*two, COMPILED]
    eager = micro.run(tmp_path / "eager", *two)
    torch._dynamo.reset()
    untouched = micro.run(tmp_path / "whole", *words)
    torch._dynamo.reset()
    assert micro.speedrun(tmp_path / "parted", *words, "run.stop_after_step=20") == 0
    resumed = micro.run(tmp_path / "parted", *words)
    assert bits(resumed) == bits(untouched) and micro.losses(resumed) == micro.losses(untouched)
    np.testing.assert_allclose(micro.losses(untouched), micro.losses(eager), rtol=1e-2)
