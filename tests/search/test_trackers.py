"""Trackers get each run of a study exactly once, whatever happens on the way."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import programs
import pytest
import tiny
import trackers
from availability import needed

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.rows import provenance_id, write_runs
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.setup.creation import create_study
from pairsearch.search.tracking.exporting import Target, export
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.configuration import Configuration

SECRET = "open-sesame"  # noqa: S105
DIVERGED, FAILED = tiny.point(10, 1e-4, 0.1), tiny.point(25, 1e-4, 0.0)
BEYOND = tiny.point(99, 1e-4, 0.0)
READERS: dict[str, Callable[[str, str], dict[str, trackers.Seen]]] = {
    "tensorboard": trackers.in_tensorboard,
    "wandb": trackers.in_wandb,
    "mlflow": trackers.in_mlflow,
}
"""MLflow's server starts while the others are tested."""
TRACKER = pytest.mark.parametrize("name", READERS)


def answer(configuration: Configuration) -> Any:
    if configuration == DIVERGED:
        return tiny.diverged(configuration)
    if configuration == FAILED:
        raise RuntimeError(f"no room at postgresql://me:{SECRET}@here/studies")
    return tiny.outcome(configuration)


def search(database: Database, study: StoredStudy, give: Callable[[Configuration], Any]) -> None:
    Worker(database, study, tiny.Answering(give), stopping=threading.Event(), patience=0.0).run()


@pytest.fixture(scope="session", autouse=True)
def mlflow_starting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with trackers.mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture
def place(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where a tracker is, with a password in MLflow's URI, which the server does not ask for."""
    needed(name)
    if name != "mlflow":
        return str(tmp_path / name)
    uri: str = request.getfixturevalue("mlflow_starting")
    programs.wait_for(lambda: trackers.answers(uri), "MLflow's server")
    return uri.replace("http://", f"http://me:{SECRET}@")


@pytest.fixture
def searched(tmp_path: Path, name: str) -> Iterator[tuple[Database, StoredStudy]]:
    """A study with a diverged and a failed configuration, with rounds of the best, and of one beyond the grid."""
    database = open_database(f"sqlite:///{tmp_path}/study.db", create=True)
    study = create_study(database, tiny.loaded(name=f"tiny-{tmp_path.name}"[:60].lower().rstrip("-_"))).study
    search(database, study, answer)
    with database.write() as connection:
        origin = provenance_id(connection, {"host": "there"})
        about = {
            "study_id": study.id,
            "facts": json.dumps({"parameters": "7"}),
            "provenance_id": origin,
            "seconds": 2.0,
        }
        results = [RunResult(number, {"test_error": [math.nan, 0.25]}) for number in range(2)]
        for point in (tiny.point(10, 1e-3, 0.0), BEYOND):
            write_runs(connection, point.key, "round", results, about)
    yield database, study
    database.close()


def expected(database: Database) -> dict[tuple[str, str, str], dict[str, dict[int, float]]]:
    """The finite points of folds and rounds in the database, by key, kind and number."""
    found: dict[tuple[str, str, str], dict[str, dict[int, float]]] = {}
    for key, kind, run, figure, points in tiny.rows(
        database,
        "runs",
        "r.key, r.kind, r.run, c.figure, c.points",
        "r join pairsearch_curves c on c.run_id = r.id",
    ):
        read = dict(enumerate(json.loads(points), start=1))
        finite = {epoch: point for epoch, point in read.items() if point is not None}
        found.setdefault((key, kind, str(run)), {})[figure] = pytest.approx(finite)
    return found


@TRACKER
def test_each_run_is_there_once_with_all_its_figures(
    name: str, place: str, searched: tuple[Database, StoredStudy]
) -> None:
    database, study = searched
    target = Target.of(f"{name}={place}")
    done = export(database, study, target)
    assert (done.written, done.there) == (8 + 1 + 14 + 4, 0)
    seen = READERS[name](place, study.name)
    assert_all_there(database, study, seen)
    of_study = next(one for one in seen.values() if "metric" in one.tags)
    assert (of_study.tags["finished"], of_study.tags["failed"], of_study.tags["evaluated"]) == ("6", "1", "1")
    assert SECRET not in repr(seen) + repr(done)
    assert export(database, study, target) == done._replace(written=0, there=done.written)
    assert READERS[name](place, study.name) == seen

    Ledger(database, study).retry()
    assert export(database, study, target).written == 0  # until it has ended
    search(database, study, tiny.outcome)
    assert export(database, study, target).written == 1 + 2
    after = READERS[name](place, study.name)
    assert_all_there(database, study, after)
    old = {
        run: one
        for run, one in seen.items()
        if one.tags.get("key") != FAILED.key and "metric" not in one.tags
    }
    assert old.items() <= after.items()
    (again,) = (one for one in after.values() if one.tags.get("key") == FAILED.key and "position" in one.tags)
    assert (again.tags["state"], "reason" in again.tags) == ("finished", False)


def assert_all_there(database: Database, study: StoredStudy, seen: dict[str, trackers.Seen]) -> None:
    """Hold what a tracker has against the database."""
    runs = expected(database)
    states = dict(tiny.rows(database, "configurations", "key, state"))
    assert len(seen) == 1 + len(states) + 1 + len(runs)
    keyed = {}
    for run, one in seen.items():
        kind = next((kind for kind in ("fold", "round") if kind in one.tags), "")
        keyed[one.tags.get("key", ""), kind, one.tags.get(kind, "")] = run, one
    assert len(keyed) == len(seen)
    for of_run, curves in runs.items():
        run, one = keyed[of_run]
        assert {figure: one.points.get(figure, {}) for figure in curves} == curves
        assert one.tags["host"] == ("there" if of_run[1] == "round" else "here")
        assert one.parent in (None, keyed[of_run[0], "", ""][0])
    for key, state in [*states.items(), (BEYOND.key, "evaluated")]:
        run, one = keyed[key, "", ""]
        assert (one.tags["study"], one.tags["state"]) == (study.name, state)
        assert one.parent in (None, keyed["", "", ""][0])
        if state == "finished":
            params = tiny.rows(database, "configurations", "params", f"where \"key\" = '{key}'")[0][0]
            assert {name: float(str(value)) for name, value in one.params.items()} == json.loads(params)
            (value,) = (
                value
                for (value,) in tiny.rows(database, "configurations", "value", f"where \"key\" = '{key}'")
            )
            assert one.points["val_loss"][2] == pytest.approx(value)
        elif state == "failed":
            assert "***" in one.tags["reason"]


def export_and_die(url: str, study: str, target: str, writes: int) -> None:
    """Be killed in the middle of a run, after some others."""
    chosen = Target.of(target)
    if chosen.name == "mlflow":
        victim = (needed("mlflow").MlflowClient, "set_terminated")
    elif chosen.name == "wandb":
        victim = (needed("wandb").Run, "finish")
    else:
        victim = (Path, "replace")
    left, whole = [writes], getattr(*victim)

    def dying(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments, **options)

    setattr(*victim, dying)
    database = open_database(url)
    export(database, get_study(database, study), chosen)


@TRACKER
def test_an_export_that_was_killed_goes_on(
    name: str, place: str, searched: tuple[Database, StoredStudy]
) -> None:
    database, study = searched
    url, target = database.url.render_as_string(), f"{name}={place}"
    assert programs.together(export_and_die, 1, url, study.name, target, 6) == [-signal.SIGKILL]
    done = export(database, study, Target.of(target))
    assert done.there > 0
    assert_all_there(database, study, READERS[name](place, study.name))
