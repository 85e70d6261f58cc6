"""`export`: a folder that is whole or absent, says where it came from, and replaces nothing else."""

import json
import os

import micro
import pytest
import torch
from micro import finished_fixture  # noqa: F401
from safetensors.torch import load_file
from transformers_stub import modelling

from harness.__main__ import main
from harness.export import folder
from harness.export.tokenizer import byte_signs
from harness.launch.run_model import load_run_model
from harness.plan.compose import compose
from harness.plan.stored import read_plan


def export(run, out, *words):
    return main(["export", str(run), f"out={out}", *words])


def leftovers(place):
    return sorted(path.name for path in place.iterdir())


@pytest.mark.parametrize("kind", ["moe", "dense"])
def test_the_folder_alone_computes_what_the_run_computes(finished, kind, tmp_path):
    out = tmp_path / "new" / "exported"
    assert export(finished(kind), out) == 0
    assert leftovers(out) == sorted(folder.FILES) and leftovers(out.parent) == ["exported"]
    code = modelling(out / "modeling_moe_speedrun.py")
    made = code.MoeSpeedrunForCausalLM(code.MoeSpeedrunConfig(**json.loads((out / "config.json").read_text())))
    made.load_state_dict(load_file(out / "model.safetensors"), strict=True)
    token_BS = torch.randint(256, (8, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = load_run_model(finished(kind)).logits(token_BS)
        assert ours.std() > 0.1 and (made(token_BS).logits - ours).abs().max() <= 1e-5


def test_the_weights_are_the_runs_own_to_the_bit(finished, tmp_path):
    assert export(finished(), tmp_path / "out") == 0
    found, run = load_file(tmp_path / "out" / "model.safetensors"), micro.weights(finished())
    assert found.keys() == run.keys() and all(torch.equal(found[name], run[name]) for name in run)


def test_its_page_says_which_run_it_was_and_how_it_was_made(finished, tmp_path):
    assert export(finished(), tmp_path / "out") == 0
    said, record = (tmp_path / "out" / "README.md").read_text(), micro.record(finished())
    assert record.content_sha256 in said and record.plan_hash in said and record.provenance.commit in said
    assert record.artifacts["weights.safetensors"].sha256 in said and f"{record.metrics.val_bpb:.4f}" in said
    assert "of its first 8,192 bytes" in said and "no: " in said
    assert f"python -m harness export {finished()} out={tmp_path / 'out'}" in said


def test_a_published_architecture_needs_no_code_and_the_page_says_what_it_costs(finished, tmp_path, capsys):
    assert export(finished("dense"), tmp_path / "out", "--published") == 0
    assert "trust_remote_code" not in capsys.readouterr().out.splitlines()[-1]
    assert not {"modeling_moe_speedrun.py", "generation_config.json"} & set(leftovers(tmp_path / "out"))
    said, config = (tmp_path / "out" / "README.md").read_text(), json.loads((tmp_path / "out" / "config.json").read_text())
    assert "ApertusForCausalLM" in said and "trust_remote_code" not in said and "auto_map" not in config
    assert "in fp32, so that its logits differ" in said


def test_the_same_run_gives_the_same_bytes(finished, tmp_path):
    for name in ("a", "b"):
        assert export(finished(), tmp_path / name) == 0
    for name in folder.FILES:
        if name != "README.md":  # which has the command
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_export_is_replaced_only_where_that_is_said(finished, tmp_path, capsys):
    out = tmp_path / "out"
    assert export(finished(), out) == 0
    before = micro.snapshot(out)
    assert export(finished("dense"), out) == 2
    assert "add --overwrite" in capsys.readouterr().err and micro.snapshot(out) == before
    assert export(finished("dense"), out, "--overwrite") == 0
    assert json.loads((out / "config.json").read_text())["num_experts"] == 0 and leftovers(tmp_path) == ["out"]


@pytest.mark.parametrize("held", ["folder", "file", "link"])
def test_what_no_export_wrote_is_never_replaced(finished, held, tmp_path, capsys):
    out, mine = tmp_path / "out", tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    if held == "folder":
        mine.rename(out)
    elif held == "file":
        out.write_text("mine")
    else:
        out.symlink_to(mine)
    before = micro.snapshot(tmp_path)
    assert export(finished(), out, "--overwrite") == 2
    assert str(out) in capsys.readouterr().err and micro.snapshot(tmp_path) == before


@pytest.mark.parametrize("there", [False, True])
def test_an_export_that_is_cut_off_leaves_what_was_there(finished, there, tmp_path, monkeypatch):
    out = tmp_path / "out"
    if there:
        assert export(finished("dense"), out) == 0
    before = micro.snapshot(tmp_path)

    def cut_off(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "save_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        folder.write(out, *_of(finished()), overwrite=True)
    assert micro.snapshot(tmp_path) == before and leftovers(tmp_path) == ["out"] * there


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_is_a_clear_error_and_leaves_what_was_there(finished, there, tmp_path, monkeypatch, capsys):
    out, replace = tmp_path / "out", os.replace
    if there:
        assert export(finished("dense"), out) == 0
    before = micro.snapshot(tmp_path)

    def full(source, target):
        if str(target) == str(out):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert export(finished(), out, "--overwrite") == 2
    assert "No space left" in capsys.readouterr().err
    assert micro.snapshot(tmp_path) == before and leftovers(tmp_path) == ["out"] * there


def _of(run):
    return folder.plan_export(read_plan(run / "plan.yaml"), micro.record(run), "made"), load_run_model(run).state_dict()


def test_without_a_place_the_error_says_what_to_type(finished, capsys):
    assert main(["export", str(finished())]) == 2
    assert f"export {finished()} out=FOLDER" in capsys.readouterr().err


def test_a_run_that_cannot_be_exported_leaves_nothing(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("harness.export.configuration.ROUTERS", ("hash",))
    assert export(finished(), tmp_path / "out") == 2
    assert "model.router=sigmoid_topk" in capsys.readouterr().err and not leftovers(tmp_path)


def test_the_signs_of_the_tokenizer_are_a_byte_each(finished, tmp_path):
    signs = byte_signs()
    assert len(set(signs)) == len("".join(signs)) == 256
    assert "".join(signs[byte] for byte in "A é\n".encode()) == "A\u0120\u00c3\u00a9\u010a"  # as GPT-2's vocab.json has them
    assert export(finished(), tmp_path / "out") == 0
    vocab = json.loads((tmp_path / "out" / "tokenizer.json").read_text())["model"]["vocab"]
    assert [vocab[sign] for sign in signs] == list(range(256))


@pytest.mark.parametrize("as_published", [False, True])
def test_a_run_of_tokens_names_the_tokenizer_that_it_was_trained_with(finished, as_published):
    plan = compose(["lane=wiki-s-moe-64e"]).plan
    texts = folder.plan_export(plan, micro.record(finished()), "made", as_published).texts
    assert 'AutoTokenizer.from_pretrained("openai-community/gpt2")' in texts["README.md"]
    assert not [name for name in texts if name.startswith("tokenizer")]
