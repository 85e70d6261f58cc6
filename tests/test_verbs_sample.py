"""Text from a finished run."""

import shutil

import micro
import pytest
import torch
from micro import finished_fixture  # noqa: F401

from harness.__main__ import main
from harness.launch.run_model import load_run_model
from harness.verbs.sample import continue_text


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished(), tmp_path / "copy")


def text(capsys, run, *words):
    capsys.readouterr()  # where nothing has trained it yet, `run` was trained just now
    assert main(["sample", str(run), "--bytes", "40", *words]) == 0
    return capsys.readouterr().out


def test_the_same_seed_writes_the_same_text_and_another_one_another(finished, capsys):
    first = text(capsys, finished())
    assert first.startswith("Fellow-Citizens") and text(capsys, finished()) == first
    assert text(capsys, finished(), "--seed", "2") != first


def test_text_starts_with_the_prompt_and_has_the_length_asked_for(finished):
    model = load_run_model(finished("dense"))
    for prompt in (b"a", b"The state of the Union " * 4):  # the second is longer than the model's window
        found = continue_text(model, prompt, 10, 0.7, 1)
        assert found.startswith(prompt) and len(found) == len(prompt) + 10


def test_temperature_zero_takes_the_likeliest_byte_whatever_the_seed(finished):
    model = load_run_model(finished())
    a, b = (continue_text(model, b"The ", 20, 0, seed) for seed in (1, 2))
    assert a == b
    with torch.no_grad():
        assert a[4] == int(model.logits(torch.tensor([list(b"The ")]))[0, -1].argmax())


def test_sampling_at_temperature_1_follows_the_model(finished):
    """The first byte over many seeds against the model's own probabilities."""
    model = load_run_model(finished("dense"))
    with torch.no_grad():
        wanted = torch.softmax(model.logits(torch.tensor([list(b"The ")]))[0, -1].double(), 0)
    likeliest = int(wanted.argmax())
    drawn = [continue_text(model, b"The ", 1, 1.0, seed)[-1] for seed in range(150)]
    p = float(wanted[likeliest])
    assert abs(drawn.count(likeliest) / 150 - p) < 4 * (p * (1 - p) / 150) ** 0.5


@pytest.mark.parametrize("how", ["pruned", "flipped", "truncated"])
def test_lost_or_damaged_weights_are_a_clear_error(copy, capsys, how):
    path = copy / "weights.safetensors"
    content = bytearray(path.read_bytes())
    if how == "pruned":
        path.unlink()
    else:
        content[-1] ^= 1
        path.write_bytes(content if how == "flipped" else content[:-100])
    assert main(["sample", str(copy)]) == 2
    said = capsys.readouterr().err
    assert "weights.safetensors" in said and "train it again" in said


def test_a_plan_that_does_not_fit_the_weights_is_a_clear_error(copy, capsys):
    plan = copy / "plan.yaml"
    plan.write_text(plan.read_text().replace("expert_width: 16", "expert_width: 8"))
    assert main(["sample", str(copy)]) == 2
    assert "plan.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--bytes", "0"], ["--temperature", "-1"], ["--prompt", ""]])
def test_impossible_wishes_are_refused(finished, capsys, words):
    assert main(["sample", str(finished()), *words]) == 2
    assert words[0].strip("-") in capsys.readouterr().err


def test_a_folder_without_a_finished_run_is_a_clear_error(tmp_path, capsys):
    assert main(["sample", str(tmp_path)]) == 2
    assert "record.json" in capsys.readouterr().err
    assert main(["sample", str(tmp_path / "nowhere")]) == 2


def test_sampling_writes_nothing_into_the_run(finished):
    before = micro.snapshot(finished())
    assert main(["sample", str(finished()), "--bytes", "1"]) == 0
    assert micro.snapshot(finished()) == before


@pytest.mark.parametrize("length", [20, 60])  # within the model's 32 tokens, and beyond them
def test_text_written_with_a_cache_is_that_of_the_window_read_anew_for_every_byte(finished, length, monkeypatch):
    model = load_run_model(finished())
    cached = continue_text(model, b"The ", length, 0.7, 1)
    monkeypatch.setattr(type(model), "decodes", False)
    assert continue_text(model, b"The ", length, 0.7, 1) == cached
