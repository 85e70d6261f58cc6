"""Bits per byte of tokens: exact bytes, end-of-text not scored."""

import math

import numpy as np
import pytest
import torch
from small_tokens import END, documents, own_cache_fixture, small_track  # noqa: F401

from harness.data.corpora import Wanted, load
from harness.evaluate.bpb import Score, score
from harness.evaluate.uniform import uniform_scores
from harness.model.build import build_model
from harness.plan.compose import compose

NOTHING = torch.zeros(0, 0), torch.zeros(0)
TINY = (
    "lane=wiki-s-dense unranked=true model.width=16 model.layers=1 model.heads=1 model.ffn_width=16 model.sequence_length=16 "
    "batch.tokens_per_step=64 budget.tokens=512 validation.steps=[2,4] parallel.micro_batch_tokens=32 kernels.compile=off "
    "run.mlflow=off run.log_every_steps=2"
).split()


@pytest.fixture(name="corpus")
def corpus_fixture(own_cache):
    return load(Wanted(small_track(own_cache / "mirror", [documents(1, 30)], documents(3, 6))))


def model():
    built = build_model(compose(TINY).plan, "full")
    with torch.no_grad():
        for i, parameter in enumerate(built.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.3)
    return built


def test_a_score_divides_the_nats_of_tokens_with_bytes_by_these_bytes():
    found = Score(np.array([1.0, 5.0, 2.0]) * math.log(2), *NOTHING, np.array([2, 0, 4]))
    assert found.bpb() == pytest.approx(3 / 6) and found.bpb(2) == pytest.approx(1 / 2)
    assert found.loss() == pytest.approx(8 / 3 * math.log(2)) and found.loss(3) == pytest.approx(3 * math.log(2))
    assert found.sums() == (pytest.approx(3 * math.log(2)), 6)
    assert found.bpb_where(np.array([True, True, True, False])) == pytest.approx(1 / 2)
    assert found.bpb_where(np.array([True, False, True, False])) is None


def test_a_byte_track_needs_no_table_of_bytes():
    nats = np.array([1.0, 2.0, 6.0])
    plain, counted = Score(nats, *NOTHING), Score(nats, *NOTHING, np.ones(3, np.int64))
    mask = np.array([True, False, True, True])
    assert (plain.bpb(), plain.bpb(3), plain.bpb_where(mask)) == (counted.bpb(), counted.bpb(3), counted.bpb_where(mask))


def test_scores_are_those_of_a_token_by_token_implementation(corpus):
    second = int(np.flatnonzero(corpus.val == END)[1])
    built, val = model(), corpus.val[second - 40 : second + 35]
    found = score(built, val, 32, token_bytes_V=corpus.token_bytes)
    bits = size = 0.0
    with torch.no_grad():
        for target in range(1, len(val)):
            start = (target - 1) // 16 * 16
            logits = built.logits(torch.tensor(val[start:target].astype(np.int64))[None])[0, -1].double()
            nats = -float(torch.log_softmax(logits, 0)[int(val[target])])
            assert found.nats_N[target - 1] == pytest.approx(nats, abs=1e-4)
            if val[target] != END:
                bits, size = bits + nats / math.log(2), size + int(corpus.token_bytes[val[target]])
    assert found.bpb() == pytest.approx(bits / size, abs=1e-5)
    assert found.sums()[1] == size and found.bytes_N.dtype == np.int64


def test_all_of_val_is_all_bytes_of_its_documents(corpus):
    found = score(model(), corpus.val, 64, token_bytes_V=corpus.token_bytes)
    assert found.sums()[1] == corpus.facts()["val_bytes"]


def test_a_uniform_model_scores_the_logarithm_of_the_vocabulary_for_every_token(corpus):
    built = model()
    with torch.no_grad():
        built.head.weight.zero_()
    found = score(built, corpus.val, 64, token_bytes_V=corpus.token_bytes)
    tokens, size = int((corpus.val[1:] != END).sum()), corpus.facts()["val_bytes"]
    assert found.bpb() == pytest.approx(math.log2(50304) * tokens / size, abs=1e-6)
    assert found.loss() == pytest.approx(math.log(50304), abs=1e-6)


def test_the_scorers_own_check_holds_for_tokens(corpus):
    found = uniform_scores(model(), corpus.val, 64, corpus.token_bytes)
    assert found["expected"] == pytest.approx(math.log2(50304)) and found["targets"] == found["expected_targets"]
    assert [found[part] for part in ("all", "slice", "masked")] == pytest.approx([found["expected"]] * 3, abs=1e-5)
