"""What is committed in results/."""

import micro

from harness.record.record_folders import record_folders
from harness.report.board.claims import check_claims
from harness.report.integrity import check
from harness.report.run_data import load_run

RESULTS = micro.ROOT / "results"


def test_every_committed_record_and_claim_can_be_read_and_is_whole():
    folders = record_folders([RESULTS], studies=True)
    found = [f"{folder}: {sentence}" for folder in folders for sentence in check(load_run(folder))]
    assert folders and found + check_claims(RESULTS) == []
