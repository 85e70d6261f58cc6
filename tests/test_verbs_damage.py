"""`damage` from the command line: its files, equal bytes, what it says of a run without checkpoints, and what it refuses."""

import json
import shutil

import micro
import pytest
from micro import finished_fixture  # noqa: F401

from harness.__main__ import main
from harness.record.damaged import alone, at_once, read_damage
from harness.report.run_data import load_run
from harness.report.study.damaged import look_up

FILES = ["damage.json", "damage.png", "damage.txt"]
STEPS = [8, 24]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run that kept checkpoints, with its damage. Read only."""
    run = micro.run(tmp_path_factory.mktemp("kept"), f"run.checkpoint_steps={STEPS}".replace(" ", ""))
    assert main(["damage", str(run)]) == 0
    return run


def refused(capsys, *words):
    capsys.readouterr()
    assert main(["damage", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_it_is_of_every_kept_checkpoint_and_of_that_very_run(kept):
    assert sorted(path.name for path in (kept / "damage").iterdir()) == FILES
    found, record = read_damage(kept / "damage" / "damage.json"), micro.record(kept)
    assert [row.step for row in at_once(found.transplants)] == [0, *STEPS] and len(alone(found.transplants)) == 6
    assert found.run.content_sha256 == record.content_sha256 and found.model.step == micro.STEPS
    assert look_up(load_run(kept)) == (found, "")
    last = [row for row in found.transplants if row.step == 24 and row.layer == 0][0]
    assert last.foretold["steps"] == 8 and 0 < last.foretold["model"] < found.transplants[0].foretold["model"]


def test_the_same_run_gives_the_same_bytes_and_is_drawn_again(kept, tmp_path):
    assert main(["damage", str(kept), "--out", str(tmp_path / "again")]) == 0
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (kept / "damage" / name).read_bytes(), name
    (tmp_path / "again" / "damage.png").unlink()
    assert main(["damage", "--from", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "damage.png").read_bytes() == (kept / "damage" / "damage.png").read_bytes()


def test_an_edited_one_is_refused(kept, tmp_path, capsys):
    copy = shutil.copytree(kept / "damage", tmp_path / "copy")
    content = json.loads((copy / "damage.json").read_text())
    content["nats"] -= 0.5
    (copy / "damage.json").write_text(json.dumps(content))
    said = refused(capsys, "--from", copy)
    assert "was changed after it was written" in said and "make damage RUN=... makes it anew" in said


def test_verify_holds_it_to_its_hash_and_its_run(kept, tmp_path, capsys):
    copy = shutil.copytree(kept, tmp_path / "copy")
    assert main(["verify", str(copy), "steps=0"]) == 0
    assert "damage what it left is whole, and of this run" in " ".join(capsys.readouterr().out.split())
    there = copy / "damage" / "damage.json"
    there.write_text(there.read_text().replace('"seed":1', '"seed":2'))
    assert main(["verify", str(copy), "steps=0"]) == 1
    assert "damage.json was changed after it was written" in " ".join(capsys.readouterr().out.split())


def test_a_run_that_kept_none_has_no_routers_to_put_in_and_is_told_the_key(finished, tmp_path, capsys):
    assert main(["damage", str(finished()), "--out", str(tmp_path)]) == 0
    found = read_damage(tmp_path / "damage.json")
    assert found.transplants == alone(found.interferences) == [] and len(at_once(found.interferences)) == 18
    assert "none: it kept no checkpoint (run.checkpoint_steps=[...] keeps them" in capsys.readouterr().out


def test_a_dense_run_and_no_run_are_refused(finished, capsys):
    assert "is a dense run: it has no router" in refused(capsys, finished("dense"))
    assert "takes one run, or a folder after --from" in refused(capsys)
