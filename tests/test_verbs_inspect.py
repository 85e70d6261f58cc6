"""`inspect` from the command line: the files it writes, the record it leaves alone, and what it refuses."""

import json
import shutil

import micro
import pytest
from micro import finished_fixture  # noqa: F401

from harness.__main__ import main
from harness.report.inspect.text import ABOVE, MOST, NOT

FILES = ["inspect.json", "inspect.png", "inspect.txt"]
QUICK = ["--instances", "16"]


@pytest.fixture(scope="module")
def inspected(finished, tmp_path_factory):
    """A copy of a MoE run that was inspected against itself. Read only."""
    run = shutil.copytree(finished(), tmp_path_factory.mktemp("inspected") / "run")
    assert main(["inspect", str(run), "--against", str(run), *QUICK]) == 0
    return run


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished(), tmp_path / "copy")


def content(run):
    return json.loads((run / "inspect" / "inspect.json").read_text())


def test_the_file_the_tables_and_the_page_are_written_and_nothing_else_of_the_run_is_touched(inspected, finished, capsys):
    assert sorted(path.name for path in (inspected / "inspect").iterdir()) == FILES
    assert (inspected / "inspect" / "inspect.png").read_bytes()[:4] == b"\x89PNG"
    hashes = [{name: sha for name, (_, sha) in micro.snapshot(run).items()} for run in (finished(), inspected)]
    before, after = (
        {name.removeprefix(str(run)): sha for name, sha in found.items()} for run, found in zip((finished(), inspected), hashes)
    )
    assert {name: sha for name, sha in after.items() if not name.startswith("/inspect/")} == before
    capsys.readouterr()
    assert main(["verify", str(inspected), "steps=0"]) == 0
    assert "evidence whole" in capsys.readouterr().out
    assert main(["mlflow", "--help"]) == main(["show", str(inspected)]) == 0


def test_the_file_says_whose_it_is_and_has_every_question(inspected):
    found, record = content(inspected), micro.record(inspected)
    assert found["schema_version"] == 2 and found["run"]["plan_hash"] == record.plan_hash
    assert found["run"]["weights_sha256"] == record.artifacts["weights.safetensors"].sha256
    assert found["tasks"][0]["task"] == "text" and found["tasks"][0]["instances"] == 16
    assert [row["depth"] for row in found["lens"]] == [row["depth"] for row in found["probes"]] == [0, 1, 2]
    assert {(row["of"], row["layer"]) for row in found["routing"]} == {("token", 0), ("token", 1), ("latent", 0), ("latent", 1)}
    assert len(found["ablation"]["rows"]) == 2 * 8 and not found["ablation"]["left_out"]
    assert [matrix[i][i] for matrix in (found["cka"]["own"], found["cka"]["against"]) for i in range(3)] == pytest.approx(
        [1] * 6
    )
    assert found["looks"] == [] and found["no_weights_to_read"] == []  # no token of a text is known to decide another


def test_a_text_runs_last_depth_is_about_as_good_as_its_record(inspected):
    """Nats of a byte in windows of val, from the first byte on, beside the slice's bits per byte."""
    last = content(inspected)["lens"][-1]
    assert last["nats"] == pytest.approx(micro.record(inspected).metrics.slice_bpb * 0.6931, abs=0.5)


def test_every_row_of_the_text_says_above_or_not_as_the_file_does(inspected):
    found, text = content(inspected), (inspected / "inspect" / "inspect.txt").read_text()
    silenced = sorted(found["ablation"]["rows"], key=lambda row: (not row["above"], -row["nats"]))[:MOST]
    rows = [*found["probes"], *found["routing"], *silenced]
    assert text.count(f"  {ABOVE}\n") == sum(row["above"] for row in rows)
    assert text.count(f"  {NOT}\n") == sum(not row["above"] for row in rows)
    assert "no answer of these tasks is decided by a single earlier token" in text


def test_the_same_run_gives_the_same_bytes(copy, inspected):
    assert main(["inspect", str(copy), "--against", str(copy), *QUICK, f"out={copy / 'elsewhere'}"]) == 0
    assert not (copy / "inspect").exists()
    first, second = (
        folder.read_text() for folder in (inspected / "inspect" / "inspect.txt", copy / "elsewhere" / "inspect.txt")
    )
    assert first == second
    assert (inspected / "inspect" / "inspect.png").read_bytes() == (copy / "elsewhere" / "inspect.png").read_bytes()


def test_a_dense_run_is_told_to_have_no_experts_and_is_read_otherwise(finished, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["inspect", str(finished("dense")), "--against", str(finished()), *QUICK, "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("the run is dense: it has no experts to ask about") == 2
    found = json.loads((out / "inspect.json").read_text())
    assert found["routing"] is None and len(found["cka"]["against"]) == 3


def refused(capsys, *words):
    capsys.readouterr()
    assert main(["inspect", *map(str, words)]) == 2
    return capsys.readouterr().err


def change(run, old, new):
    plan = run / "plan.yaml"
    assert old in plan.read_text()
    plan.write_text(plan.read_text().replace(old, new, 1))


def test_a_run_without_weights_is_refused(copy, capsys):
    (copy / "weights.safetensors").unlink()
    assert "it was pruned; train it again" in refused(capsys, copy)


def test_a_run_to_compare_with_needs_weights_too(finished, copy, capsys):
    (copy / "weights.safetensors").unlink()
    assert "it was pruned" in refused(capsys, finished(), "--against", copy)


def test_a_run_of_another_track_is_refused(finished, copy, capsys):
    change(copy, "name: tiny\n", "name: sotu\n")
    said = refused(capsys, finished(), "--against", copy)
    assert "is of track sotu, this run of tiny" in said and "leave --against out" in said


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("tasks: []", "tasks: [copy]", "trained on other tasks: copy differ"),
        ("sequence_length: 32", "sequence_length: 16", "reads sequences of 16 tokens, this run 32"),
    ],
)
def test_a_run_that_cannot_be_asked_the_same_is_refused(finished, copy, capsys, old, new, said):
    change(copy, old, new)
    assert said in refused(capsys, finished(), "--against", copy)


def test_a_folder_that_is_no_run_too_few_instances_and_two_runs_are_refused(finished, tmp_path, capsys):
    assert "record.json" in refused(capsys, tmp_path)
    assert "record.json" in refused(capsys, finished(), "--against", tmp_path)
    assert "at least 16" in refused(capsys, finished(), "--instances", "4")
    assert "1 run is enough" in refused(capsys, finished(), finished())
    assert "no run is named" in refused(capsys)


def test_other_seeds_than_the_runs_own_are_refused_with_the_study_that_looks_at_several(finished, capsys):
    said = refused(capsys, finished(), "seeds=1,2,3")
    assert "is a run with seed 1, seeds 1,2,3 were asked" in said and "make study NAME=routing-by-task SEEDS=1,2,3" in said
    assert "is a run with seed 1, seeds 4 were asked" in refused(capsys, finished(), "--seeds", "4")


def test_a_place_that_cannot_be_written_is_a_clear_error(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert "name another folder with --out" in refused(capsys, finished(), *QUICK, "--out", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
