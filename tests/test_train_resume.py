"""Runs that are killed, interrupted, stopped or damaged, and what the same command does next."""

import json
import os
import signal

import micro
import processes
import pytest
from micro import bits, finished_fixture, no_figures_fixture, stopped_fixture  # noqa: F401

import harness.record.provenance
import harness.train.checkpoint as checkpoint
from harness.plan.compose import compose
from harness.plan.fingerprint import to_yaml
from harness.record.documents import RunState
from harness.record.folder import RunFolder
from harness.train.health import Monitor
from harness.train.loop import Loop, State
from harness.train.run import _belongs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_figures")]

EVERY_STEP = ("run.checkpoint_every_s=0", "run.log_every_steps=1")
DIES_AT_STEP = """
import os, signal, sys
from harness.train.health import Monitor
see = Monitor.see
def die(self, step, *rest):
    see(self, step, *rest)
    if step == 13:
        os.kill(os.getpid(), signal.SIGKILL)
Monitor.see = die
from harness.__main__ import main
main(sys.argv[1:])
"""
DIES_WHILE_COMMITTING_A_CHECKPOINT = """
import os, signal, sys
replace = os.replace
def die(source, target):
    if str(target).endswith("step-000020.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = die
from harness.__main__ import main
main(sys.argv[1:])
"""


def step_numbers(run_folder):
    return [row["step"] for row in micro.rows(run_folder, "step")]


def damage(run_folder, step, how):
    path = run_folder / "checkpoints" / f"step-{step:06d}.safetensors"
    content = bytearray(path.read_bytes())
    if how == "a flipped bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "missing":
        path.unlink()
    else:
        note = path.with_suffix(".json")
        note.write_bytes(note.read_bytes()[:-20])


@pytest.mark.process
def test_a_run_killed_twice_once_inside_a_checkpoint_ends_with_the_bits_of_an_untouched_one(tmp_path, finished, capsys):
    words = ["speedrun", *micro.MOE, f"run.folder={tmp_path}", *EVERY_STEP]
    assert processes.run(DIES_AT_STEP, *words).returncode == -signal.SIGKILL
    run_folder = micro.the_folder(tmp_path)
    assert micro.checkpointed_steps(run_folder) == [11, 12]
    second = processes.run(DIES_WHILE_COMMITTING_A_CHECKPOINT, *words)
    assert second.returncode == -signal.SIGKILL, second.stderr
    assert f"resuming {run_folder} from step 12" in second.stdout
    assert micro.checkpointed_steps(run_folder)[-1] == 19

    assert micro.run(tmp_path, *EVERY_STEP) == run_folder
    assert f"resuming {run_folder} from step 19" in capsys.readouterr().out
    assert bits(run_folder) == bits(finished())
    assert step_numbers(run_folder) == list(range(1, micro.STEPS + 1))
    assert micro.losses(run_folder) == micro.losses(finished())
    assert [row["step"] for row in micro.rows(run_folder, "validation")] == [8, 16, 24, 32]
    record = micro.record(run_folder)
    assert record.resumes == 2 and "resumed 2 times" in record.unranked_reasons


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_and_the_rerun_gives_the_same_bits(tmp_path, finished, monkeypatch, number, status):
    before = signal.getsignal(number)
    see = Monitor.see

    def signalled(self, step, *rest):
        see(self, step, *rest)
        if step == 9:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "see", signalled)
        assert micro.speedrun(tmp_path, "run.log_every_steps=1") == status
    assert signal.getsignal(number) == before
    run_folder = micro.the_folder(tmp_path)
    assert micro.checkpointed_steps(run_folder) == [10]
    assert not (run_folder / "record.json").exists()
    micro.run(tmp_path)
    assert bits(run_folder) == bits(finished())
    assert step_numbers(run_folder) == list(range(1, micro.STEPS + 1))


def test_a_second_interrupt_ends_the_run_at_once_and_keeps_its_checkpoints(tmp_path, finished, monkeypatch, capsys):
    see = Monitor.see

    def interrupted(self, step, *rest):
        see(self, step, *rest)
        if step == 9:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "see", interrupted)
        assert micro.speedrun(tmp_path, *EVERY_STEP) == 130
    assert "interrupted" in capsys.readouterr().err
    run_folder = micro.the_folder(tmp_path)
    assert micro.checkpointed_steps(run_folder) == [7, 8]
    micro.run(tmp_path)
    assert bits(run_folder) == bits(finished())


def test_a_run_left_by_stop_after_step_goes_on_without_it_to_the_same_bits(tmp_path, finished, capsys):
    assert micro.speedrun(tmp_path, "run.stop_after_step=12") == 0
    run_folder = micro.the_folder(tmp_path)
    assert f"stopped with a checkpoint in {run_folder}" in capsys.readouterr().out
    assert step_numbers(run_folder) == list(range(1, 13))
    micro.run(tmp_path)
    assert bits(run_folder) == bits(finished())
    assert [point["slice_bpb"] for point in micro.record(run_folder).metrics.curve] == [
        point["slice_bpb"] for point in micro.record(finished()).metrics.curve
    ]


def test_the_very_same_command_with_stop_after_step_finishes_the_run(tmp_path, stopped, finished):
    run_folder = micro.run(tmp_path, "run.stop_after_step=12", *EVERY_STEP)
    assert bits(run_folder) == bits(finished())


@pytest.mark.parametrize("how", ["a flipped bit", "truncated", "missing", "its note truncated"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_gives_the_same_bits(tmp_path, stopped, finished, capsys, how):
    run_folder = stopped
    damage(run_folder, 12, how)
    micro.run(tmp_path)
    said = capsys.readouterr().out
    assert "step-000012.safetensors" in said and "falling back to the one before it" in said
    assert f"resuming {run_folder} from step 11" in said
    assert bits(run_folder) == bits(finished())
    assert step_numbers(run_folder) == list(range(1, micro.STEPS + 1))


def test_a_run_whose_checkpoints_are_all_damaged_starts_from_the_beginning_and_says_so(tmp_path, stopped, finished, capsys):
    run_folder = stopped
    damage(run_folder, 11, "truncated")
    damage(run_folder, 12, "a flipped bit")
    micro.run(tmp_path)
    assert f"{run_folder} has no usable checkpoint; starting it from the beginning" in capsys.readouterr().out
    assert bits(run_folder) == bits(finished())
    assert step_numbers(run_folder) == list(range(1, micro.STEPS + 1))


def test_a_damaged_checkpoint_never_pushes_out_the_good_ones_written_after_it(tmp_path, stopped, capsys):
    run_folder = stopped
    damage(run_folder, 11, "truncated")
    damage(run_folder, 12, "truncated")
    assert micro.speedrun(tmp_path, "run.stop_after_step=5", "run.keep_checkpoints=1") == 0
    capsys.readouterr()
    assert micro.speedrun(tmp_path, "run.stop_after_step=6", "run.keep_checkpoints=1") == 0
    assert f"resuming {run_folder} from step 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    "where, goes_on_from",
    [
        (b'"step":12,"tokens":3072,"loss":', 11),
        (b'"step":5,"tokens":1280,"loss":', None),
        (b'"kind":"window","step":3,"tokens":768,"train_s":', None),
        (b'"kind":"st', None),
    ],
    ids=["a loss of the last step", "an older loss", "seconds that no bits depend on", "the name of a kind"],
)
def test_a_flipped_byte_in_the_log_is_found_and_the_run_goes_on_from_before_it(
    tmp_path, stopped, finished, capsys, where, goes_on_from
):
    log = bytearray((stopped / "metrics.jsonl").read_bytes())
    log[log.index(where) + len(where)] ^= 1
    (stopped / "metrics.jsonl").write_bytes(log)
    micro.run(tmp_path)
    said = capsys.readouterr().out
    assert f"{stopped / 'metrics.jsonl'} has been changed since the checkpoint of step 12" in said
    assert (f"resuming {stopped} from step 11" if goes_on_from else "starting it from the beginning") in said
    assert bits(stopped) == bits(finished())
    assert micro.losses(stopped) == micro.losses(finished()) and step_numbers(stopped) == list(range(1, micro.STEPS + 1))


def test_no_byte_of_the_log_can_be_flipped_unseen(stopped):
    folder, found = RunFolder(stopped, None, True), checkpoint.load(stopped / "checkpoints", 12)
    whole = folder.metrics.read_bytes()
    assert found.meta.metrics_position == len(whole)
    for at in range(len(whole)):
        folder.metrics.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(ValueError, match="has been changed"):
            _belongs(found, folder)
    folder.metrics.write_bytes(whole)
    _belongs(found, folder)


def test_no_byte_of_a_checkpoints_note_can_be_flipped_into_another_state(stopped):
    path = stopped / "checkpoints" / "step-000012.safetensors"
    whole = path.with_suffix(".json").read_bytes()
    expected = checkpoint._note(path, 12)
    for at in range(len(whole)):
        path.with_suffix(".json").write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            assert checkpoint._note(path, 12) == expected
        except ValueError as error:
            assert "note is corrupt" in str(error)


def test_a_checkpoint_of_before_notes_and_logs_were_hashed_is_taken_as_it_is(tmp_path, stopped, finished, capsys):
    for path in stopped.glob("checkpoints/*.json"):
        note = json.loads(path.read_text())
        del note["note_sha256"], note["meta"]["metrics_sha256"], note["meta"]["dropped"]
        path.write_text(json.dumps(note))
    micro.run(tmp_path)
    assert f"resuming {stopped} from step 12" in capsys.readouterr().out and bits(stopped) == bits(finished())


def test_a_plan_file_that_differs_where_no_bits_depend_on_it_is_written_anew(tmp_path, stopped, finished):
    plan = stopped / "plan.yaml"
    plan.write_text(plan.read_text().replace("keep_checkpoints: 2", "keep_checkpoints: 3") + "# edited\n")
    micro.run(tmp_path)
    assert plan.read_bytes() == to_yaml(compose([*micro.MOE, f"run.folder={tmp_path}"]).plan).encode()
    assert bits(stopped) == bits(finished())


def test_a_key_of_the_identity_that_is_misspelt_is_a_change(tmp_path, stopped, capsys):
    path = stopped / "identity.json"
    path.write_text(path.read_text().replace('"fork"', '"fori"'))
    assert micro.speedrun(tmp_path, "run.stop_after_step=1") == 0
    assert "(fork, fori changed); starting anew" in capsys.readouterr().out


def test_a_lost_metrics_file_never_ends_in_a_record_without_its_steps(tmp_path, stopped):
    run_folder = stopped
    (run_folder / "metrics.jsonl").unlink()
    if micro.speedrun(tmp_path) == 0:
        last = max(tmp_path.glob("*/*/record.json")).parent
        assert step_numbers(last) == list(range(1, micro.STEPS + 1))
    else:
        assert not (run_folder / "record.json").exists()


def test_a_finished_run_started_again_gets_the_next_folder_and_the_same_bits(tmp_path):
    first = micro.run(tmp_path)
    before = micro.snapshot(first)
    second = micro.run(tmp_path)
    assert second.name == f"{first.name}.2"
    assert micro.snapshot(first) == before
    assert bits(second) == bits(first)


def test_a_run_stopped_by_health_started_again_gets_the_next_folder(tmp_path):
    words = ("optim.adamw.lr=1e30", "run.log_every_steps=1")
    assert micro.speedrun(tmp_path, *words) == 3
    first = micro.the_folder(tmp_path)
    assert micro.speedrun(tmp_path, *words) == 3
    assert (first.parent / f"{first.name}.2" / "stopped.json").exists()


def test_a_folder_that_a_living_run_writes_to_is_refused_and_left_alone(tmp_path, monkeypatch, capsys):
    """A second start of the same command while the first is inside its loop."""
    save, statuses = Loop.save, []

    def start_again(self):
        save(self)
        before = micro.snapshot(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(Loop, "save", save)
            statuses.append(micro.speedrun(tmp_path))
        assert micro.snapshot(tmp_path) == before

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "save", start_again)
        assert micro.speedrun(tmp_path, "run.stop_after_step=3") == 0
    assert statuses == [2]
    assert "still going" in capsys.readouterr().err


def test_an_edited_plan_of_an_unfinished_run_is_refused_with_the_difference(tmp_path, stopped, capsys):
    plan = stopped / "plan.yaml"
    plan.write_text(plan.read_text().replace("momentum: 0.95", "momentum: 0.9"))
    before = micro.snapshot(tmp_path)
    assert micro.speedrun(tmp_path) == 2
    said = capsys.readouterr().err
    assert "optim.muon.momentum: 0.9 -> 0.95" in said and "unfinished run of another plan" in said
    assert micro.snapshot(tmp_path) == before


@pytest.mark.parametrize("content", [None, "", "model: [unclosed", "just words"])
def test_a_damaged_plan_of_an_unfinished_run_is_a_clear_error(tmp_path, stopped, capsys, content):
    plan = stopped / "plan.yaml"
    plan.unlink() if content is None else plan.write_text(content)
    assert micro.speedrun(tmp_path) == 2
    assert "plan.yaml" in capsys.readouterr().err


def test_a_damaged_identity_of_an_unfinished_run_is_a_clear_error(tmp_path, stopped, capsys):
    (stopped / "identity.json").write_text("{")
    assert micro.speedrun(tmp_path) == 2
    assert "identity.json" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["source_sha256", "versions", "commit"])
def test_an_unfinished_run_of_other_software_is_left_alone_and_a_new_one_started(tmp_path, stopped, monkeypatch, capsys, what):
    run_folder = stopped
    before = micro.snapshot(run_folder)
    name, other = {
        "source_sha256": ("source_hash", "0" * 64),
        "versions": ("versions", {"torch": "0.0"}),
        "commit": ("commit", ("0" * 40, False)),
    }[what]
    monkeypatch.setattr(harness.record.provenance, name, lambda: other)
    assert micro.speedrun(tmp_path, "run.stop_after_step=1") == 0
    said = capsys.readouterr().out
    assert f"{run_folder} holds an unfinished run" in said and f"({what} changed); starting anew" in said
    assert {path: seen for path, seen in micro.snapshot(run_folder).items() if not path.endswith("lock")} == {
        path: seen for path, seen in before.items() if not path.endswith("lock")
    }
    anew = run_folder.parent / f"{run_folder.name}.2"
    assert (
        json.loads((anew / "identity.json").read_text())[what] != json.loads((run_folder / "identity.json").read_text())[what]
    )


def test_keep_checkpoints_bounds_what_lies_on_disk(tmp_path):
    assert micro.speedrun(tmp_path, "run.stop_after_step=9", "run.keep_checkpoints=3", *EVERY_STEP) == 0
    run_folder = micro.the_folder(tmp_path)
    assert micro.checkpointed_steps(run_folder) == [7, 8, 9]
    assert len(os.listdir(run_folder / "checkpoints")) == 6


def test_checkpoints_asked_for_by_step_are_kept_beside_the_newest(tmp_path):
    assert micro.speedrun(tmp_path, "run.stop_after_step=9", "run.keep_checkpoints=1", "run.checkpoint_steps=[2,5]") == 0
    assert micro.checkpointed_steps(micro.the_folder(tmp_path)) == [2, 5, 9]


def test_a_checkpoint_reads_back_exactly(tmp_path):
    session = micro.session()
    session.step(0)
    tensors = session.state()
    state = RunState(**vars(State(step=1, ledger={"train_s": 0.1})))
    checkpoint.save(tmp_path, 1, tensors, state, keep=2)
    found = checkpoint.load(tmp_path, 1)
    assert found.step == 1 and found.meta == state and State(**found.meta.content()) == State(**state.content())
    assert found.tensors.keys() == tensors.keys()
    assert all(found.tensors[name].equal(tensor.detach()) for name, tensor in tensors.items())
