"""MLflow gets a run folder whole, once, and while it grows; and no run fails by it."""

import fcntl
import itertools
import json
import math
import shutil
import sqlite3
import subprocess
import sys
import threading

import micro
import pytest
from micro import finished_fixture, no_figures_fixture  # noqa: F401
from report_factory import write_run

from harness.__main__ import main
from harness.errors import UserError
from harness.launch import sinks
from harness.record import mlflow_sink, mlflow_store
from harness.record.mlflow_sink import Sink, default_store

pytestmark = pytest.mark.slow

EXECUTIONS = itertools.count()  # each takes its own time


@pytest.fixture(scope="module")
def sink(tmp_path_factory):
    """One store for all tests: making its tables takes longer than everything else."""
    return Sink(f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}")


@pytest.fixture
def folder(tmp_path):
    """A synthetic run as a run leaves it: with the window's clock that tells executions apart."""

    def make(name="1-aaaa", **words):
        path = write_run(
            tmp_path / "tiny-moe-16e" / name, steps=64, validations=(16, 32), step_s=0.2 + 0.001 * next(EXECUTIONS), **words
        )
        (path / "bpb.png").write_bytes(b"figure")
        return path

    return make


def history(sink, run_id, name):
    return [(m.step, m.value) for m in sorted(sink.client.get_metric_history(run_id, name), key=lambda m: m.step)]


def logged(path, kind, name):
    rows = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row[name]) for row in rows if row["kind"] == kind]


def test_a_finished_run_arrives_with_plan_curves_router_metrics_figures_and_record(sink, folder):
    path = folder()
    run_id, _ = sink.track(path)
    assert history(sink, run_id, "loss") == logged(path, "step", "loss")
    assert history(sink, run_id, "slice_bpb") == logged(path, "validation", "slice_bpb")
    assert len(history(sink, run_id, "router/layer_3/entropy_ratio")) == 4 and history(sink, run_id, "update_ratio/expert")
    run = sink.client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.params["model.num_experts"] == "16"
    record = micro.record(path)
    expected = {"lane": "tiny-moe-16e", "track": "tiny", "seed": "1", "ranked": "true", "execution": "native"}
    expected |= {key: getattr(record, key) for key in ("plan_hash", "hardware_class")} | {"commit": record.provenance.commit}
    assert expected.items() <= run.data.tags.items()
    assert run.data.metrics["run/tokens_per_second"] == record.metrics.tokens_per_second
    names = {artifact.path for artifact in sink.client.list_artifacts(run_id)}
    assert {"bpb.png", "1-aaaa.record.json", "1-aaaa.plan.yaml"} <= names


def test_what_a_format_does_arrives_and_figures_that_are_no_number_stop_nothing(sink, folder):
    path = folder(precision="nvfp4", execution="emulated")
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    windows = [row for row in rows if row["kind"] == "window"]
    for row, value in zip(windows, (math.inf, math.nan, -math.inf)):
        row["precision"]["tensors"]["0"]["input"]["snr_db"] = value
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_id, _ = sink.track(path)
    last = windows[-1]["precision"]
    assert history(sink, run_id, "precision/snr_db/input/layer0") == [(64, last["tensors"]["0"]["input"]["snr_db"])]
    expected = [(row["step"], row["precision"]["flips"]["3"]["down"]) for row in windows]
    assert history(sink, run_id, "precision/flips/down/layer3") == expected
    assert history(sink, run_id, "precision/smallest_step/layer3")[-1] == (64, last["smallest_step"]["3"])
    assert sink.track(path) == (run_id, 0) and sink.client.get_run(run_id).data.tags["execution"] == "emulated"


def test_no_copy_is_found_by_a_search_for_records(sink, folder):
    sink.track(folder())
    assert list(sink.artifacts.rglob("*record.json")) and not list(sink.artifacts.rglob("record.json"))


def test_tracking_again_adds_nothing_and_a_copy_elsewhere_is_the_same_run(sink, folder, tmp_path):
    path = folder()
    run_id, points = sink.track(path)
    before = history(sink, run_id, "loss")
    copy = shutil.copytree(path, tmp_path / "another machine" / "1-aaaa")
    assert points > 0 and sink.track(path) == (run_id, 0) and sink.track(copy) == (run_id, 0)
    assert history(sink, run_id, "loss") == before


def test_points_logged_before_a_crash_are_not_logged_twice(sink, folder):
    path = folder()
    run_id, points = sink.track(path)
    before = history(sink, run_id, "loss")
    sink.client.set_tag(run_id, "speedrun.logged", "{}")
    assert sink.track(path) == (run_id, points) and history(sink, run_id, "loss") == before


def test_two_executions_of_one_plan_and_seed_are_two_runs(sink, folder):
    assert sink.track(folder("1-aaaa"))[0] != sink.track(folder("1-aaaa.2"))[0]


def test_a_run_that_goes_on_grows_and_then_ends(sink, folder):
    path = folder("live")
    record, rows = (path / "record.json").read_bytes(), (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "record.json").unlink()
    (path / "metrics.jsonl").write_text("".join(rows[:5]))
    with open(path / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sink.track(path) is None  # no window yet
        (path / "metrics.jsonl").write_text("".join(rows[:30])[:-20])
        run_id, _ = sink.track(path)
        assert sink.client.get_run(run_id).info.status == "RUNNING"
        assert [s for s, _ in history(sink, run_id, "loss")] == list(range(1, 17))
    (path / "metrics.jsonl").write_text("".join(rows))
    assert sink.track(path)[0] == run_id and sink.client.get_run(run_id).info.status == "KILLED"
    (path / "record.json").write_bytes(record)
    assert sink.track(path)[0] == run_id and sink.client.get_run(run_id).info.status == "FINISHED"
    assert history(sink, run_id, "loss") == logged(path, "step", "loss")
    assert history(sink, run_id, "slice_bpb") == logged(path, "validation", "slice_bpb")


def test_a_damaged_line_is_named(sink, folder):
    path = folder()
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join([*lines[:3], "{broken\n", *lines[3:]]))
    with pytest.raises(UserError, match="corrupt in line 4"):
        sink.track(path)


def test_a_real_run_is_tracked_whole(sink, finished):
    run_id, _ = sink.track(finished())
    assert history(sink, run_id, "loss") == logged(finished(), "step", "loss")
    assert history(sink, run_id, "val_bpb") == [(32, micro.record(finished()).metrics.val_bpb)]
    assert sink.client.get_run(run_id).data.params["run.mlflow"] == "off"


def test_the_store_is_the_one_that_the_environment_names(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere.db")
    assert default_store("runs") == "sqlite:////elsewhere.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert default_store("runs") == "sqlite:///runs/mlflow.db"


@pytest.mark.parametrize("when", ["end", "off"])
def test_a_speedrun_is_tracked_at_its_end_and_its_last_line_stays_the_record(tmp_path, monkeypatch, capsys, no_figures, when):
    monkeypatch.setattr("harness.launch.sinks.log_at_end", lambda run, runs: print("in MLflow", run, runs))
    path = micro.run(tmp_path, f"run.mlflow={when}", lane=micro.DENSE)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"record: {path / 'record.json'}"
    assert (lines[-2] == f"in MLflow {path} {tmp_path}") == (when == "end")


@pytest.mark.process
def test_a_missing_mlflow_is_one_line_of_warning(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "mlflow.py").write_text("raise ImportError('none here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sinks.log_at_end(folder(), str(tmp_path))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: not in MLflow: MLflow is not installed (none here)")


def test_the_process_of_the_end_tracks_quietly_and_a_second_time_adds_nothing(folder, tmp_path, sink, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sink.store)
    path = folder()
    sinks.log_at_end(path, str(tmp_path))
    assert capsys.readouterr() == (f"MLflow: mlflow ui --backend-store-uri {sink.store}\n", "")
    assert sink.track(path)[1] == 0 and not (tmp_path / "mlflow.db").exists()


def test_a_live_run_starts_a_follower_and_says_what_it_costs(tmp_path, monkeypatch, capsys, no_figures):
    started = []
    monkeypatch.setattr("harness.launch.sinks.start_follower", lambda *words: started.append(words))
    monkeypatch.setattr("harness.launch.sinks.log_at_end", lambda run, runs: None)
    path = micro.run(tmp_path, "run.mlflow=live", lane=micro.DENSE)
    assert started == [(path, str(tmp_path))]
    assert "shares this machine with the timed run" in capsys.readouterr().out


def test_the_follower_tails_a_run_at_the_lowest_priority_until_it_ends(sink, folder, monkeypatch, capsys):
    path = folder("followed")
    record, rows = (path / "record.json").read_bytes(), (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "record.json").unlink()
    (path / "metrics.jsonl").write_text("".join(rows[:20]))
    lock, naps, niceness = open(path / "lock", "a"), [], []
    fcntl.flock(lock, fcntl.LOCK_EX)

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            (path / "metrics.jsonl").write_text("".join(rows))
            (path / "record.json").write_bytes(record)
            lock.close()

    monkeypatch.setattr("harness.verbs.mlflow.time.sleep", nap)
    monkeypatch.setattr("harness.verbs.mlflow.os.nice", niceness.append)
    assert main(["mlflow", str(path), "--follow", "--store", sink.store]) == 0
    said = capsys.readouterr().out
    run_id = sink.track(path)[0]
    assert len(naps) == 2 and niceness == [19] and run_id in said
    assert history(sink, run_id, "loss") == logged(path, "step", "loss")
    assert sink.client.get_run(run_id).info.status == "FINISHED"


def test_a_key_that_names_no_way_of_tracking_is_refused(tmp_path, capsys):
    assert micro.speedrun(tmp_path / "runs", "run.mlflow=later") == 2
    assert "run.mlflow='later'" in capsys.readouterr().err


@pytest.fixture
def database(sink, tmp_path):
    """A store of a test's own, made already."""
    return shutil.copy(sink.database, tmp_path / "mlflow.db")


def test_two_runs_that_end_at_once_on_a_store_that_is_not_there_yet_are_both_in_it(folder, tmp_path):
    store, paths = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}", [folder("1-aaaa"), folder("2-aaaa")]
    command = [sys.executable, "-m", "harness", "mlflow", "--store", store]
    started = [subprocess.Popen([*command, path], cwd=micro.ROOT, stderr=subprocess.PIPE, text=True) for path in paths]
    assert [(process.communicate()[1], process.returncode) for process in started] == [("", 0)] * 2
    both = Sink(store)
    assert [both.track(path)[1] for path in paths] == [0, 0]
    assert sorted(path.name for path in both.database.parent.iterdir()) == ["mlflow-artifacts", "mlflow.db", "mlflow.lock"]


def test_a_store_that_is_killed_while_it_is_made_is_made_anew(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    store, database = f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlflow.db"
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Sink(store)
    assert not database.exists() and list(tmp_path.glob(".mlflow.db.*"))
    Sink(store)
    assert database.exists() and not list(tmp_path.glob(".mlflow.db.*"))


def test_a_database_that_another_program_has_locked_is_waited_for(folder, database, monkeypatch):
    held = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    held.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.5, held.close)
    release.start()
    assert Sink(f"sqlite:///{database}").track(folder())[1] > 0
    release.join()


@pytest.mark.parametrize("what", ["the database", "our lock"])
def test_a_store_that_is_not_let_go_of_is_an_error(folder, database, monkeypatch, what, capsys):
    monkeypatch.setattr(mlflow_store, "WAIT_S", 0.2)
    monkeypatch.setattr(mlflow_sink, "connect", None)  # MLflow itself would wait for longer
    held, lock = sqlite3.connect(database, isolation_level=None), open(database.parent / "mlflow.lock", "a")
    if what == "the database":
        held.execute("BEGIN EXCLUSIVE")
    else:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert main(["mlflow", str(folder()), "--store", f"sqlite:///{database}"]) == 2
    held.close(), lock.close()
    assert ("database is locked" if what == "the database" else "another process has held") in capsys.readouterr().err


@pytest.mark.parametrize(
    "how", ["truncated", "garbage", "a folder", "artifacts that cannot be written", "a folder that cannot be made"]
)
def test_a_store_that_is_damaged_or_cannot_be_written_is_an_error_that_is_explained(folder, database, how, monkeypatch, capsys):
    def denied(self, run_id, path):
        raise PermissionError(13, "Permission denied", path)

    path = database
    if how in ("truncated", "garbage", "a folder"):
        monkeypatch.setattr(mlflow_sink, "connect", None)  # MLflow itself would try ten times, for 100 s
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:20_000])
    elif how == "garbage":
        path.write_bytes(b"no database at all" * 100)
    elif how == "a folder":
        path = path.parent
    elif how == "artifacts that cannot be written":
        monkeypatch.setattr("mlflow.tracking.MlflowClient.log_artifact", denied)
    else:
        path = path / "below a file" / "mlflow.db"
    assert main(["mlflow", str(folder()), "--store", f"sqlite:///{path}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: the MLflow store sqlite:///{path} cannot be used: ") and "MLFLOW_TRACKING_URI" in said


@pytest.mark.parametrize(
    "store",
    ["nonsense://somewhere", "http://[bad", "sqlite:x", "a word", "http://127.0.0.1:9", "postgresql://me@127.0.0.1:9/x"],
)
def test_a_store_that_is_none_or_does_not_answer_is_an_error_that_is_explained(folder, tmp_path, monkeypatch, store, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)
    path = folder()
    before = sorted(tmp_path.iterdir())
    assert main(["mlflow", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: the MLflow store {store} cannot be used: ")
    assert sorted(tmp_path.iterdir()) == before
