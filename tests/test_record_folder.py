"""The run folder's log."""

import json

import pytest

from harness.errors import UserError
from harness.record.folder import MetricsLog


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_resume_cuts_the_log_back_to_where_its_checkpoint_was(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append([{"step": 1}, {"step": 2}])
    position = log.sync()
    log.append([{"step": 3}])
    log.file.close()
    path.write_bytes(path.read_bytes() + b'{"step":')  # a row that a kill cut short
    again = MetricsLog(path, position)
    again.append([{"step": 3}])
    assert again.sync() == path.stat().st_size
    assert lines(path) == [{"step": 1}, {"step": 2}, {"step": 3}]


def test_a_new_run_starts_an_empty_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("old\n")
    MetricsLog(path).append([{"step": 1}])
    assert lines(path) == [{"step": 1}]


def test_a_position_is_on_disk_before_anything_points_to_it(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("harness.record.folder.os.fsync", synced.append)
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append([{"step": 1}])
    assert log.sync() == len(b'{"step":1}\n') and synced == [log.file.fileno()]


def test_a_full_disk_is_a_user_error(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.file.close()
    log.file = open("/dev/full", "wb", buffering=0)
    with pytest.raises(UserError, match="cannot write /dev/full: .*No space left"):
        log.append([{"step": 1}])
