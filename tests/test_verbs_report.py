"""`python -m harness report`: what it writes, what it refuses, and that it is the same each time."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from report_factory import edit_record, write_run

from harness.__main__ import main
from harness.report.board.claims import claim_name, record_sha256
from harness.report.groups import find_groups


@pytest.fixture(name="results", scope="module")
def results_fixture(tmp_path_factory) -> Path:
    """Sound records: two lanes of three seeds and one unranked run. Read only."""
    top = tmp_path_factory.mktemp("sound") / "results"
    for seed in (1, 2, 3):
        write_run(top / "moe" / str(seed), seed=seed, offset=0.003 * seed, finished_at=f"2026-01-0{seed}T00:00:00Z")
        write_run(top / "dense" / str(seed), lane="tiny-dense", twin="tiny-moe-16e", experts=0, seed=seed,
                  offset=0.002 * seed, step_s=0.2)  # fmt: skip
    write_run(top / "again", seed=9, reasons=("resumed 1 time",))
    return top


def report(*words: object) -> int:
    return main(["report", *map(str, words)])


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_it_writes_leaderboard_page_and_figures(results, tmp_path, capsys):
    assert report(results, "--out", tmp_path) == 0
    text = (tmp_path / "LEADERBOARD.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "tiny-" in line][:4]
    assert [row.split("|")[2].strip().split("<br>")[0] for row in rows] == [
        "**tiny-dense**", "twin tiny-moe-16e", "**tiny-moe-16e**", "twin tiny-dense",
    ]  # fmt: skip
    assert "## Unranked" in text and "resumed 1 time" in text
    assert len(list((tmp_path / "figures").glob("leaderboard-tiny-*.png"))) == 1
    assert len(list((tmp_path / "figures").glob("holders-tiny-*.png"))) == 1
    assert f"wrote {tmp_path / 'index.html'}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes(results, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(results, tmp_path / name / "results")
        assert report(tmp_path / name / "results", "--out", tmp_path / name / "results") == 0
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    before = hashes(tmp_path / "a")
    assert report(tmp_path / "a/results", "--out", tmp_path / "a/results") == 0
    assert hashes(tmp_path / "a") == before


def test_what_is_wrong_is_named_and_the_rest_reported(results, tmp_path, capsys):
    top = tmp_path / "results"
    shutil.copytree(results, top)
    edit_record(top / "dense/1", sign=False, metrics__val_bpb=1.0)
    edit_record(top / "moe/1", schema_version=99)
    for name, content in (("cut", '{"schema_version": 1, "la'), ("foreign", '{"name": "mine"}'), ("bytes", "\udcff")):
        (top / name).mkdir()
        (top / name / "record.json").write_bytes(content.encode(errors="surrogateescape"))
    assert report(top, "--out", top) == 1
    said = capsys.readouterr().err
    text, page = (top / "LEADERBOARD.md").read_text(), (top / "index.html").read_text()
    for shown in (said, text, page):
        for name in ("dense/1", "moe/1", "cut", "foreign", "bytes"):
            assert str(top / name) in shown, name
    assert "schema version 99" in said and "content_sha256" in said
    assert "| **tiny-dense**<br>" in text and "n = 2: a claim takes 3 seeds" in text


def test_a_claim_that_its_records_no_longer_bear_out_is_named(results, tmp_path, capsys):
    top = tmp_path / "results"
    for seed in (1, 2, 3):
        write_run(top / "tiny-dense" / f"{seed}-plan", lane="tiny-dense", experts=0, seed=seed, offset=0.002 * seed)
    (group,) = find_groups([top]).groups
    claim = {
        "schema_version": 1, "lane": "tiny-dense", "track": "tiny", "plan_hash": group.plan_hash,
        "hardware_class": group.hardware_class, "seeds": [1, 2, 3], "stop_step": 384,
        "records": {run.folder.name: record_sha256(run.folder) for run in group.runs},
        "tuning_trials": {"found": 4, "declared": 2}, "failed_seeds": {}, "submissions": [], "replaced": [],
    }  # fmt: skip
    (top / "tiny-dense" / claim_name(group.plan_hash, group.hardware_class)).write_text(json.dumps(claim))
    assert report(top, "--out", top) == 0
    assert "Tuning: 4 other plans tried for it." in (top / "index.html").read_text()
    shutil.rmtree(top / "tiny-dense/2-plan")
    assert report(top, "--out", top) == 1
    said, page = capsys.readouterr().err, (top / "index.html").read_text()
    assert "seed 2 was dropped" in said and "seed 2 was dropped" in page


def test_a_record_of_another_shape_does_not_stop_the_others(results, tmp_path, capsys):
    top = tmp_path / "results"
    shutil.copytree(results, top)
    edit_record(top / "moe/2", router_health__layers=[{}])
    assert report(top, "--out", top) == 1
    assert "moe/2/record.json is corrupt: router_health.layers[0].layer is missing" in capsys.readouterr().err
    assert "**tiny-dense**" in (top / "LEADERBOARD.md").read_text()


def test_figures_of_boards_that_are_gone_are_removed_and_others_stay(results, tmp_path):
    figures = tmp_path / "figures"
    figures.mkdir()
    for name in ("leaderboard-tiny-old-123456.png", "tiny-moe-16e-bpb.png"):
        (figures / name).write_bytes(b"png")
    assert report(results, "--out", tmp_path) == 0
    assert not (figures / "leaderboard-tiny-old-123456.png").exists() and (figures / "tiny-moe-16e-bpb.png").exists()


def test_bad_input_is_explained(tmp_path, capsys):
    for words in (["nowhere"], [tmp_path, "--out"], [tmp_path, "--colour"], [tmp_path], [tmp_path, "--out", __file__]):
        assert report(*words) == 2
    said = capsys.readouterr().err
    assert "nowhere is no folder" in said and "unknown word '--colour'" in said and "no record below" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_it_never_imports_torch(results, tmp_path):
    code = (
        "import sys; from harness.__main__ import main\n"
        f"status = main(['report', {str(results)!r}, '--out', {str(tmp_path)!r}])\n"
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
