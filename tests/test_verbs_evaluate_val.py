"""`evaluate --val`: the track's own val in the windows of training's scoring, never beside figures of another protocol."""

import json
import math
from types import SimpleNamespace

import micro
import numpy as np
import pytest
import torch
from micro import finished_fixture, no_figures_fixture  # noqa: F401
from small_tokens import END, documents, everywhere, own_cache_fixture, small_tokenizer, small_track  # noqa: F401
from test_model_transformer import build
from test_train_tokens import COMMON, MOE

import harness.verbs.evaluate as evaluate
from harness.__main__ import main
from harness.data import corpora
from harness.data.corpora import Val
from harness.data.shards import write_shards
from harness.evaluate import bpb, val
from harness.evaluate.own_model import OwnModel
from harness.launch.run_model import load_run_model
from harness.plan.compose import Composed
from harness.plan.lanes import read_track
from harness.plan.schema import Data

FP32 = "precision.format=fp32"


def scores(path):
    return json.loads(path.read_text())["scores"]


@pytest.fixture(name="small")
def small_fixture(own_cache, monkeypatch):
    """Every track of documents, for training and for `evaluate`, is a small one; short runs count as whole."""
    track = small_track(own_cache / "mirror", [documents(1, 10), documents(2, 10)], documents(3, 6))
    everywhere(monkeypatch, track)
    monkeypatch.setattr("harness.data.tokenizer.gpt2", small_tokenizer)
    return SimpleNamespace(home=own_cache, track=track)


class Uniform:
    context, vocab_size = 8, END + 1

    def __init__(self):
        self.asked = []

    def score(self, input_BS, target_BS, position_BS=None, visible_BSS=None):
        self.asked += zip(input_BS.tolist(), target_BS.tolist())
        return torch.full(input_BS.shape, math.log(self.vocab_size)), torch.zeros(input_BS.shape, dtype=torch.bool)


@pytest.fixture(name="hub")
def hub_fixture(small, monkeypatch):
    """The model that `evaluate hf:...` scores."""
    model = Uniform()
    facts = {"parameters": 10, "device": "cpu", "dtype": "float32"}
    monkeypatch.setattr(evaluate, "_hub_subject", lambda word: evaluate.Subject(word, model, small_tokenizer(), facts))
    return model


@pytest.mark.slow
def test_a_runs_val_is_scored_as_its_record_says(small, tmp_path, monkeypatch, no_figures, capsys):
    monkeypatch.setattr(Composed, "scoring_cap", None)
    monkeypatch.setattr("harness.evaluate.public.fetch_all", lambda plan, names: None)
    monkeypatch.setattr(Composed, "final", [])
    run = micro.run(tmp_path / "runs", *COMMON, FP32, "lane.gpu=false", lane=MOE)
    metrics, out = micro.record(run).metrics, tmp_path / "out.json"
    capsys.readouterr()
    assert main(["evaluate", str(run), "--val", "--out", str(out)]) == 0
    found, said = scores(out), capsys.readouterr().out
    assert found.keys() == {"val"} and found["val"]["protocol"] == "wiki-val"
    assert found["val"]["val_bpb"] == pytest.approx(metrics.val_bpb, rel=1e-6)
    assert found["val"]["val_loss"] == pytest.approx(metrics.val_loss, rel=1e-6)
    assert found["val"]["sha256"] == small.track.val_sha256 and found["val"]["recorded_val_bpb"] == metrics.val_bpb
    assert f"its record says {metrics.val_bpb:.4f} bpb (fp32)" in said and "gpt2-124m" not in said


def test_a_run_of_bytes_has_val_alone_and_is_told_what_is_left_out(finished, monkeypatch, tmp_path, capsys):
    whole, before, out = corpora.load_val(corpora.Wanted(read_track("tiny"))), micro.snapshot(finished()), tmp_path / "out.json"
    short = Val(whole.tokens[:3000], None, whole.sha256)
    monkeypatch.setattr(corpora, "load_val", lambda *_: short)
    assert main(["evaluate", str(finished()), "--out", str(out)]) == 0
    said, (name,) = capsys.readouterr().out, scores(out)
    assert "left out: wikitext, for" in said and "left out: core, for" in said and "vocabulary of 256 (track tiny)" in said
    found = scores(out)["val"]
    expected = bpb.score(load_run_model(finished()), short.tokens, 4096)
    assert name == "val" and found["val_bpb"] == expected.bpb() and found["val_loss"] == expected.loss()
    assert found["targets"] == found["bytes"] == 2999 and "recorded_val_bpb" not in found  # its record scored a part
    assert found["protocol"] == "sotu-val" and "witten-bell-7gram-all" in said and "gpt2" not in said
    assert json.loads(out.read_text())["model"]["tokenizer"] == "bytes"
    assert micro.snapshot(finished()) == before


def test_a_hub_model_reads_the_windows_of_training_with_its_own_context(hub, small, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main(["evaluate", "hf:x/y", "--val", "wiki", "--out", str(out)]) == 0
    stream = corpora.load(corpora.Wanted(small.track)).val.tolist()
    starts = range(0, len(stream) - 1, 8)
    assert hub.asked == [(stream[i : min(i + 8, len(stream) - 1)], stream[i + 1 : i + 9]) for i in starts]
    found, tokens = scores(out)["val"], sum(token != END for token in stream[1:])
    assert found["val_bpb"] == pytest.approx(math.log2(END + 1) * tokens / small.track.val_bytes, rel=1e-6)
    assert found["val_loss"] == pytest.approx(math.log(END + 1), rel=1e-6)
    assert (found["targets"], found["bytes"], found["context"]) == (len(stream) - 1, small.track.val_bytes, 8)
    assert found["protocol"] == "wiki-val" and "0.9769" not in capsys.readouterr().out


def test_without_a_named_track_a_hub_model_has_the_public_sets_alone(hub, monkeypatch, capsys):
    monkeypatch.setattr(
        evaluate, "SCORES", {name: lambda *_: evaluate.Scored("p", {"x": 1.0}, "", {}) for name in evaluate.SCORES}
    )
    monkeypatch.setattr(evaluate, "_tasks", lambda scored: [])
    assert main(["evaluate", "hf:x/y"]) == 0
    said = capsys.readouterr().out
    assert "left out: val, for hf:x/y has no track whose val could be scored" in said and said.count("this model") == 2
    assert main(["evaluate", "hf:x/y", "--val"]) == 2
    assert "--val wiki" in capsys.readouterr().err


@pytest.mark.parametrize("track, says", [("tiny", "of bytes, hf:x/y reads tokens of gpt2"), ("wikki", "did you mean wiki?")])
def test_a_track_that_the_model_cannot_read_is_refused(hub, track, says, capsys):
    assert main(["evaluate", "hf:x/y", "--val", track]) == 2
    assert says in capsys.readouterr().err and hub.asked == []


def test_the_interface_and_trainings_own_scoring_agree():
    own = OwnModel(build("moe"))
    hidden = SimpleNamespace(context=own.context, vocab_size=own.vocab_size, score=own.score)
    tokens = np.random.default_rng(0).integers(0, 31, 200).astype(np.uint16)
    sizes = np.arange(31)
    ours, theirs = (val.score_val(model, Val(tokens, sizes, "")) for model in (own, hidden))
    np.testing.assert_allclose(theirs.nats_N, ours.nats_N, rtol=1e-5, atol=1e-6)
    assert ours.bytes_N.tolist() == theirs.bytes_N.tolist() == sizes[tokens[1:]].tolist()
    assert theirs.bpb() == pytest.approx(ours.bpb(), rel=1e-6) and theirs.loss() == pytest.approx(ours.loss(), rel=1e-6)


def test_weights_that_give_no_number_are_an_error(hub, capsys):
    hub.score = lambda input_BS, *_: (torch.full(input_BS.shape, torch.nan), None)
    assert main(["evaluate", "hf:x/y", "--val", "wiki"]) == 2
    assert "gives val nan nats" in capsys.readouterr().err


def test_val_alone_is_the_val_of_the_whole_and_asks_for_no_file_of_train(small):
    found = corpora.load(corpora.Wanted(small.track))
    for split, part in (("train", found.train_documents), ("val", found.val_documents)):
        write_shards(small.home / "bin", f"wiki_{split}", part.pieces(END))
    stream, data = read_track("fineweb"), Data(shards=str(small.home / "bin"))
    wanted = (corpora.Wanted(small.track), corpora.Wanted(stream, data))
    wholes = [(found, corpora.load_val), (corpora.load(wanted[1]), corpora.load_val)]
    for path in small.home.glob("mirror/text/train*"):
        path.unlink()
    for (whole, load_val), one in zip(wholes, wanted):
        alone = load_val(one)
        assert alone.tokens.tolist() == whole.val.tolist() and alone.sha256 == whole.hashes["val"]
        assert alone.token_bytes.tolist() == whole.token_bytes.tolist()


def test_only_val_of_the_tracks_own_files_has_its_protocol(small):
    tracks = {name: read_track(name) for name in ("tiny", "sotu", "wiki", "wikitext", "fineweb")}
    one = Val(np.zeros(2, np.uint16), None, "0123456789abcdef")
    found = {name: val.protocol(track, Data(), one) for name, track in tracks.items()}
    assert found == {"tiny": "sotu-val", "sotu": "sotu-val", "wiki": "wiki-val", "wikitext": "wikitext-val",
                     "fineweb": "fineweb-gpt2-val10M"}  # fmt: skip
    assert val.protocol(tracks["fineweb"], Data(shards="bin"), one) == "shards-0123456789ab"
