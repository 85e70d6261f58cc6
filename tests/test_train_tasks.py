"""A track of tasks through everything that a run has: what its loss is of, its record, and whoever reads it afterwards."""

import math

import micro
import pytest
import torch
from micro import no_figures_fixture  # noqa: F401
from torch.nn.functional import cross_entropy

import harness.report
from harness.data import corpora
from harness.evaluate.bpb import score
from harness.evaluate.uniform import uniform_scores
from harness.model import transformer
from harness.model.where import Where
from harness.plan.compose import compose
from harness.ranks import Ranks
from harness.report import integrity
from harness.report.run.bpb import draw_bpb
from harness.report.run.table import end_table
from harness.report.run_data import load_run
from harness.report.style import styled
from harness.targets import IGNORED

FP32 = "precision.format=fp32"


def lively(*words, ranks=micro.ALONE, lane=micro.TASKS):
    """A session whose head is not zero, so that losses say what was seen."""
    built = micro.session(FP32, "init.zero_output=false", *words, lane=lane, ranks=ranks)
    with torch.no_grad():
        built.model.head.weight.normal_(0, 0.25, generator=torch.Generator().manual_seed(1))
    return built


class Share(Ranks):
    """One of two ranks whose sums are not waited for."""

    def sum_(self, tensors):
        pass


def gradients(session):
    """(loss, auxiliary losses, gradients) of the first step, before any update."""
    loss, _, _, _, auxiliary = session._gradients(
        0, *session.batches.batch(0, session.ranks.rank, session.ranks.world), measured=False
    )
    return loss, auxiliary, {name: p.grad.clone() for name, p in session.model.named_parameters()}


@pytest.mark.parametrize("lane", [micro.TASKS, micro.TASKS_MOE], ids=["dense", "moe"])
def test_the_loss_of_a_step_is_the_mean_over_its_answers_and_a_model_that_knows_nothing_has_ln_256(lane):
    built = lively(lane=lane)
    inputs_BS, targets_BS = built.batches.batch(0)
    with torch.no_grad():
        logits = built.model.logits(inputs_BS)
    expected = cross_entropy(logits[targets_BS != IGNORED], targets_BS[targets_BS != IGNORED])
    assert float(gradients(built)[0]) == pytest.approx(float(expected), rel=1e-5)
    ignorant = micro.session(lane=lane)
    assert float(ignorant.step(0).loss) == pytest.approx(math.log(256), rel=1e-6)


def test_loss_and_gradients_are_those_of_the_whole_step_however_it_is_cut():
    """Into micro-batches, which have different numbers of answers, and among ranks."""
    loss, _, whole = gradients(lively())
    cut = gradients(lively("parallel.micro_batch_tokens=64"))
    ranks = [gradients(_shared(rank)) for rank in (0, 1)]
    for found_loss, found in (
        (cut[0], cut[2]),
        (sum(one[0] for one in ranks), {name: sum(one[2][name] for one in ranks) for name in whole}),
    ):
        assert float(found_loss) == pytest.approx(float(loss), rel=1e-5)
        for name, gradient in whole.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)
    answers = [one[1].ne(IGNORED).sum() for one in zip(*(t.split(2) for t in lively().batches.batch(0)))]
    assert len(set(map(int, answers))) > 1


def _shared(rank):
    built = lively()
    built.ranks = built.sums.ranks = Share(rank, 2)
    built.micro_sequences = {256: 4}
    return built


def test_targets_further_ahead_are_answers_too_and_weigh_as_much_as_the_next_one():
    built = lively("ahead.weights=[0.5]")
    inputs_BS, targets_BS = built.batches.batch(0)
    with torch.no_grad():
        logits = built.model.logits(inputs_BS)
    ahead = targets_BS[:, 1:] != IGNORED
    nats = cross_entropy(logits[:, :-1][ahead], targets_BS[:, 1:][ahead], reduction="sum")
    _, auxiliary, _ = gradients(built)
    assert float(auxiliary["ahead_2"]) == pytest.approx(float(nats) / built.batches.scored(0), rel=1e-5)


def test_what_is_ignored_has_no_nats_in_chunks_of_the_head_either(monkeypatch):
    built = lively()
    inputs_BS, targets_BS = built.batches.batch(0)
    whole_BS = built.model(Where(inputs_BS), targets_BS).nats_BS
    monkeypatch.setitem(transformer.LOGITS_AT_ONCE, "cpu", 256 * 50)
    assert torch.equal(built.model(Where(inputs_BS), targets_BS).nats_BS, whole_BS)
    assert (whole_BS[targets_BS == IGNORED] == 0).all() and (whole_BS[targets_BS != IGNORED] > 0).all()


@pytest.mark.parametrize("mask", ["true", "false"])
def test_an_answer_depends_on_another_instance_of_its_row_only_without_the_mask(mask):
    before, other = lively(f"data.document_mask={mask}"), lively(f"data.document_mask={mask}")
    (inputs_BS, targets_BS), documents_BS = other.batches.batch(0), other.batches.documents(0)
    first_BS = documents_BS == documents_BS[:, :1]
    changed_BS = torch.where(first_BS, inputs_BS ^ 1, inputs_BS)
    other.batches.batch = lambda *_: (changed_BS, targets_BS)
    ours_BS, theirs_BS = (_nats(one) for one in (before, other))
    later_BS = ~first_BS & (targets_BS != IGNORED)
    assert later_BS.sum() > 8
    same = (ours_BS == theirs_BS)[later_BS]
    assert same.all() if mask == "true" else not same.any()


def _nats(built):
    """nats_BS of the first step."""
    seen, forward = [], built.model.forward
    built.model.forward = lambda *tensors, **words: seen.append(found := forward(*tensors, **words)) or found
    built.step(0)
    return torch.cat([output.nats_BS.detach() for output in seen])


def test_val_is_scored_on_its_answers_alone_each_as_one_byte():
    built = lively()
    corpus, length = built.corpus, 40 * 32 + 1
    found = score(built.model, corpus.val[:length], 256, answer_N=corpus.answer_N)
    nats = count = 0
    with torch.no_grad():
        for start in range(0, length - 1, 32):
            tokens = torch.from_numpy(corpus.val[start : start + 33].astype("int64"))
            each = cross_entropy(built.model.logits(tokens[None, :-1])[0], tokens[1:], reduction="none")
            answers = torch.from_numpy(corpus.answer_N[start + 1 : start + 33].copy())
            nats, count = nats + float(each[answers].double().sum()), count + int(answers.sum())
    assert found.sums() == (pytest.approx(nats, rel=1e-5), count) and found.targets == count
    assert found.bpb() == pytest.approx(nats / count / math.log(2), rel=1e-5)
    assert found.loss() == pytest.approx(nats / count, rel=1e-5)
    assert found.loss(33) == pytest.approx(found.bpb(33) * math.log(2))


def test_the_scorers_own_check_holds_for_answers():
    built = micro.session(lane=micro.TASKS)
    corpus = built.corpus
    found = uniform_scores(built.model, corpus.val, 256, corpus.token_bytes, corpus.answer_N)
    assert [found[part] for part in ("all", "slice", "masked")] == pytest.approx([8.0] * 3, abs=1e-5)
    assert found["expected"] == 8 and found["targets"] == found["expected_targets"]


@pytest.fixture(name="done", scope="module")
def done_fixture(tmp_path_factory):
    """done("dense") and done("moe"): finished runs. Read only."""
    base = micro.shared(tmp_path_factory)
    lanes = {"dense": micro.TASKS, "moe": micro.TASKS_MOE}
    return lambda kind="dense": micro.made_once(base / f"tasks-{kind}", lambda home: micro.run(home, lane=lanes[kind]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_a_run_of_tasks_ends_with_a_whole_record_whose_figures_are_of_answers(done, kind):
    run = load_run(done(kind))
    record, metrics = run.record, run.record.metrics
    found = corpora.load_for(compose(micro.TASKS).plan)
    assert integrity.check(run) == []
    assert record.data.val_sha256 == found.hashes["val"] and record.data.train_sha256 == found.hashes["train"]
    assert record.data.tokenizer == "tasks" and record.data.train_bytes is None
    answers = int(found.answer_N[:8192].sum())
    assert metrics.scored_bytes == run.final["targets"] == run.final["target_bytes"] == answers
    assert metrics.val_loss == pytest.approx(metrics.val_bpb * math.log(2))
    assert metrics.curve[-1]["epoch"] == 0 and metrics.target is None
    first = run.steps[0]["loss"]
    assert first == pytest.approx(math.log(256), rel=1e-3) and run.steps[-1]["loss"] < first - 1
    table = end_table(run, None)
    assert "nats per answer of val" in table and "bits per byte" not in table and "passes over train" not in table
    assert run.measure == "bits per answer" and not run.counts_bytes


@pytest.mark.slow
def test_a_run_of_tasks_is_drawn_and_read_into_frames_like_any_other(done, tmp_path):
    run = load_run(done("moe"))
    with styled():
        assert draw_bpb(run, load_run(done("dense")), tmp_path / "bpb.png").exists()
    assert set(harness.report.load(done("moe").parents[1]).records["track"]) == {"physics"}


@pytest.mark.slow
def test_a_run_of_tasks_that_is_left_goes_on_with_the_same_bits(done, tmp_path, no_figures):
    assert micro.speedrun(tmp_path, "run.stop_after_step=12", lane=micro.TASKS_MOE) == 0
    assert micro.bits(micro.run(tmp_path, lane=micro.TASKS_MOE)) == micro.bits(done("moe"))
