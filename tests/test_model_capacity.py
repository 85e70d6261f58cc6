"""What an expert with a capacity leaves out, by hand and against a loop."""

import micro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import no_figures_fixture  # noqa: F401
from report_factory import edit_record

from harness.model.capacity import drop
from harness.model.routing import count_rows
from harness.model.where import Where
from harness.report import integrity
from harness.report.run_data import load_run

CAPACITY = ("balance.capacity_factor=1.0", "balance=none", "model.router=softmax_topk")


def test_the_heaviest_rows_stay_and_ties_go_to_the_lower_row():
    """Four tokens, top-2 of 3 experts, factor 0.75: ceil(0.75 x 4 x 2 / 3) = 2 rows each. Expert 0 has rows of weight .9, .6,
    .6 and .1: of the two of .6 the first stays. Expert 1 has .1, .4, .9 (leaves .1); expert 2 has one."""
    expert_TK = torch.tensor([[0, 1], [0, 1], [0, 2], [1, 0]])
    weight_TK = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.9, 0.1]])
    kept_TK, dropped_E = drop(expert_TK, weight_TK, count_rows(expert_TK, 3), 2)
    assert kept_TK.tolist() == [[0, -1], [0, 1], [-1, 2], [1, -1]]
    assert dropped_E.tolist() == [2, 1, 0]


@settings(deadline=None, max_examples=60)
@given(tokens=st.integers(1, 12), experts=st.integers(1, 5), capacity=st.integers(1, 9), data=st.data())
def test_dropping_equals_a_loop_over_experts(tokens, experts, capacity, data):
    top_k = data.draw(st.integers(1, experts))
    ids = [data.draw(st.permutations(range(experts)))[:top_k] for _ in range(tokens)]
    weights = [[data.draw(st.sampled_from([0.0, 1e-45, 0.25, 0.5, 1.0])) for _ in range(top_k)] for _ in range(tokens)]
    expert_TK, weight_TK = torch.tensor(ids), torch.tensor(weights)
    kept_TK, dropped_E = drop(expert_TK, weight_TK, count_rows(expert_TK, experts), capacity)
    flat, expected = weight_TK.flatten().tolist(), expert_TK.flatten().tolist()
    for expert in range(experts):
        rows = [row for row, chosen in enumerate(expert_TK.flatten().tolist()) if chosen == expert]
        for row in sorted(rows, key=lambda row: -flat[row])[capacity:]:
            expected[row] = -1
    assert kept_TK.flatten().tolist() == expected
    assert dropped_E.tolist() == [expert_TK.eq(e).sum().item() - kept_TK.eq(e).sum().item() for e in range(experts)]


@pytest.mark.parametrize("factor, tokens, rows", [(0.0, 256, 0), (1.0, 256, 64), (1.1, 256, 71), (0.001, 256, 1)])
def test_the_capacity_is_rounded_up(factor, tokens, rows):
    """256 tokens, top-2 of 8 experts: 64 rows in balance."""
    plan = micro.compose([*micro.MOE, f"balance.capacity_factor={factor}"]).plan
    assert plan.expert_capacity(tokens) == rows


def test_a_step_under_a_capacity_reports_what_it_dropped_of_each_micro_batch():
    session = micro.session(*CAPACITY, "parallel.micro_batch_tokens=64")
    assert session.plan.expert_capacity(64) == 16
    counts = []
    inputs, targets = session.batches.batch(0, 0, 1)
    for x, y in zip(inputs.split(2), targets.split(2)):
        counts.append(session.model(Where(x, capacity=16), y).count_LE)
    expected = torch.stack(counts).sub(16).clamp(min=0).sum((0, 2))
    found = session.step(0)
    assert found.dropped_L.tolist() == expected.tolist() and expected.min() > 0
    assert found.count_LE.sum(1).tolist() == [512, 512]  # what was routed, dropped or not


def test_activation_checkpointing_drops_the_same_rows():
    a, b = (micro.lively(*CAPACITY, *more) for more in ((), ("parallel.activation_checkpointing=true",)))
    first, second = a.step(0), b.step(0)
    assert first.dropped_L.tolist() == second.dropped_L.tolist() and torch.equal(first.norms, second.norms)
    assert (first.norms > 0).all()


def test_scoring_drops_nothing():
    session = micro.session(*CAPACITY)
    inputs, targets = session.batches.batch(0, 0, 1)
    plain, limited = session.model(Where(inputs), targets), session.model(Where(inputs, capacity=1), targets)
    assert plain.dropped_LE.numel() == 0 and limited.dropped_LE.sum(1).tolist() == [512 - 8, 512 - 8]
    with torch.no_grad():
        for block in session.model.blocks:
            block.feedforward.down.fill_(0.1)
        session.model.head.weight.fill_(0.1)[:, 0] = 0.3
    changed = session.model(Where(inputs, capacity=1), targets).nats_BS
    assert not torch.equal(changed, session.model(Where(inputs), targets).nats_BS)


@pytest.mark.slow
def test_a_run_reports_the_dropped_share_of_every_window(tmp_path, no_figures):
    run_folder = micro.run(tmp_path, *CAPACITY, "run.log_every_steps=8", "balance.aux_loss_coef=0.01")
    windows, health = micro.rows(run_folder, "window"), micro.record(run_folder).router_health
    assert all(0 < share < 1 for row in windows for share in row["dropped"]) and len(windows[0]["dropped"]) == 2
    assert [layer.dropped for layer in health.layers] == windows[-1]["dropped"]
    run = load_run(run_folder)
    assert integrity.check(run) == []
    edit_record(run_folder, router_health__layers__0__dropped=0.5)
    assert any("router_health: dropped" in problem for problem in integrity.check(load_run(run_folder)))
    steps = micro.rows(run_folder, "step")
    assert all(row["auxiliary"].keys() == {"aux_loss"} and row["auxiliary"]["aux_loss"] >= 0.99 for row in steps)


@pytest.mark.slow
def test_a_run_stopped_within_a_window_reports_what_an_untouched_one_does(tmp_path, no_figures):
    words = (*CAPACITY, "balance.sequence_loss_coef=0.01", "budget.tokens=2048", "run.log_every_steps=4")
    whole = micro.run(tmp_path / "whole", *words)
    assert micro.speedrun(tmp_path / "cut", *words, "run.stop_after_step=6") == 0
    resumed = micro.run(tmp_path / "cut", *words)
    for kind, keys in (("window", ("dropped", "chain", "counts")), ("step", ("loss", "auxiliary"))):
        rows = [[{key: row[key] for key in keys} for row in micro.rows(folder, kind)] for folder in (whole, resumed)]
        assert rows[0] == rows[1]
    assert micro.bits(resumed) == micro.bits(whole)
