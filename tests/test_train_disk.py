"""A disk that fills up at the worst moments: a sentence, no traceback, and nothing lost."""

import errno
import json
import os

import micro
import processes
import pytest
from micro import bits, finished_fixture, no_figures_fixture, stopped_fixture  # noqa: F401
from safetensors import SafetensorError

import harness.errors
import harness.files
import harness.train.weights
from harness.record.documents import RunState
from harness.record.folder import MetricsLog
from harness.train import checkpoint
from harness.train.loop import State

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_figures")]

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
# safetensors wraps what the system says
FULL_IN_SAFETENSORS = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
FILE_SIZE_LIMIT = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from harness.train import checkpoint
save = checkpoint.save
def save_until_full(folder, step, *rest, **words):
    if step == 14:  # a checkpoint is about 0.5 MB
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    save(folder, step, *rest, **words)
checkpoint.save = save_until_full
from harness.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def raising(error):
    def fail(*_, **__):
        raise type(error)(*error.args)  # a fresh one: a traceback would keep the run folder locked

    return fail


@pytest.mark.process
def test_a_really_full_disk_during_a_checkpoint_keeps_the_last_one_and_the_rerun_gives_the_same_bits(tmp_path, finished):
    words = ["speedrun", *micro.MOE, f"run.folder={tmp_path}", "run.checkpoint_every_s=0"]
    done = processes.run(FILE_SIZE_LIMIT, *words)
    assert done.returncode == 2, done.stderr
    assert "cannot write the checkpoint of step 14" in done.stderr and "it goes on from step 13" in done.stderr
    assert "Traceback" not in done.stderr
    run_folder = micro.the_folder(tmp_path)
    assert micro.checkpointed_steps(run_folder) == [12, 13]
    assert not list((run_folder / "checkpoints").glob("*.tmp"))
    micro.run(tmp_path)
    assert bits(run_folder) == bits(finished())


@pytest.mark.parametrize("error", [FULL, FULL_IN_SAFETENSORS], ids=["from the system", "from safetensors"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_older_ones_and_no_litter(tmp_path, monkeypatch, error):
    tensors = {"a": micro.torch.arange(4.0)}
    checkpoint.save(tmp_path, 1, tensors, state(1), keep=1)
    before = micro.snapshot(tmp_path)
    monkeypatch.setattr(checkpoint.slices, "save_file", raising(error))
    with pytest.raises(harness.errors.UserError, match="step 2.*No space left") as caught:
        checkpoint.save(tmp_path, 2, tensors, state(2), keep=1)
    assert "it goes on from step 1" in caught.value.remedy
    assert micro.snapshot(tmp_path) == before


def test_a_disk_that_fills_up_before_the_first_checkpoint_says_that_the_run_starts_over(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint.slices, "save_file", raising(FULL))
    with pytest.raises(harness.errors.UserError) as caught:
        checkpoint.save(tmp_path / "checkpoints", 2, {}, state(2), keep=1)
    assert "starts from the beginning" in caught.value.remedy


def test_a_full_disk_under_the_note_of_a_checkpoint_is_named_as_the_checkpoint_not_as_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "replace_atomically", raising(FULL))
    with pytest.raises(harness.errors.UserError) as caught:
        checkpoint.save(tmp_path / "checkpoints", 2, {"a": micro.torch.arange(4.0)}, state(2), keep=1)
    assert "SPEEDRUN_CACHE" not in str(caught.value) and "checkpoint of step 2" in caught.value.problem


def test_a_full_disk_under_the_metrics_is_a_clear_error_and_the_rerun_gives_the_same_bits(
    tmp_path, stopped, finished, monkeypatch, capsys
):
    append = MetricsLog.append

    def full(self, rows):
        if rows[0]["step"] >= 20:
            self.file.write(b'{"kind":"step","st')  # half a row, as a full disk leaves it
            self.file.flush()
            self.file = type("Full", (), {"name": self.file.name, "write": raising(FULL)})()
        append(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "append", full)
        assert micro.speedrun(tmp_path) == 2
    said = capsys.readouterr().err
    assert "metrics.jsonl" in said and "No space left" in said
    micro.run(tmp_path)
    assert bits(stopped) == bits(finished())
    assert [row["step"] for row in micro.rows(stopped, "step")] == list(range(1, micro.STEPS + 1))


def state(step):
    return RunState(**vars(State(step=step)))


@pytest.mark.parametrize("error", [FULL, FULL_IN_SAFETENSORS], ids=["from the system", "from safetensors"])
def test_a_full_disk_under_the_final_weights_is_a_clear_error_and_the_rerun_gives_the_same_bits(
    tmp_path, stopped, finished, monkeypatch, capsys, error
):
    with monkeypatch.context() as patch:
        patch.setattr(harness.train.weights, "replace_atomically", raising(error))
        assert micro.speedrun(tmp_path) == 2
    said = capsys.readouterr().err
    assert "weights.safetensors" in said and "No space left" in said and "same command" in said
    assert not (stopped / "record.json").exists()
    micro.run(tmp_path)
    assert bits(stopped) == bits(finished())


def test_a_full_disk_under_the_record_names_the_run_folder_and_no_half_record_remains(tmp_path, stopped, monkeypatch, capsys):
    replace = os.replace

    def full(source, target):
        if str(target).endswith("record.json"):
            raise FULL
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert micro.speedrun(tmp_path) == 2
    said = capsys.readouterr().err
    assert not (stopped / "record.json").exists()
    assert "record.json" in said and "No space left" in said and "SPEEDRUN_CACHE" not in said


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert micro.speedrun(tmp_path / "file") == 2
    assert "run.folder=PATH" in capsys.readouterr().err


def test_stopped_runs_say_where_and_why_as_json(tmp_path):
    assert micro.speedrun(tmp_path, "optim.adamw.lr=1e30") == 3
    stopped = json.loads((micro.the_folder(tmp_path) / "stopped.json").read_text())
    assert stopped.keys() == {"reason", "step", "what", "remedy", "checkpoints", "counts"}
