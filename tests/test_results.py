"""What is committed in results/: the only tests that read it. Everything else is tested on golden runs and synthetic ones."""

import json
import shutil
from functools import cache
from pathlib import Path

import micro
import pytest

from harness.__main__ import main
from harness.doctor import patient
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.lanes import lane_names
from harness.reading import read_json
from harness.record.read import read_claim, read_identity, read_stop
from harness.record.record_folders import record_folders
from harness.record.results import BASELINE_VERSION, Baseline
from harness.record.run import read_run
from harness.report import run_data
from harness.report.board.claims import check_claims
from harness.report.board.gather import gather, slug
from harness.report.board.history import history_json
from harness.report.board.markdown import leaderboard_markdown
from harness.report.board.page import render_page
from harness.report.board.passages import refreshed
from harness.report.integrity import check
from harness.report.run.table import end_table
from harness.report.run_data import load_run
from harness.verbs.report import PRINTERS

RESULTS = Path("results")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(micro.ROOT)


@pytest.fixture(autouse=True, scope="module")
def read_once():
    """A folder that many tables are of is read for the first of them."""
    with pytest.MonkeyPatch.context() as patch:
        once = cache(read_run)
        for reader in (run_data, patient):
            patch.setattr(reader, "read_run", once)
        yield


@pytest.mark.slow
def test_every_committed_record_and_claim_can_be_read_is_whole_and_belongs_to_its_lane():
    runs = [load_run(folder) for folder in record_folders([RESULTS], studies=True)]
    found = [f"{run.folder}: {sentence}" for run in runs for sentence in check(run)]
    assert runs and found + check_claims(RESULTS) == []
    others = [read_identity(path.parent) for path in RESULTS.rglob("identity.json")]
    others += [read_stop(path.parent) for path in RESULTS.rglob("stopped.json")]
    others += [read_claim(path) for path in RESULTS.rglob("claim-*.json")]
    others += [read_json(path, Baseline, newest=BASELINE_VERSION) for path in (RESULTS / "baselines").glob("*.json")]
    assert others and all(others)
    assert not list(RESULTS.rglob("metrics.jsonl")), "rows are kept packed"
    stated = [json.loads((run.folder / "record.json").read_text()) for run in runs]
    ranked = {record["lane"]: record["plan_hash"] for record in stated if record["ranked"]}
    assert ranked.keys() <= set(lane_names())
    assert ranked == {lane: plan_hash(compose([f"lane={lane}"]).plan) for lane in ranked}


@pytest.mark.slow
def test_what_is_generated_from_the_committed_records_is_up_to_date(tmp_path, capsys):
    """Figures apart from the renderer's bits: they are drawn, and study.json holds the numbers that they are drawn from."""
    leaderboard, page = gather([RESULTS]), (RESULTS / "README.md").read_text()
    assert (RESULTS / "LEADERBOARD.md").read_text() == leaderboard_markdown(leaderboard, RESULTS)
    assert (RESULTS / "index.html").read_text() == render_page(leaderboard, RESULTS)
    for board in (board for board in leaderboard.boards if board.history):
        assert (RESULTS / f"history/{slug(board)}.json").read_bytes() == history_json(board, RESULTS / "history")
    assert page == refreshed(page, PRINTERS, RESULTS / "README.md")
    shown = (load_run(RESULTS / lane) for lane in ("tiny-moe-16e/1-ef0b421a.3", "tiny-dense/1-18493b88.3"))
    assert end_table(*shown) in Path("README.md").read_text()
    for verb, home in (("study", "studies"), ("series", "series")):
        for folder in sorted((RESULTS / home).glob("*")):
            copy = shutil.copytree(folder, tmp_path / home / folder.name)
            assert main([verb, "--from", str(copy)]) == 0
            same = {path.name for path in folder.glob("*.json")} | {f"{verb}.md"}
            assert all((copy / name).read_bytes() == (folder / name).read_bytes() for name in same)
    assert "has no record of" not in capsys.readouterr().err
