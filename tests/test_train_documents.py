"""Training within documents: who sees whom, however a step is cut, and nothing changed where it is off."""

import micro
import pytest
import torch
from micro import no_figures_fixture  # noqa: F401
from small_tokens import documents, everywhere, own_cache_fixture, small_track  # noqa: F401

from harness.data import corpora
from harness.data.shards import write_shards
from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.ranks import Ranks
from harness.train import machine
from harness.train.session import Session

pytestmark = pytest.mark.slow

COMMON = (
    "unranked=true model.width=16 model.layers=2 model.heads=1 model.ffn_width=16 model.sequence_length=16 kernels.compile=off "
    "batch.tokens_per_step=128 budget.tokens=512 validation.steps=[2] run.mlflow=off run.log_every_steps=1 "
    "precision.format=fp32 model.num_experts=4 model.expert_width=8 model.top_k=2 model.shared_experts=1"
).split()
MASK = "data.document_mask=true"


@pytest.fixture(name="lanes")
def lanes_fixture(own_cache, monkeypatch):
    """Words of a lane of documents and of one of a stream, over the same texts, some of them shorter than a sequence."""
    track = small_track(own_cache / "mirror", [documents(1, 90, 9)], documents(3, 30, 9))
    everywhere(monkeypatch, track)
    found = corpora.load(corpora.Wanted(track))
    for split, part in (("train", found.train_documents), ("val", found.val_documents)):
        write_shards(own_cache / "bin", f"wiki_{split}", part.pieces(found.tokenizer.end_of_text))
    return {"documents": ["lane=wiki-s-moe-64e"], "stream": ["lane=moe-64e", f"data.shards={own_cache / 'bin'}"]}


def session(*words, ranks=micro.ALONE):
    plan = compose([*words, *COMMON, "init.zero_output=false"]).plan
    built = Session(plan, machine.detect(plan), ranks, corpora.load_for(plan))
    with torch.no_grad():  # a head that is not zero, so that losses say what was seen
        built.model.head.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    return built


def nats_of_first_step(built):
    """(B, S), whatever the micro-batches."""
    seen, forward = [], built.model.forward

    def watched(*tensors, **words):
        seen.append(output := forward(*tensors, **words))
        return output

    built.model.forward = watched
    built.step(0)
    return torch.cat([output.nats_BS.detach() for output in seen])


def with_other_first_documents(built):
    """Changes the tokens of every row before its first end-of-text, and nothing else. Which they are, (B, S)."""
    (inputs, targets), end = built.batches.batch(0), built.corpus.tokenizer.end_of_text
    first_BS = (inputs == end).cumsum(1) == 0
    changed = torch.where(first_BS, inputs ^ 1, inputs)
    built.batches.batch = lambda *_: (changed, targets)
    return first_BS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["documents", "stream"])
@pytest.mark.parametrize("mask", ["true", "false"])
def test_a_tokens_loss_depends_on_another_document_of_its_row_only_without_the_mask(lanes, kind, mask):
    words = [*lanes[kind], f"data.document_mask={mask}"]
    before, other = nats_of_first_step(session(*words)), session(*words)
    first_BS = with_other_first_documents(other)
    same_BS = nats_of_first_step(other) == before
    mixed_B = first_BS.any(1) & ~first_BS.all(1)
    assert mixed_B.sum() >= 3 and not same_BS[first_BS].any()
    assert same_BS[~first_BS].all() if mask == "true" else not same_BS[mixed_B][~first_BS[mixed_B]].all(0).any()


def test_losses_have_the_same_bits_however_a_masked_step_is_cut(lanes):
    """Into micro-batches, with activations computed again, or among ranks, each of which masks its own rows."""
    whole = nats_of_first_step(session(*lanes["documents"], MASK))
    for words in (["parallel.micro_batch_tokens=32"], ["parallel.activation_checkpointing=true"]):
        assert torch.equal(nats_of_first_step(session(*lanes["documents"], MASK, *words)), whole)
    shares = []
    for rank in range(2):
        built = session(*lanes["documents"], MASK)
        built.ranks = built.sums.ranks = Share(rank, 2)
        built.micro_sequences = {128: 2}
        shares.append(nats_of_first_step(built))
    assert torch.equal(torch.cat(shares), whole)


class Share(Ranks):
    """One of two ranks whose sums are not waited for."""

    def sum_(self, tensors):
        pass


@pytest.mark.slow
def test_a_masked_run_ends_with_the_same_bits_however_it_is_resumed_and_others_than_without(lanes, tmp_path, no_figures):
    lane = [*lanes["documents"], *COMMON]
    whole = micro.bits(micro.run(tmp_path / "a", MASK, lane=lane))
    assert micro.speedrun(tmp_path / "b", MASK, "run.stop_after_step=3", lane=lane) == 0
    assert micro.bits(micro.run(tmp_path / "b", MASK, lane=lane)) == whole
    assert micro.bits(micro.run(tmp_path / "c", lane=lane)) != whole


def test_without_the_key_no_mask_reaches_the_model_and_the_plan_has_its_old_hash(lanes):
    built, asked = session(*lanes["documents"]), []
    built.model.trunk = lambda where, trunk=built.model.trunk: asked.append(where[1:4]) or trunk(where)
    built.step(0)
    assert asked == [(None, None, None)]
    plans = [compose([*lanes["documents"], *COMMON, *words]).plan for words in ([], ["data.document_mask=false"], [MASK])]
    hashes = [plan_hash(plan) for plan in plans]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_mask_is_free_to_choose_where_documents_are_known_and_refused_for_bytes():
    assert compose(["lane=wiki-moe-64e", MASK]).broken == {}
    with pytest.raises(UserError, match="track tiny, whose bytes do not say where a document ends"):
        compose(["lane=tiny-dense", MASK])
