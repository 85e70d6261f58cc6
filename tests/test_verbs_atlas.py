"""`atlas` from the command line: its files, equal bytes, hashes that are the run's, and what it refuses."""

import json
import re
import shlex
import shutil

import micro
import pytest
import torch
from micro import finished_fixture  # noqa: F401

from harness.__main__ import main
from harness.evaluate.inspect.inspected import untrained
from harness.launch.run_checkpoints import models_at
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.stored import read_plan
from harness.record.atlas import read_atlas
from harness.record.sealed import SEAL, sealed
from harness.train import checkpoint

FILES = ["atlas.json", "atlas.png", "atlas.txt", "receipt.safetensors"]
STEPS = [8, 16, 24]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Runs of two seeds that kept checkpoints, the first with its receipt. Read only."""
    home = tmp_path_factory.mktemp("kept")
    runs = [micro.run(home, f"run.checkpoint_steps={STEPS}".replace(" ", ""), f"seed={seed}") for seed in (1, 2)]
    assert main(["atlas", str(runs[0])]) == 0
    return runs


def refused(capsys, *words):
    capsys.readouterr()
    assert main(["atlas", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_the_receipt_is_of_every_kept_checkpoint_and_of_the_end(kept):
    run = kept[0]
    assert sorted(path.name for path in (run / "atlas").iterdir()) == FILES
    found, record = read_atlas(run / "atlas"), micro.record(run)
    assert found.steps == [0, *STEPS, micro.STEPS] and found.index.taken[0].sha256 is None
    assert found.index.taken[-1].sha256 == record.determinism.weights  # the weights that the record speaks of
    assert len({taken.sha256 for taken in found.index.taken}) == 5
    assert found.index.run.content_sha256 == record.content_sha256 and found.index.probe.of == record.track
    assert {row.of for row in found.index.told} == {"class", "place in word"}


def test_a_router_whose_scores_saturate_is_seen_in_the_text_and_drawn(kept, tmp_path):
    copy = shutil.copytree(kept[0] / "atlas", tmp_path / "copy")
    content = json.loads((copy / "atlas.json").read_text())
    del content[SEAL]
    few = {"mean": [7.3e-7, 6e-7, 8e-7], "quantiles": [0.0, 0.0, 1.2e-7, 1e-6], "ties": content["probe"]["tokens"] // 4}
    content["settled"][-1]["margin"] = few
    (copy / "atlas.json").write_text(json.dumps(sealed(content)))
    assert main(["atlas", "--from", str(copy)]) == 0
    (line,) = [line for line in (copy / "atlas.txt").read_text().splitlines() if "7.3e-07" in line]
    assert line.split()[:8] == ["32", "1", "7.3e-07", "(6e-07", "to", "8e-07)", "0", "1.2e-07"] and line.split()[8] == "0.25"
    assert (copy / "atlas.png").read_bytes() != (kept[0] / "atlas" / "atlas.png").read_bytes()


def test_the_same_checkpoints_give_the_same_bytes(kept, tmp_path):
    assert main(["atlas", str(kept[0]), "--out", str(tmp_path / "again")]) == 0
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (kept[0] / "atlas" / name).read_bytes(), name


def test_a_receipt_is_checked_and_drawn_again(kept, tmp_path, capsys):
    copy = shutil.copytree(kept[0] / "atlas", tmp_path / "copy")
    (copy / "atlas.png").unlink()
    assert main(["atlas", "--from", str(copy)]) == 0
    assert (copy / "atlas.png").read_bytes() == (kept[0] / "atlas" / "atlas.png").read_bytes()
    content = json.loads((copy / "atlas.json").read_text())
    content["taken"][1]["step"] += 1
    (copy / "atlas.json").write_text(json.dumps(content))
    assert "was changed after it was written" in refused(capsys, "--from", copy)


def test_two_runs_are_compared_and_a_receipt_that_is_missing_is_taken(kept, tmp_path, capsys):
    assert main(["atlas", str(kept[0]), "--against", str(kept[1]), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert sorted(path.name for path in (kept[1] / "atlas").iterdir())[0] == "atlas.json"
    (found,) = tmp_path.glob("against-tiny-moe-16e-2-*.json")
    rows = json.loads(found.read_text())["rows"]
    assert {(row["step"], row["layer"]) for row in rows} == {(step, layer) for step in (0, *STEPS, 32) for layer in (0, 1)}
    assert "Who is who at the end" in said


def test_a_run_that_kept_none_is_told_the_key_and_the_words_of_the_same_run(finished, capsys):
    said = refused(capsys, finished())
    words = shlex.split(re.search(r"harness speedrun (.*)", said)[1])
    assert words[-1] == "run.checkpoint_steps=[4,8,16,24]" and "moves no bit" in said
    assert plan_hash(compose(words).plan) == micro.record(finished()).plan_hash


def test_the_end_alone_is_taken_of_a_run_that_kept_none(finished, tmp_path):
    assert main(["atlas", str(finished()), "--last", "--out", str(tmp_path)]) == 0
    assert read_atlas(tmp_path).steps == [0, micro.STEPS] and read_atlas(tmp_path).index.drift == []


def test_a_dense_run_and_no_run_are_refused(finished, capsys):
    assert "is a dense run: it has no router" in refused(capsys, finished("dense"))
    assert "takes one run, or a folder after --from" in refused(capsys)


def test_receipts_of_different_texts_are_refused(kept, tmp_path, capsys):
    other = shutil.copytree(kept[1], tmp_path / "other")
    shutil.rmtree(other / "atlas", ignore_errors=True)
    assert main(["atlas", str(other), "length=16"]) == 0
    assert "their texts are not the same" in refused(capsys, kept[0], "--against", other)


def test_another_runs_receipt_is_refused(kept, tmp_path, capsys):
    other = shutil.copytree(kept[1], tmp_path / "other")
    shutil.rmtree(other / "atlas", ignore_errors=True)
    shutil.copytree(kept[0] / "atlas", other / "atlas")
    assert "is a receipt of another run" in refused(capsys, kept[0], "--against", other)


def verified(capsys, run):
    """(whether the evidence passes, what is said of it on one line)"""
    capsys.readouterr()
    status = main(["verify", str(run), "steps=0"])
    return status == 0, " ".join(capsys.readouterr().out.split())


def test_verify_holds_a_receipt_to_its_hashes_its_run_and_its_weights(kept, tmp_path, capsys):
    copy, other = (shutil.copytree(run, tmp_path / str(seed)) for seed, run in enumerate(kept))
    passed, said = verified(capsys, copy)
    assert passed and "atlas what it left is whole, and of this run" in said
    receipt = copy / "atlas" / "receipt.safetensors"
    receipt.write_bytes(receipt.read_bytes()[:-1] + b"\x7f")
    passed, said = verified(capsys, copy)
    assert not passed and "receipt.safetensors was changed after it was written" in said
    shutil.rmtree(other / "atlas", ignore_errors=True)
    shutil.copytree(kept[0] / "atlas", other / "atlas")
    passed, said = verified(capsys, other)
    assert not passed and "is of seed 1, the run has 2" in said and "is of weights" in said


def test_a_damaged_checkpoint_is_named_and_nothing_is_written(kept, tmp_path, capsys):
    copy = shutil.copytree(kept[0], tmp_path / "copy")
    before = (copy / "atlas" / "atlas.json").read_bytes()
    damaged = copy / "checkpoints" / "step-000016.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0\0")
    said = refused(capsys, copy)
    assert "step-000016.safetensors is corrupt" in said and "run.checkpoint_steps" in said
    assert (copy / "atlas" / "atlas.json").read_bytes() == before


def test_a_checkpoint_is_read_as_it_would_be_scored(tmp_path):
    """Schedule-Free trains other weights than it scores."""
    words = ["optim.matrices=schedule_free", "optim.others=schedule_free", "schedule.decay_share=0"]
    run = micro.run(tmp_path, "run.checkpoint_steps=[24]", *words)
    there = checkpoint.load(run / "checkpoints", 24).tensors
    model = next(models_at(run, [24], untrained(read_plan(run / "plan.yaml"))))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, there[f"schedule_free.mean.{name}"][...])
    assert not torch.equal(model.embedding, there["model.embedding"][...])
