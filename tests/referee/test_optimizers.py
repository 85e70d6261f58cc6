"""Optimizers against other people's: torch's Muon, optimuon's with its dials, lion-pytorch, schedulefree's reference class,
pytorch-optimizer's SOAP.

Of one matrix each: theirs flatten a stack of experts, or refuse it. torch stores weights output first, so that ours are
transposed for its Muon, which always iterates in bf16, and for optimuon's.

Of QK-clip no small package was found: tests/test_optim_qk_clip.py holds it to its formula.
"""

import pytest
import torch
from lion_pytorch import Lion as TheirLion
from optimuon import Muon as Optimuon
from optimuon._newton_schulz import (
    NS_COEFFICIENTS_POLAR_EXPRESS,
    NS_NORM_SCALE_POLAR_EXPRESS,
    gram_newton_schulz,
    newton_schulz,
)
from pytorch_optimizer import SOAP as TheirSoap
from schedulefree import AdamWScheduleFreeReference
from torch import nn

from harness.optim.optimizers.lion import Lion
from harness.optim.optimizers.muon import Muon
from harness.optim.optimizers.schedule_free import ScheduleFree
from harness.optim.optimizers.soap import Soap
from harness.optim.polar import POLAR_EXPRESS, SAFETY, gram, orthogonalize, polynomials
from harness.plan.parts.optim import lion, muon, schedule_free, soap

STEPS = 25


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def both(ours, theirs, shape=(12, 20), transposed=False, scored=False):
    """(ours, theirs) after STEPS steps of the same gradients; `ours` and `theirs` make an optimizer of a parameter."""
    start = drawn(0, *shape)
    p, q = nn.Parameter(start.clone()), nn.Parameter((start.T if transposed else start).clone())
    optimizer, other = ours(p), theirs(q)
    for step in range(STEPS):
        gradient = drawn(step + 1, *shape)
        p.grad, q.grad = gradient.clone(), (gradient.T if transposed else gradient).clone()
        optimizer.step(1.0)
        other.step()
    if scored:
        optimizer.for_scoring()
        other.eval()
    return p.detach(), (q.detach().T if transposed else q.detach()), start


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (16, 16)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_muon_is_torchs_up_to_bf16(shape, decay):
    keys = muon.Keys(lr=0.02, momentum=0.95, weight_decay=decay)
    found, expected, start = both(
        lambda p: Muon({"w": p}, {"w": 1.0}, keys, torch.bfloat16),
        lambda q: torch.optim.Muon([q], lr=0.02, momentum=0.95, weight_decay=decay, nesterov=True, adjust_lr_fn="original"),
        shape,
        transposed=True,
    )
    assert float((found - expected).norm() / (expected - start).norm()) < 2e-2


EXPRESS = {"ns_coefficients": NS_COEFFICIENTS_POLAR_EXPRESS, "ns_norm_scale": NS_NORM_SCALE_POLAR_EXPRESS}


def test_polar_express_is_optimuons_table_and_says_the_same():
    assert [tuple(step) for step in NS_COEFFICIENTS_POLAR_EXPRESS] == POLAR_EXPRESS and NS_NORM_SCALE_POLAR_EXPRESS == SAFETY
    for shape in ((12, 20), (20, 12), (16, 16)):
        g = drawn(0, *shape)
        found = orthogonalize(g.unsqueeze(0), polynomials("polar-express", 5))[0]
        torch.testing.assert_close(found, newton_schulz(g, 5, ns_dtype=None, **EXPRESS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths, restart", [([5], None), ([2, 3], 2)])
def test_the_gram_form_is_optimuons_in_fp64(lengths, restart):
    """With one restart, as half precision has there; here as many as bf16 needs."""
    g = drawn(0, 12, 40).double()
    found = gram((g / g.norm()).unsqueeze(0), polynomials("polar-express", 5), lengths)[0]
    theirs = gram_newton_schulz(g, 5, eps=1e-14, ns_dtype=None, restart_after=restart, **EXPRESS)
    torch.testing.assert_close(found, theirs, rtol=1e-9, atol=1e-10)


# Its NorMuon evens out along the longer side: outputs of a matrix that has more of them than inputs, or inputs.
@pytest.mark.parametrize("shape, neurons", [((12, 20), "outputs"), ((20, 12), "inputs")])
@pytest.mark.parametrize("iteration", ["quintic", "polar-express"])
@pytest.mark.parametrize("cautious", [False, True])
def test_muon_evened_out_over_neurons_with_cautious_decay_is_optimuons(shape, neurons, iteration, cautious):
    keys = muon.Keys(
        lr=0.02, momentum=0.9, weight_decay=0.5, iteration=iteration, neurons=neurons, beta2=0.9, cautious=cautious
    )
    dials = EXPRESS if iteration == "polar-express" else {"ns_coefficients": (3.4445, -4.775, 2.0315), "ns_norm_scale": 1.0}
    found, expected, start = both(
        lambda p: Muon({"w": p}, {"w": 1.0}, keys),
        lambda q: Optimuon(
            [q], lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.5, ns_steps=5, ns_dtype=None, adjust_lr="original",
            momentum_type="ema", normuon=True, normuon_beta2=0.9, cautious_wd=cautious, **dials,
        ),
        shape,
        transposed=True,
    )  # fmt: skip
    assert float((found - expected).norm() / (expected - start).norm()) < 1e-4


def test_lion_is_lion_pytorchs():
    keys = lion.Keys(lr=0.01, beta1=0.9, beta2=0.99, weight_decay=0.1)
    found, expected, _ = both(
        lambda p: Lion({"w": p}, {"w": 1.0}, keys), lambda q: TheirLion([q], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scored", [False, True])
def test_schedule_free_is_the_reference_class(scored):
    keys = schedule_free.Keys(lr=0.01, beta1=0.9, beta2=0.95, weight_decay=0.05)

    def theirs(q):
        made = AdamWScheduleFreeReference([q], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.05, warmup_steps=0)
        made.train()
        return made

    found, expected, _ = both(lambda p: ScheduleFree({"w": p}, {"w": 1.0}, keys), theirs, scored=scored)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_soap_is_pytorch_optimizers_of_a_matrix():
    keys = soap.Keys(lr=0.003, beta1=0.95, beta2=0.95, every=5)
    found, expected, start = both(
        lambda p: Soap({"w": p}, {"w": 1.0}, keys),
        lambda q: TheirSoap([q], lr=0.003, betas=(0.95, 0.95), weight_decay=0.0, precondition_frequency=5),
    )
    assert float((found - expected).norm() / (expected - start).norm()) < 1e-3
