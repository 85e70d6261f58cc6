"""fork=RUN@STEP: a new run from another one's checkpoint."""

import micro
import pytest
from micro import no_figures_fixture, stopped_fixture  # noqa: F401

import harness.train.run
from harness.train import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_figures")]


@pytest.mark.parametrize("wanted, step", [("11", 11), ("last", 12)])
def test_a_fork_starts_from_the_tensors_of_that_checkpoint_and_is_unranked(stopped, tmp_path, monkeypatch, wanted, step):
    seen = {}
    warm_up = harness.train.run.warm_up

    def look(session, *rest):
        seen.update(micro.tensors(session))
        return warm_up(session, *rest)

    monkeypatch.setattr(harness.train.run, "warm_up", look)
    run_folder = micro.run(tmp_path / "fork", f"fork={stopped}@{wanted}", "seed=2")
    expected = checkpoint.load(stopped / "checkpoints", step).tensors
    assert seen.keys() == expected.keys() and all(seen[name].equal(t) for name, t in expected.items())
    record = micro.record(run_folder)
    assert record.fork == f"{stopped}@{wanted}" and not record.ranked
    assert f"forked from {stopped}@{wanted}" in record.unranked_reasons
    assert run_folder.name.endswith("-fork") and record.seed == 2


def test_a_fork_that_is_stopped_goes_on_from_its_own_checkpoint(stopped, tmp_path, capsys):
    fork = f"fork={stopped}@last"
    whole = micro.run(tmp_path / "whole", fork)
    assert micro.speedrun(tmp_path / "cut", fork, "run.stop_after_step=20") == 0
    cut = micro.run(tmp_path / "cut", fork)
    assert "from step 20" in capsys.readouterr().out
    assert micro.bits(cut) == micro.bits(whole)


def test_a_fork_leaves_the_run_it_comes_from_alone(stopped, tmp_path):
    before = micro.snapshot(stopped)
    micro.run(tmp_path / "fork", f"fork={stopped}@12")
    assert micro.snapshot(stopped) == before


@pytest.mark.parametrize("wanted", ["7", "first", "²"])
def test_a_fork_of_an_unknown_step_lists_the_steps_and_leaves_no_folder(stopped, tmp_path, capsys, wanted):
    assert micro.speedrun(tmp_path / "fork", f"fork='{stopped}@{wanted}'") == 2
    assert "11, 12" in capsys.readouterr().err
    assert not list((tmp_path / "fork").rglob("identity.json"))


@pytest.mark.parametrize("fork", ["nowhere", "@12", "/nowhere/at/all@12"])
def test_a_fork_of_no_run_at_all_is_a_clear_error(tmp_path, capsys, fork):
    assert micro.speedrun(tmp_path, f"fork={fork}") == 2
    assert "RUN@STEP" in capsys.readouterr().err


def test_a_fork_of_a_damaged_checkpoint_names_it_and_the_others(stopped, tmp_path, capsys):
    path = stopped / "checkpoints" / "step-000012.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert micro.speedrun(tmp_path / "fork", f"fork={stopped}@12") == 2
    said = capsys.readouterr().err
    assert "step-000012.safetensors is corrupt" in said and "11, 12" in said


def test_a_fork_of_another_shape_is_a_clear_error(stopped, tmp_path, capsys):
    assert micro.speedrun(tmp_path / "fork", f"fork={stopped}@12", lane=micro.DENSE) == 2
    assert "does not fit this plan" in capsys.readouterr().err
