"""A model of the transformers library as a LanguageModel, against the library's own logits."""

import json
import shutil

import pytest
import torch
from conftest import CONTEXT, save_gpt2, save_tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM

from harness.__main__ import main
from harness.data.tokenizer import gpt2
from harness.errors import UserError
from harness.evaluate import hub_model
from harness.evaluate.hub_model import load_hub_model

VOCABULARY = 50257


@pytest.fixture(scope="module")
def model(folder):
    return load_hub_model(str(folder), gpt2())


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def tokens(*shape, seed=1):
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def test_context_and_vocabulary_are_the_models_own(model):
    assert (model.context, model.vocab_size, model.revision) == (CONTEXT, VOCABULARY, None)


def test_nats_and_hits_are_those_of_the_librarys_logits_whatever_the_chunk(model, folder, monkeypatch):
    input_BS, target_BS = tokens(3, 40), tokens(3, 40, seed=2)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(input_BS).logits
    target_BS[:, ::2] = logits.argmax(-1)[:, ::2]
    expected = cross_entropy(logits.flatten(0, 1).double(), target_BS.flatten(), reduction="none").view(3, 40)
    for rows in (7, 256):
        monkeypatch.setattr(hub_model, "LOGIT_ROWS", rows)
        nats_BS, hit_BS = model.score(input_BS, target_BS)
        assert nats_BS.dtype == torch.float32 and hit_BS[:, ::2].all() and not hit_BS[:, 1::2].any()
        torch.testing.assert_close(nats_BS.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_tie_is_a_hit_for_the_lowest_id_only(model, monkeypatch):
    monkeypatch.setattr(model, "head", torch.nn.Linear(model.head.in_features, VOCABULARY, bias=False))
    torch.nn.init.zeros_(model.head.weight)  # every token has the logit 0
    assert model.score(tokens(1, 3), torch.tensor([[0, 1, 30]]))[1].tolist() == [[True, False, False]]


def test_a_row_shared_by_two_continuations_scores_them_as_rows_of_their_own(model):
    prefix, a, b = tokens(10), tokens(4, seed=2), tokens(6, seed=3)
    packed = torch.cat([prefix, a, b])
    position = torch.tensor([*range(10), *range(10, 14), *range(10, 16)])
    visible = torch.ones(20, 20, dtype=torch.bool).tril()
    visible[14:, 10:14] = False
    target = tokens(20, seed=4)
    nats, _ = model.score(packed[None], target[None], position[None], visible[None])
    alone_a, _ = model.score(packed[None, :14], target[None, :14])
    rest = [*range(10), *range(14, 20)]
    alone_b, _ = model.score(packed[None, rest], target[None, rest])
    torch.testing.assert_close(nats[:, :14], alone_a, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(nats[:, rest], alone_b, rtol=1e-4, atol=1e-4)


def test_positions_alone_keep_the_row_causal_and_whole(model):
    """The library would take a position that starts over for a new sequence that cannot see the one before it."""
    input_BS, target_BS = tokens(2, 12), tokens(2, 12, seed=2)
    position = torch.arange(12).expand(2, -1)
    torch.testing.assert_close(model.score(input_BS, target_BS, position)[0], model.score(input_BS, target_BS)[0])
    over = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]])
    changed = input_BS[:1].clone()
    changed[0, 0] = (changed[0, 0] + 1) % VOCABULARY
    a, b = (model.score(row, target_BS[:1], over)[0] for row in (input_BS[:1], changed))
    assert not torch.equal(a[:, 6:], b[:, 6:])


def refused(path, said):
    with pytest.raises(UserError, match=said):
        load_hub_model(str(path), gpt2())


def test_a_folder_with_pickled_weights_only_is_refused(copy):
    torch.save({}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    refused(copy, "no causal language model that can be read")


def test_an_empty_folder_a_damaged_file_and_an_adapter_are_refused(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no causal language model")
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:-100])
    refused(copy, "no causal language model")
    (copy / "adapter_config.json").write_text("{}")
    refused(copy, "adapter")


def test_missing_weights_are_refused_not_drawn_at_random(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"n_layer": 3}))
    refused(copy, "lacks weights: .*h.2")


def test_another_tokenizer_is_refused(copy):
    vocabulary = json.loads((copy / "vocab.json").read_text())
    vocabulary["Hello"], vocabulary["world"] = vocabulary["world"], vocabulary["Hello"]
    (copy / "vocab.json").write_text(json.dumps(vocabulary))
    refused(copy, "is not GPT-2's")


def test_a_smaller_vocabulary_is_refused_and_a_padded_one_is_not(tmp_path):
    refused(save_gpt2(tmp_path / "small", vocab_size=256), "vocabulary of 256, GPT-2's is 50,257")
    assert load_hub_model(str(save_gpt2(tmp_path / "padded", vocab_size=50304)), gpt2()).vocab_size == 50304


def test_an_architecture_that_changes_its_logits_after_the_head_is_refused(tmp_path):
    config = GraniteConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=1.0, logits_scaling=8.0,
    )  # fmt: skip
    GraniteForCausalLM(config).save_pretrained(tmp_path)
    refused(tmp_path, "changes logits after the output layer")


def test_a_hub_out_of_reach_is_explained(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused("no-such-owner/no-such-model", "cannot have no-such-owner/no-such-model from the hub")


def test_evaluate_prints_a_table_and_writes_its_evidence(tmp_path, capsys, monkeypatch, text):
    """On the first pages only: another text is another protocol, so only the way through the program is looked at."""
    monkeypatch.setattr("harness.evaluate.wikitext.raw_text", lambda: text[:20000])
    made = save_gpt2(tmp_path / "model")
    save_tokenizer(made)
    assert main(["evaluate", f"hf:{made}", "--wikitext", "--out", str(tmp_path / "scores.json")]) == 0
    said, written = capsys.readouterr().out, json.loads((tmp_path / "scores.json").read_text())
    found = written["scores"]["wikitext"]
    assert found["protocol"] == "wikitext-lmeval" and f"{found['bits_per_byte']:.4f}" in said
    assert "gpt2-124m-wikitext" in said and "0.9769" in said
    assert sum(page["nats"] for page in found["pages"]) == pytest.approx(found["nats"])
