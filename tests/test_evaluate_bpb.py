"""Bits per byte, against arithmetic that is too slow to be wrong."""

import math

import micro
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import finished_fixture  # noqa: F401

from harness.data.overlap import clean_mask
from harness.evaluate.bpb import Score, score
from harness.launch.run_model import load_run_model


@pytest.fixture(scope="module")
def val():
    return micro.session(lane=micro.DENSE).corpus.val


@pytest.fixture(scope="module")
def model(finished):
    return load_run_model(finished("moe"))


@pytest.fixture(scope="module")
def dense(finished):
    return load_run_model(finished("dense"))


def bits_byte_by_byte(model, text):
    """Each byte from a forward pass of its own over the part of its window that stands before it."""
    length, bits = model.shape.sequence_length, []
    with torch.no_grad():
        for target in range(1, len(text)):
            start = (target - 1) // length * length
            window = torch.tensor(text[start:target].astype(np.int64))[None]
            logits = model.logits(window)[0, -1].double()
            bits.append(-float(torch.log_softmax(logits, 0)[int(text[target])]) / math.log(2))
    return bits


def test_a_uniform_model_scores_exactly_eight_bits(val):
    model = micro.session(lane=micro.DENSE).model
    with torch.no_grad():
        model.head.weight.zero_()
    assert score(model, val[:5000], 2048).bpb() == pytest.approx(8, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("length", [2, 32, 33, 34, 65, 100])
def test_scores_are_those_of_a_byte_by_byte_implementation(model, dense, val, length):
    for scored in (model, dense):
        expected = bits_byte_by_byte(scored, val[:length])
        found = score(scored, val[:length], 64)
        assert len(found.nats_N) == length - 1
        np.testing.assert_allclose(found.nats_N / math.log(2), expected, atol=1e-4)
        assert found.bpb() == pytest.approx(sum(expected) / (length - 1), abs=1e-5)


def test_a_byte_does_not_see_itself_nor_what_follows(model, val):
    text, other = val[:65].copy(), val[:65].copy()
    other[40:] = ord("#")
    a, b = score(model, text, 64).nats_N, score(model, other, 64).nats_N
    np.testing.assert_allclose(a[:39], b[:39], atol=1e-6)
    assert not np.allclose(a[39:], b[39:])


@pytest.mark.parametrize("batch_tokens", [32, 96, 1000, 1 << 20])
def test_scores_do_not_depend_on_the_batch(model, val, batch_tokens):
    text = val[:3333]
    assert score(model, text, batch_tokens).bpb() == pytest.approx(score(model, text, 2048).bpb(), abs=1e-5)
    assert score(model, text, batch_tokens).count_LE.tolist() == score(model, text, 2048).count_LE.tolist()


@pytest.mark.parametrize("length", [2, 33, 500, 1000])
def test_the_slice_is_the_prefix_of_all_of_val(model, val, length):
    whole = score(model, val[:2000], 1024)
    assert whole.bpb(length) == pytest.approx(score(model, val[:length], 1024).bpb(), abs=1e-5)
    assert whole.bpb(2000) == whole.bpb()


def test_every_scored_byte_is_routed_to_top_k_experts_once(model, val):
    assert score(model, val[:1000], 256).count_LE.sum(1).tolist() == [999 * 2] * 2


def test_the_mean_margin_does_not_depend_on_how_windows_are_batched(model, val):
    torch.testing.assert_close(
        score(model, val[:1000], 96).margin_L, score(model, val[:1000], 4096).margin_L, rtol=1e-4, atol=0
    )


def test_one_byte_is_nothing_to_score(model, val):
    with pytest.raises(AssertionError, match="nothing to score"):
        score(model, val[:1], 64)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_the_clean_mask_keeps_exactly_its_bytes(data):
    """mask_N has a value for the first byte of val, which is never scored; nats_N has none."""
    size = data.draw(st.integers(2, 30))
    nats = np.array(data.draw(st.lists(st.floats(0, 20), min_size=size - 1, max_size=size - 1)))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    kept = [nats[i - 1] / math.log(2) for i in range(1, size) if mask[i]]
    found = Score(nats, torch.zeros(0, 0), torch.zeros(0)).bpb_where(mask)
    assert found == (pytest.approx(sum(kept) / len(kept)) if kept else None)


def test_scores_weigh_bytes_and_not_windows():
    found = Score(np.array([1.0, 2.0, 6.0]) * math.log(2), torch.zeros(0, 0), torch.zeros(0))
    assert found.bpb() == pytest.approx(3) and found.bpb(3) == pytest.approx(1.5)
    assert found.bpb_where(np.array([True, False, True, True])) == pytest.approx(4)


@pytest.mark.slow
def test_the_clean_figure_of_a_record_is_the_score_without_what_train_has_too(finished, model):
    """The first part of val that a micro run is scored on, masked by the overlap with all of train."""
    data = micro.session(lane=micro.DENSE).corpus
    mask = clean_mask(data.train, data.val)[:8192]
    found = score(model, data.val[:8192], 2048)
    metrics = micro.record(finished("moe")).metrics
    assert not mask.all() and metrics.val_bpb_clean != metrics.val_bpb
    assert found.bpb_where(mask) == pytest.approx(metrics.val_bpb_clean, abs=0.01)
    assert found.bpb() == pytest.approx(metrics.val_bpb, abs=0.01)


def test_shuffling_the_routing_changes_a_moe_and_leaves_a_dense_model_alone(model, dense, val):
    text = val[:4096]
    learned, shuffled = score(model, text, 1024), score(model, text, 1024, shuffle_seed=0)
    assert shuffled.bpb() > learned.bpb() + 0.01
    assert shuffled.bpb() == score(model, text, 1024, shuffle_seed=0).bpb() != score(model, text, 1024, shuffle_seed=1).bpb()
    assert shuffled.count_LE[0].tolist() == learned.count_LE[0].tolist()  # the same routes, handed to other tokens
    assert score(dense, text, 1024, shuffle_seed=0).bpb() == score(dense, text, 1024).bpb()
