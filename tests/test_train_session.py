"""Which backends of the expert MLP and of attention a session takes."""

from dataclasses import replace

import micro
import pytest
import torch

from harness.data.corpora import load_for
from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.train import machine
from harness.train.backends import attention_backend, expert_backend
from harness.train.session import Session
from kernels import Precision
from kernels.cpu.brgemm import library

CHOICES = {"backend": expert_backend, "attention": attention_backend}


@pytest.fixture
def lacks(monkeypatch):
    """Says what the kernels in C++ lack here, "" when nothing: else it would be this machine's to say."""

    def says(why):
        monkeypatch.setattr(library, "missing", lambda: why)

    says("")
    return says


def chosen(wanted="auto", key="backend", **changes):
    plan = compose([*micro.MOE, f"kernels.{key}={wanted}"]).plan
    return CHOICES[key](plan, replace(machine.detect(plan), **changes))


@pytest.mark.parametrize(
    "device, arithmetic, compiled, missing, experts, attention",
    [
        ("cpu", "native", True, "", "brgemm", "brgemm"),
        ("cpu", "full", True, "", "brgemm", "brgemm"),
        ("cpu", "emulated", True, "", "brgemm", "brgemm"),
        ("cpu", "native", True, "no such thing", "inductor", "torch"),
        ("cpu", "full", True, "no such thing", "inductor", "torch"),
        ("cpu", "emulated", True, "no such thing", "torch", "torch"),
        ("cpu", "native", False, "", "torch", "torch"),
        ("cpu", "emulated", False, "", "torch", "torch"),
        ("cuda", "native", True, "", "triton", "torch"),
    ],
)
def test_auto_takes_what_the_machine_can_run(lacks, device, arithmetic, compiled, missing, experts, attention):
    lacks(missing)
    here = dict(device=device, arithmetic=arithmetic, compiled=compiled)
    assert (chosen(**here), chosen(key="attention", **here)) == (experts, attention)


@pytest.mark.parametrize("key", CHOICES)
@pytest.mark.parametrize(
    "changes, missing, says",
    [
        (dict(device="cpu", compiled=False), "", "nothing is compiled here"),
        (dict(device="cpu", compiled=True), "g++ does not run", "g++ does not run"),
        (dict(device="cpu", compiled=False), "g++ does not run", "g++ does not run"),
        (dict(device="cuda", compiled=True), "", "a GPU"),
    ],
)
def test_brgemm_where_it_cannot_run_is_refused_with_why(lacks, key, changes, missing, says):
    lacks(missing)
    with pytest.raises(UserError) as error:
        chosen("brgemm", key, **changes)
    assert f"kernels.{key}=brgemm" in str(error.value) and says in str(error.value)
    assert f"kernels.{key}=auto" in str(error.value)


@pytest.mark.parametrize("key", CHOICES)
def test_brgemm_is_taken_where_it_runs(lacks, key):
    assert chosen("brgemm", key, device="cpu", compiled=True) == "brgemm"


def test_nothing_is_built_where_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(library, "missing", None)
    here = dict(device="cpu", compiled=False)
    assert (chosen(**here), chosen(key="attention", **here)) == ("torch", "torch")


def test_a_planned_attention_is_taken(lacks):
    assert chosen("torch", "attention", device="cpu", compiled=True) == "torch"
    assert chosen("torch", "attention", device="cuda", compiled=True) == "torch"


@pytest.mark.parametrize("lane", ["tiny-dense", "tiny-moe-16e"])
def test_only_another_attention_than_auto_moves_the_hash_of_a_plan(lane):
    plain, *hashes = (
        plan_hash(compose([f"lane={lane}", *(f"kernels.attention={a}" for a in wanted)]).plan)
        for wanted in ((), ("auto",), ("torch",), ("brgemm",))
    )
    assert hashes[0] == plain and len({plain, *hashes}) == 3


@pytest.mark.parametrize("missing, layers", [("", "brgemm"), ("no such thing", "torch")])
def test_a_session_gives_every_layer_and_optimizer_the_chosen_backend(lacks, missing, layers):
    lacks(missing)
    plan = compose([*micro.MOE, "kernels.compile=off"]).plan
    here = replace(machine.detect(plan), device="cpu", compiled=True)
    session = Session(plan, here, micro.ALONE, load_for(plan))
    assert [block.attention.backend for block in session.model.blocks] == [layers] * len(session.model.blocks)
    assert {part.backend for part in session.optimizer.parts} == {layers}


@pytest.mark.parametrize("wanted", ["reference", "torch"])
def test_a_planned_backend_is_taken(wanted):
    assert chosen(wanted, device="cpu") == wanted


@pytest.mark.parametrize(
    "wanted, changes, says",
    [
        ("triton", dict(device="cpu"), "no CUDA device"),
        ("torch", dict(device="cuda"), "runs on a CPU"),
        ("inductor", dict(device="cuda"), "runs on a CPU"),
        ("brgemm", dict(device="cuda"), "runs on a CPU"),
        ("inductor", dict(device="cpu", compiled=False), "nothing is compiled"),
        ("inductor", dict(device="cpu", compiled=True, arithmetic="emulated"), "bf16 is emulated"),
    ],
)
def test_a_backend_that_cannot_run_here_is_refused_with_what_does(wanted, changes, says):
    with pytest.raises(UserError) as error:
        chosen(wanted, **changes)
    assert says in str(error.value) and "kernels.backend=auto" in str(error.value)


def test_operands_that_are_held_have_the_bits_of_casts_and_follow_the_weights():
    """As on a GPU, here with a backend that casts; in the middle somebody else writes a weight."""
    losses, words = [], ("kernels.backend=torch", "kernels.compile=off")
    for hold in (False, True):
        built = micro.session(*words)
        with torch.no_grad():
            for block in built.model.blocks:  # native on every CPU, for the test
                block.feedforward.precision = Precision.of("native")
        if hold:
            built.model.hold_operands()
            assert built.model.blocks[0].feedforward.operands[0].dtype == torch.bfloat16
        for index in range(4):
            losses.append(float(built.step(index).loss))
            if index == 1:
                with torch.no_grad():
                    built.model.blocks[0].feedforward.up.mul_(1.5)
    assert losses[:4] == losses[4:] and len(set(losses)) == 4


@pytest.mark.parametrize(
    "mask, attentions, device, chosen_here",
    [
        (True, [], "cuda", "flex"), (False, [], "cuda", "torch"), (True, ["full", "mla"], "cuda", "flex"),
        (True, ["full", "window"], "cuda", "torch"), (True, [], "cpu", "torch"),
    ],
)  # fmt: skip
def test_a_gpu_that_trains_within_documents_takes_blocks_of_them(lacks, mask, attentions, device, chosen_here):
    lacks("no such thing")
    plan = compose(micro.MOE).plan
    plan.data.document_mask, plan.model.attention_pattern = mask, attentions
    here = replace(machine.detect(plan), device=device, compiled=True)
    assert attention_backend(plan, here) == chosen_here


def test_flex_without_documents_or_without_a_gpu_is_refused():
    plan = compose([*micro.MOE, "kernels.attention=flex"]).plan
    for device, says in (("cpu", "no CUDA device"), ("cuda", "no documents")):
        with pytest.raises(UserError, match=says):
            attention_backend(plan, replace(machine.detect(plan), device=device))
