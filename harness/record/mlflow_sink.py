"""A run folder, finished or still growing, as a run in MLflow. Training knows nothing of it.

One folder is one MLflow run however often it is tracked. Its key is a hash over identity.json and the first window of
metrics.jsonl, whose clock reading no other execution repeats: it needs nothing written into the folder, and a copy made on
another machine has the same. A tag says up to which step each kind of row has been logged; points have times that follow from
the folder, so that what was logged before a crash, but not yet tagged, is recognized by the store.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.plan.fingerprint import flattened
from harness.plan.stored import read_stored_plan, stored_moe_layers
from harness.reading import is_there
from harness.record.folder import is_running
from harness.record.lines import read_lines
from harness.record.mlflow_store import alone, connect, database_of, import_mlflow, reaching
from harness.record.points import Point, of_record, points
from harness.record.read import by_kind, check_shapes, read_identity, read_record
from harness.record.rows import ROWS

KEY, LOGGED, FILES = "speedrun.key", "speedrun.logged", "speedrun.files"
BATCH = 1000  # what MLflow takes in one call
FIGURES = "*.png"
REMEDY = "name a folder below runs/"


def default_store(runs: str | Path = "runs") -> str:
    """MLFLOW_TRACKING_URI, else a SQLite file in the folder of runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs}/mlflow.db"


class Sink:
    """A store of MLflow that folders are tracked in.

    Raises:
        UserError: MLflow is missing, or its store cannot be used.
    """

    def __init__(self, store: str):
        import_mlflow()
        self.store = store
        with reaching(store):
            self.database = database_of(store)
            self.artifacts = (self.database.parent / "mlflow-artifacts").resolve() if self.database else None
            with alone(self.database):
                self.client = connect(store, self.database)

    def track(self, folder: Path) -> tuple[str, int] | None:
        """Brings MLflow up to the folder's present state: (MLflow's run id, points logged now). None while the folder has no
        closed window yet.

        Raises:
            UserError: it is no run folder, its files are damaged, or the store fails.
        """
        run = _Folder(folder)
        if run.key is None:
            return None
        with reaching(self.store), alone(self.database):
            return self._bring_up(run)

    def _bring_up(self, run: "_Folder") -> tuple[str, int]:
        run_id, begun_ms, tags = self._run(run)
        logged = json.loads(tags.get(LOGGED, "{}"))
        new = [p for p in run.points() if p.step > logged.get(p.kind, 0)]
        for batch in _batches(new):
            self.client.log_batch(run_id, metrics=[self._metric(p, begun_ms) for p in batch])
        for point in new:
            logged[point.kind] = max(logged.get(point.kind, 0), point.step)
        files = self._files(run_id, run, json.loads(tags.get(FILES, "{}")))
        self._tag(run_id, run.tags | {LOGGED: json.dumps(logged), FILES: json.dumps(files)})
        if run.state != "RUNNING":
            self.client.set_terminated(run_id, run.state, run.ended_ms)
        return run_id, len(new)

    def _run(self, run: "_Folder") -> tuple[str, int, dict[str, str]]:
        """The MLflow run of this folder, made if need be, and open for writing: its id, its beginning, its tags."""
        experiment = self.client.get_experiment_by_name(run.experiment)
        if experiment is None:
            place = f"{self.artifacts.as_uri()}/{run.experiment}" if self.artifacts else None
            experiment_id = self._made(run.experiment, place)
        else:
            experiment_id = experiment.experiment_id
        found = self.client.search_runs([experiment_id], f"tags.`{KEY}` = '{run.key}'", max_results=1)
        if found:
            self.client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id, found[0].info.start_time, found[0].data.tags
        made = self.client.create_run(experiment_id, run.started_ms, {KEY: run.key}, run_name=run.name)
        for some in _batches(_params(run.plan), 100):
            self.client.log_batch(made.info.run_id, params=some)
        return made.info.run_id, run.started_ms, {}

    def _made(self, experiment: str, place: str | None) -> str:
        """The id of a new experiment, or of the one that another process has made meanwhile: a server has no lock of ours."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.create_experiment(experiment, artifact_location=place)
        except MlflowException:
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                raise
            return found.experiment_id

    def _files(self, run_id: str, run: "_Folder", logged: dict[str, str]) -> dict[str, str]:
        """Uploads what is new or has changed; {name: sha256}. Named after the run: a search of the runs folder for
        record.json must not meet MLflow's copy of one."""
        for path in sorted([*run.path.glob("*.json"), run.path / "plan.yaml", *run.path.glob(FIGURES)]):
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
            if digest is None or logged.get(path.name) == digest:
                continue
            with tempfile.TemporaryDirectory() as place:
                copy = Path(place) / (path.name if path.suffix == ".png" else f"{run.path.name}.{path.name}")
                copy.write_bytes(path.read_bytes())
                self.client.log_artifact(run_id, str(copy))
            logged[path.name] = digest
        return logged

    def _tag(self, run_id: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @staticmethod
    def _metric(point: Point, started_ms: int):
        from mlflow.entities import Metric

        return Metric(point.name, point.value, started_ms + round(1000 * point.seconds), point.step)


class _Folder:
    """What the sink needs to know of a run folder."""

    def __init__(self, path: Path):
        self.path = path = path.resolve()
        self.plan = read_stored_plan(path / "plan.yaml", REMEDY)
        self.identity = read_identity(path)
        if self.identity is None:
            raise UserError(f"{path} is no run folder: it has no identity.json", REMEDY)
        self.record = read_record(path) if is_there(path / "record.json") else None
        log = path / "metrics.jsonl"
        self.rows = read_lines(log, ROWS, ended=False) if is_there(log) else []
        kinds = by_kind(self.rows)
        check_shapes(self.plan, kinds, log)
        first = next(iter(kinds["window"]), None)
        self.key = None
        if first is not None:
            unique = json.dumps([self.identity.content(), first], sort_keys=True)
            self.key = hashlib.sha256(unique.encode()).hexdigest()[:32]
        self.experiment, self.name = self.plan["track"]["name"], f"{path.parent.name}/{path.name}"
        self.moe_layers = stored_moe_layers(self.plan)
        origin = self.record.provenance if self.record else None
        made = (path / "identity.json").stat().st_mtime
        self.started_ms = _ms(origin and origin.started_at) or int(made * 1000)
        self.ended_ms = _ms(origin and origin.finished_at)
        stopped = is_there(path / "stopped.json")
        self.state = "FINISHED" if self.record else "FAILED" if stopped else "RUNNING" if is_running(path) else "KILLED"

    def points(self) -> Iterator[Point]:
        yield from points(self.rows, self.moe_layers, ended=self.state != "RUNNING")
        if self.record:
            yield from of_record(self.record)

    @property
    def tags(self) -> dict[str, str]:
        """All that is known so far; a live run learns the rest at its end."""
        tags = {
            "lane": self.plan["lane"]["name"], "track": self.plan["track"]["name"], "seed": str(self.plan["seed"]),
            "plan_hash": self.identity.plan_hash, "hardware_class": self.identity.hardware_class,
            "folder": str(self.path),
        }  # fmt: skip
        if self.identity.commit:
            tags["commit"] = self.identity.commit
        if self.record:
            r = self.record
            tags |= {
                "commit": r.provenance.commit, "ranked": str(r.ranked).lower(), "execution": r.precision.execution,
                "unranked_reasons": "; ".join(r.unranked_reasons) or "none",
                "untimed_reasons": r.disturbed or "none",
            }  # fmt: skip
        return tags


def _params(plan: dict[str, Any]) -> Iterator[Any]:
    from mlflow.entities import Param

    return (Param(key, str(value)) for key, value in flattened(plan).items())


def _batches(items: Iterable[Any], size: int = BATCH) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _ms(stamp: str | None) -> int | None:
    """None where there is no date, or none that MLflow could hold."""
    try:
        return max(0, int(datetime.fromisoformat(stamp or "").timestamp() * 1000)) or None
    except (ValueError, OverflowError):
        return None
