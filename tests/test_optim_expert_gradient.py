"""The scale on expert gradients: what it multiplies, and that it leaves the forward and everything else alone."""

import micro
import pytest
import torch

from harness.optim.balance import bias_rate


def gradients(*words):
    """Loss, counts and gradients (kept from the optimizer) of the first step under `words`."""
    session, kept = micro.lively("precision.format=fp32", *words), {}
    names = session.optimizer.parameters.items()
    session.optimizer.step = lambda scale: kept.update({name: p.grad.clone() for name, p in names})
    result = session.step(0)
    return result, kept


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("parallel.micro_batch_tokens=64",), ("parallel.activation_checkpointing=true",)])
@pytest.mark.parametrize("rule", ["constant", "load"])
def test_each_experts_gradient_is_scaled_by_e_over_k_or_by_tokens_over_its_rows(rule, words):
    """8 experts, top-2, 256 tokens: constant 4; load 256 / rows, which is 4 for an expert with its even share of 64."""
    (plain, before), (scaled, after) = gradients(*words), gradients(*words, f"optim.expert_gradient_scale={rule}")
    assert float(scaled.loss) == float(plain.loss) and torch.equal(scaled.count_LE, plain.count_LE)
    for name, gradient in before.items():
        assert gradient.any()
        layer = int(name.split(".")[1]) if name.startswith("blocks") else 0
        factor = torch.ones(())
        if name.endswith(("feedforward.up", "feedforward.down")):
            factor = 256 / plain.count_LE[layer].clamp(min=1).float().view(-1, 1, 1) if rule == "load" else torch.tensor(4.0)
        torch.testing.assert_close(after[name], gradient * factor, rtol=1e-6, atol=0)


def test_rows_beyond_a_capacity_are_not_counted():
    words = ("balance=none", "balance.capacity_factor=0.5")
    (plain, before), (_, after) = gradients(*words), gradients(*words, "optim.expert_gradient_scale=load")
    rows_E = plain.count_LE[0].clamp(max=32).clamp(min=1)
    assert plain.dropped_L.min() > 0
    name = "blocks.0.feedforward.up"
    assert before[name].any()
    torch.testing.assert_close(after[name], before[name] * (256 / rows_E.float()).view(-1, 1, 1), rtol=1e-6, atol=0)


def test_clipping_sees_the_scaled_gradients():
    _, clipped = gradients("optim.expert_gradient_scale=constant", "optim.clip_norm=0.001")
    assert float(torch.stack([gradient.norm() for gradient in clipped.values()]).norm()) == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize(
    "words, rates",
    [
        (["balance.schedule=constant"], [0.02, 0.02, 0.02, 0.02]),
        (["balance.schedule=cosine"], [0.02, 0.01, 0.01 * (1 - 2**-0.5), 0.0]),  # cos of 0, 90, 135, 180 degrees
        (["balance.schedule=warmup", "schedule.warmup_share=0.625", "schedule.decay_share=0.2"], [0.0, 0.016, 0.02, 0.02]),
    ],
)
def test_the_rate_of_the_bias_follows_its_schedule(words, rates):
    plan = micro.compose([*micro.MOE, "balance.rate=0.02", *words]).plan
    assert [bias_rate(plan, progress) for progress in (0.0, 0.5, 0.75, 1.0)] == pytest.approx(rates)


def test_the_first_update_of_the_bias_has_the_rate_of_the_middle_of_the_step():
    session = micro.session("balance.schedule=warmup", "schedule.warmup_share=0.5")
    before = session.step(0)
    load_E = before.count_LE[0].double()
    sign_E = torch.sign(load_E.mean() - load_E)
    expected_E = (sign_E - sign_E.mean()) * 0.02 * (0.5 / 32) / 0.5
    torch.testing.assert_close(session.model.blocks[0].feedforward.router.bias.double(), expected_E, rtol=1e-5, atol=1e-9)


def test_the_bias_is_moved_by_the_rows_that_were_routed_whatever_a_capacity_drops():
    session = micro.lively("balance.capacity_factor=1.0")
    load_E = session.step(0).count_LE[0].double()
    signs = [torch.sign(rows_E.mean() - rows_E) for rows_E in (load_E, load_E.clamp(max=64))]
    assert not torch.equal(*signs)  # the rows that were computed would have moved another expert
    expected_E = (signs[0] - signs[0].mean()) * 0.02
    torch.testing.assert_close(session.model.blocks[0].feedforward.router.bias.double(), expected_E, rtol=1e-5, atol=1e-9)
