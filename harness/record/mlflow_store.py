"""MLflow's store: used by one of our processes at a time, made whole or not at all, and its failures said in a sentence."""

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from harness.errors import UserError

WAIT_S = 60  # for others who use the store


def import_mlflow() -> None:
    """Imports MLflow, which is then quiet and calls nobody.

    Raises:
        UserError: it is not installed.
    """
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # MLflow's 7 keep asking a dead server for minutes
    for name in ("alembic", "mlflow.store", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its tracebacks say what its errors say
    try:
        import mlflow.tracking  # noqa: F401
    except ImportError as error:
        raise UserError(f"MLflow is not installed ({error})", "pip install mlflow, or run.mlflow=off") from error


@contextmanager
def reaching(store: str) -> Iterator[None]:
    """Turns whatever MLflow, its database or its server fail with into the sentence that a user can act on."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    ours = (sqlite3.Error, OSError, ImportError, ValueError)  # a database, a folder, a driver, an address
    try:
        yield
    except UserError:
        raise
    except (MlflowException, SQLAlchemyError, CommandError, RequestException, *ours) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the MLflow store {store} cannot be used: {why}",
            "mend it or move it away, or name another one in MLFLOW_TRACKING_URI",
        ) from error


def database_of(store: str) -> Path | None:
    """The file of an SQLite store; None for a store of another kind."""
    from sqlalchemy.engine import make_url

    path = make_url(store).database if store.startswith("sqlite") else None
    return Path(path) if path and path != ":memory:" else None


def connect(store: str, database: Path | None) -> Any:
    """An MlflowClient whose store has answered. To be called `alone`: the first of several makes the tables."""
    from mlflow.tracking import MlflowClient

    def opened(uri: str) -> Any:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
        return client

    if database and not (database.exists() and database.stat().st_size):
        # under another name: MLflow takes seconds and some forty steps, and cannot go on from half of them
        for left in database.parent.glob(f".{database.name}.*.new*"):
            left.unlink()
        new = database.with_name(f".{database.name}.{uuid4().hex}.new")
        opened(f"sqlite:///{new}")
        os.replace(new, database)
    return opened(store)


@contextmanager
def alone(database: Path | None) -> Iterator[None]:
    """Several runs may end at once, and a run be tracked twice: one after the other. A server sees to that itself.

    Raises:
        OSError, sqlite3.Error: others do not let go of the database, or it is none.
    """
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with open(database.parent / "mlflow.lock", "a") as lock:
        _wait_for(lock)
        if database.exists():
            _await_others(database)
        yield


def _wait_for(lock: TextIO) -> None:
    until = time.monotonic() + WAIT_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError(f"another process has held {lock.name} for {WAIT_S} s") from None
            time.sleep(0.1)


def _await_others(database: Path) -> None:
    """Waits for programs that know nothing of our lock. A file that is no database is found here too: MLflow would try it ten
    times, which takes 100 s."""
    with closing(sqlite3.connect(database, timeout=WAIT_S, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT count(*) FROM sqlite_master")
        connection.execute("ROLLBACK")
