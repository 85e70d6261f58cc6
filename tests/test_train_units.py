"""`parallel.sums=units`: the number of processes, also over a resume, moves no bit; seconds still tell how many there were."""

import json
from dataclasses import replace
from functools import cache

import micro
import processes
import pytest
import torch
from micro import no_figures_fixture  # noqa: F401
from report_factory import edit_record, write_run
from test_train_ranks import run_ranks
from units_on_ranks import CASES, FOUR, FP32, UNITS, session, steps, traced

from harness.errors import UserError
from harness.optim import norms
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.ranks import Ranks
from harness.record.read import read_identity
from harness.report.groups import find_groups
from harness.report.integrity import check
from harness.report.run_data import load_run
from harness.train import ending, machine, sums
from harness.train.memory import memory

PROGRAM = (micro.ROOT / "tests" / "units_on_ranks.py").read_text()


@cache
def alone(case: str):
    """In this process, as JSON has it."""
    return json.loads(json.dumps(traced(case, micro.ALONE)))


def on_ranks(world, folder, *cases):
    done = processes.run_ranks(world, PROGRAM, str(folder), *cases)
    assert [rank.returncode for rank in done] == [0] * world, "".join(rank.stderr[-3000:] for rank in done)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("world, cases", [(2, (*CASES, "fault")), (4, FOUR)])
def test_ranks_leave_the_bits_of_one_process_in_log_weights_and_state(world, cases, tmp_path):
    """And what one of them cannot quantize ends the step on all, with the words of the first unit that has it."""
    found = on_ranks(world, tmp_path, *cases)
    for case in cases:
        for rank in found if case == "fault" else found[:1]:  # what a measured step tells of formats is the first rank's
            assert rank[case] == alone(case), case
        assert len({json.dumps(rank[case]["state"]) for rank in found if case != "fault"}) <= 1, case
    assert "input" in alone("fault") or "fault" not in cases


@pytest.mark.slow
@pytest.mark.parametrize("case", ["bf16, muon, bias", "softmax, swiglu, checkpointing", "nvfp4"])
def test_in_one_process_the_weights_are_those_of_sums_over_ranks_in_the_same_micro_batches(case):
    units, plain = session(case, micro.ALONE, *UNITS), session(case, micro.ALONE, UNITS[1])
    a, b = steps(units), steps(plain)
    assert a["state"] == b["state"]
    for group, found in a["groups"].items():  # of experts slice by slice
        assert found == pytest.approx(b["groups"][group], rel=1e-12)
    assert [step["loss"] for step in a["steps"]] == [step["loss"] for step in b["steps"]]
    assert a["steps"][0]["norms"] != b["steps"][0]["norms"]


def test_a_sum_over_units_keeps_the_sign_of_a_zero():
    """0 + -0.0 is 0.0: what is summed begins with its first part."""
    built = session("dense, clipped", micro.ALONE, *UNITS)
    minus = torch.full((), -0.0)
    totals = built.sums.add(built.sums.add({}, {"loss": minus}), {"loss": minus})
    assert torch.signbit(totals["loss"])


class Echo(Ranks):
    """Two ranks, of which the other has what this one has."""

    def exchange(self, part_PN):
        return part_PN[:1].expand_as(part_PN)


def test_a_gradient_that_is_folded_over_ranks_keeps_the_sign_of_a_zero():
    built = session("dense, clipped", micro.ALONE, *UNITS)
    folding = sums.UnitSums(Echo(0, 2), built.model, built.optimizer)
    for p in built.optimizer.parameters.values():
        p.grad = torch.full_like(p, -0.0)
    folding._fold_gradients()
    assert all(bool(torch.signbit(total).all()) for total in folding.sums)


def test_gradient_norms_are_of_slices_in_fp64_whatever_the_size_of_a_pass(monkeypatch):
    stack = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 5).view(5, 1, 1)
    expected = sum(float(one.double().square().sum()) for one in stack) ** 0.5
    for chunk in (1, 25, 1 << 20):
        monkeypatch.setattr(norms, "CHUNK", chunk)
        for by_expert in (True, False):
            over = norms.Squares(frozenset(["w"] if by_expert else []))
            assert float(over.norms({"w": stack})) == pytest.approx(expected, rel=1e-7)
        assert norms.slice_squares(stack).tolist() == pytest.approx([float(e.double().square().sum()) for e in stack])


# A run, left on two ranks and ended on one


@pytest.mark.slow
@pytest.mark.process
def test_a_run_that_goes_on_with_another_number_of_ranks_has_the_bits_of_one_process_and_no_seconds(tmp_path, no_figures):
    whole = micro.run(tmp_path / "whole", *UNITS)
    run_ranks(tmp_path / "cut", *UNITS, "run.stop_after_step=12", lane=micro.MOE)
    cut = micro.run(tmp_path / "cut", *UNITS)
    record, beside = micro.record(cut), micro.record(whole)
    assert record.resumes == 1 and micro.bits(cut) == micro.bits(whole)
    assert record.hardware_class == beside.hardware_class == record.speed_class
    left_out = ("train_s", "tokens_per_second", "mfu", "occupancy")
    for kind in ("step", "window", "validation", "final"):
        ours, theirs = (
            [{key: value for key, value in row.items() if key not in left_out} for row in micro.rows(run, kind)]
            for run in (cut, whole)
        )
        assert ours == theirs
    assert record.router_health == beside.router_health and record.metrics.val_bpb == beside.metrics.val_bpb
    assert read_identity(cut).ranks == 2 and read_identity(whole).ranks is None
    assert "was not measured" in record.disturbed and check(load_run(cut)) == []


def test_answers_of_ranks_that_are_no_more_are_forgotten_by_the_first(tmp_path):
    for rank in range(3):
        (tmp_path / f"{ending.ANSWERS}{rank}.jsonl").touch()
    ending.forget_answers(tmp_path, Ranks(1, 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers-0.jsonl", "answers-2.jsonl"]
    ending.forget_answers(tmp_path, Ranks(0, 2))
    assert not list(tmp_path.iterdir())


# What a plan and ranks must satisfy


@pytest.mark.parametrize(
    "world, words, says",
    [
        (3, UNITS, ["256 tokens has 4 units", "3 ranks", "start 2 ranks"]),
        (8, UNITS, ["4 units of parallel.micro_batch_tokens=64", "start 4 ranks", "set parallel.micro_batch_tokens=32"]),
        (2, (*UNITS, "batch.stages=[64,128]"), ["64 tokens has 1 unit of", "start 1 rank", "parallel.micro_batch_tokens=32"]),
        (2, (*UNITS, "budget.tokens=96"), ["96 tokens is no whole number", "parallel.micro_batch_tokens=32"]),
    ],
)
def test_ranks_that_cannot_share_the_units_are_refused_before_anything_is_built(world, words, says, monkeypatch):
    monkeypatch.setattr("harness.train.session.build_model", None)
    with pytest.raises(UserError) as caught:
        micro.session(*words, ranks=Ranks(0, world))
    for part in says:
        assert part in f"{caught.value.problem} {caught.value.remedy}", caught.value


def test_older_plans_keep_their_hash_and_units_are_another_plan():
    plain, units = (compose([*micro.MOE, *words]).plan for words in ((), UNITS))
    told = compose([*micro.MOE, "parallel.sums=ranks"]).plan
    assert plan_hash(told) == plan_hash(plain) != plan_hash(units)


# What seconds are compared by


def test_the_hardware_class_names_ranks_only_where_bits_depend_on_them_and_the_speed_class_always():
    plain, units = (machine.detect(compose([*micro.MOE, *words]).plan) for words in ((), UNITS))
    assert plain.hardware_class == units.hardware_class == units.speed_class
    plain, units = replace(plain, world_size=2), replace(units, world_size=2)
    assert ", 2 ranks, revision" in plain.hardware_class and "ranks" not in units.hardware_class
    assert plain.speed_class == units.speed_class == plain.hardware_class
    assert units.as_record().keys() == plain.as_record().keys() >= {"world_size"} and "bits_by_ranks" not in units.as_record()


def test_runs_of_one_class_on_other_numbers_of_ranks_are_no_seeds_of_one_thing_and_have_no_common_seconds(tmp_path):
    folders = [write_run(tmp_path / str(seed), seed=seed) for seed in (1, 2, 3)]
    edit_record(folders[2], hardware__world_size=2)
    groups = find_groups([tmp_path]).groups
    assert sorted(group.seeds for group in groups) == [(1, 2), (3,)]
    assert [group.hardware_class.endswith(", 2 ranks") for group in groups] == [group.seeds == (3,) for group in groups]
    a, b, c = map(load_run, folders)
    assert a.why_seconds_differ(b) is None and a.why_seconds_differ(c) == "the hardware classes differ"
    assert a.why_not_beside(c) is None


def test_a_record_of_other_ranks_than_its_run_began_with_contradicts_itself(tmp_path):
    run = write_run(tmp_path / "1")
    assert not any("ranks" in sentence for sentence in check(load_run(run)))
    edit_record(run, hardware__world_size=2)
    assert any("its class with ranks is" in sentence for sentence in check(load_run(run)))


def test_several_ranks_hold_their_part_of_the_sums_and_a_message_beside_gradients():
    plan = compose([*micro.MOE, *UNITS, *FP32]).plan
    one = machine.detect(plan)
    found, two = memory(plan, one), memory(plan, replace(one, world_size=2))
    assert not found.sums and not found.messages and two.sums == found.weights // 2 and two.messages
    assert found.accumulates and not two.accumulates


def test_gradients_travel_in_buckets_that_have_every_number_once(monkeypatch):
    from harness.train import sums

    monkeypatch.setattr(sums, "AT_ONCE", 3000)
    built = session("bf16, muon, bias", micro.ALONE, *UNITS)
    parameters = [p for bucket in built.sums.buckets for p in bucket]
    assert [id(p) for p in parameters] == [id(p) for p in built.optimizer.parameters.values()] and len(built.sums.buckets) > 3
    gradients = [torch.arange(5.0), torch.arange(6.0).view(2, 3)]
    cut = sums._cut(gradients, 4)
    assert cut.shape == (4, 3) and cut.flatten()[:11].tolist() == [*range(5), *range(6)] and not cut.flatten()[11:].any()
