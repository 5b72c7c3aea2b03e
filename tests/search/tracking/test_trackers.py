"""Trackers get each run of a study exactly once, whatever happens on the way."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
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

from pairsearch.search.common.errors import InputError
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.rows import provenance_id, write_runs
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.tracking import exporting, following
from pairsearch.search.tracking.exporting import Target, TrackerError, export
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.configuration import Configuration

SECRET = "open-sesame"  # noqa: S105
DIVERGED, FAILED = tiny.point(10, 1e-4, 0.1), tiny.point(25, 1e-4, 0.0)
ODD = "größe=@5 %"
"""The name of a fact; some trackers refuse such names."""
BEYOND = tiny.point(99, 1e-4, 0.0)
BEST = tiny.point(10, 1e-3, 0.0)
GRID = [{name: [value] for name, value in one.params.items()} for one in (BEST, DIVERGED, FAILED)]
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
    Worker(open_ledger(database, study), tiny.Answering(give), stopping=threading.Event()).run()


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
    named = f"tiny-{tmp_path.name}"[:60].lower().rstrip("-_")
    study = create_study(database, tiny.loaded(name=named, grid=GRID)).study
    search(database, study, answer)
    with database.write() as connection:
        origin = provenance_id(connection, {"host": "there"})
        about = {
            "study_id": study.id,
            "facts": json.dumps({"parameters": "7", ODD: "odd", "": "odd", f"mlflow.{'x' * 300}/": "odd"}),
            "provenance_id": origin,
            "seconds": 2.0,
        }
        results = [RunResult(0, {"test_error": [math.nan, 0.25]})]
        for point in (BEST, BEYOND):
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
    assert (done.written, done.there) == (3 + 1 + 4 + 2, 0)
    seen = READERS[name](place, study.name)
    assert_all_there(database, study, seen)
    of_study = next(one for one in seen.values() if "metric" in one.tags)
    assert (of_study.tags["finished"], of_study.tags["failed"], of_study.tags["evaluated"]) == ("1", "1", "1")
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
        assert [*one.tags.values()].count("odd") == (3 if of_run[1] == "round" else 0)
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


def export_again(url: str, study: str, target: str) -> None:
    """Export with another at the same time, which may be in the way."""
    database = open_database(url)
    with contextlib.suppress(TrackerError):
        export(database, get_study(database, study), Target.of(target))


@TRACKER
def test_an_export_that_was_killed_goes_on(
    name: str, place: str, searched: tuple[Database, StoredStudy]
) -> None:
    database, study = searched
    url, target = database.url.render_as_string(), f"{name}={place}"
    assert programs.together(export_and_die, 1, url, study.name, target, 4) == [-signal.SIGKILL]
    # Two go on at the same time, and one after them finds whatever they did twice.
    (other,) = programs.start_together(export_again, 1, url, study.name, target)
    export_again(url, study.name, target)
    other.join(programs.PATIENCE)
    assert other.exitcode == 0
    done = export(database, study, Target.of(target))
    assert done.there > 0
    assert_all_there(database, study, READERS[name](place, study.name))
    assert not [*Path(place).glob(".pairsearch-*")]


@pytest.mark.parametrize("name", ["wandb"])
def test_a_run_that_was_written_in_part_is_not_there(
    name: str, place: str, searched: tuple[Database, StoredStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, study = searched
    client = needed("pairsearch.search.tracking.to_wandb")
    seen: list[bytes] = []
    with monkeypatch.context() as full:
        full.setattr(client, "LONGEST_SECONDS", 0.0)
        full.setattr(client, "_has_ended", seen.append)  # as on a full disk
        with pytest.raises(TrackerError, match=r"10 runs of .* wrote a run in part: is there room"):
            export(database, study, Target.of(f"{name}={place}"))
    assert not [*Path(place, "wandb").iterdir()]
    assert export(database, study, Target.of(f"{name}={place}")).there == 0
    log = next(Path(place, "wandb").glob("*/*.wandb")).read_bytes()
    assert [client._has_ended(part) for part in (b"", log[:-1], log)] == [False, False, True]


@pytest.mark.parametrize("name", ["tensorboard"])
def test_what_has_ended_is_exported_while_others_are_searched(
    place: str, searched: tuple[Database, StoredStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, study = searched
    monkeypatch.setattr(following, "PAUSE_SECONDS", 0.01)
    stopping, said, results = threading.Event(), list[str](), list[bool]()
    targets = [Target.of(f"tensorboard={place}"), Target.of("mlflow=http://127.0.0.1:9")]
    arguments = (database, [study], targets, stopping, said.append)
    thread = threading.Thread(target=lambda: results.append(following.keep_exporting(*arguments)))
    thread.start()
    runs = Path(place) / study.name
    programs.wait_for(lambda: len([*runs.rglob("*tfevents*")]) == 4 + 6, "runs that have ended")
    Ledger(database, study).retry()
    search(database, study, tiny.outcome)
    programs.wait_for(lambda: len([*runs.rglob("*tfevents*")]) == 4 + 8, "the last folds")
    assert not [*runs.glob("report-*")]  # it takes seconds, and is out of date at once
    stopping.set()
    thread.join()
    assert_all_there(database, study, trackers.in_tensorboard(place, study.name))
    assert [*runs.glob("report-*.html")]
    assert results == [False]
    assert said[-1] == (
        f"error: 12 runs of study {study.name} are not in mlflow=http://127.0.0.1:9: Connection refused: "
        f"`pairsearch export {study.name} --to mlflow=http://127.0.0.1:9` exports them"
    )


def test_a_search_waits_for_no_tracker_that_is_away(tmp_path: Path) -> None:
    tiny.write_toml(tmp_path / "tiny.toml", data="digits")
    away = f"mlflow=http://me:{SECRET}@127.0.0.1:9"
    options = ("--to", "tensorboard=logs", "--to", away, "--to", "tensorboard=logs", "--to", away)
    ended = programs.run(tmp_path, "run", "tiny.toml", "--workers", "1", "--quiet", *options)
    assert ended.code == 0
    left = (
        "24 runs of study tiny are not in mlflow=http://me:***@127.0.0.1:9: Connection refused: "
        "`pairsearch export tiny --to mlflow=http://me:***@127.0.0.1:9` exports them"
    )
    warning = "warning: other people can read the password of --to in the process list"
    assert [line.partition(": give")[0] for line in ended.err.splitlines()] == [warning, left]
    assert len(trackers.in_tensorboard(str(tmp_path / "logs"), "tiny")) == 25
    refused = programs.run(tmp_path, "export", "tiny", "--to", away)
    assert (refused.code, refused.err.splitlines()[1:]) == (1, [f"error: {left}"])


def test_what_cannot_be_a_tracker_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for text, words in {
        "aim=here": "--to aim=here: expected mlflow=URI, tensorboard=FOLDER or wandb=FOLDER",
        "wandb": "--to wandb: expected mlflow=URI",
        f"wandb={tmp_path}/file": "it is a file",
        f"tensorboard={tmp_path}/no/folder": "there is no such folder",
    }.items():
        with pytest.raises(InputError, match=re.escape(words)):
            Target.of(text)
    monkeypatch.setattr(exporting, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=re.escape("pip install 'pairsearch[mlflow]'")):
        Target.of("mlflow=http://here")


def test_a_relative_place_is_settled_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporting, "find_spec", lambda _: True)
    for given, settled in {
        "mlflow=sqlite:///runs/x.db": f"sqlite:///{tmp_path}/runs/x.db",
        "mlflow=sqlite:///x.db?timeout=5": f"sqlite:///{tmp_path}/x.db?timeout=5",
        "mlflow=runs": f"{tmp_path}/runs",
        "mlflow=file:runs": f"file:{tmp_path}/runs",
        "wandb=runs": f"{tmp_path}/runs",
    }.items():
        assert Target.of(given).place == settled
    for whole in (
        f"sqlite:///{tmp_path}/x.db",
        "sqlite:///:memory:",
        "/runs",
        "file:///runs",
        "http://here:5000",
        "postgresql://me:word@here/runs",
        "databricks",
        "databricks://mine",
    ):
        assert Target.of(f"mlflow={whole}").place == whole
