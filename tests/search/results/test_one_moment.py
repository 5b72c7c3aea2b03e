"""What is shown together was read together: one moment of the database, whatever workers do meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import fmean

import pytest
import reported
import tiny
from reported import read
from sqlalchemy import event

from pairsearch.search.cli.commands import looking
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.states import OPEN, State
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.tables import open_optuna
from pairsearch.search.report.reading import read_all
from pairsearch.search.results.progress import read_progress
from pairsearch.search.results.ranking import Ranked, ranked_within
from pairsearch.search.setup.creation import create_study


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = open_database(database_url, create=True)
    yield opened
    opened.close()


@pytest.fixture
def busy(database: Database, database_url: str) -> Iterator[Callable[[Callable[[Database], None]], None]]:
    """Has something done by another connection after every statement that `database` executes."""
    other = open_database(database_url)
    hooks: list[Callable[..., None]] = []

    def interfere(work: Callable[[Database], None]) -> None:
        def executed(connection: object, cursor: object, statement: str, *rest: object) -> None:
            if statement.lstrip().lower().startswith("select"):
                work(other)

        event.listen(database.engine, "after_cursor_execute", executed)
        hooks.append(executed)

    yield interfere
    for hook in hooks:
        event.remove(database.engine, "after_cursor_execute", hook)
    other.close()


def test_a_report_agrees_with_itself_while_workers_finish_configurations(
    database: Database, busy: Callable[[Callable[[Database], None]], None]
) -> None:
    study = reported.create(database)
    reported.finish(database, study, 4)
    busy(lambda other: reported.finish(other, study, 1))
    reading = read(database, study)
    verdict = reading.judged.verdict
    assert verdict is not None
    assert 4 <= reading.covered < 32
    assert (verdict.considered, reading.judged.open) == (reading.covered, 32 - reading.covered)
    assert sum(origin.results for origin in reading.origins) == reading.covered
    losses = [fold.final["val_loss"] for fold in reading.top[0]]
    assert reading.finished[0].value == pytest.approx(fmean(losses))  # type: ignore[type-var]
    assert reading.best == reading.judged.configurations[verdict.winner]


def test_a_report_knows_the_values_of_a_grid_that_grew_after_the_study_was_looked_up(
    database: Database,
) -> None:
    study = reported.create(database)
    grid = reported.RAW["grid"] | {"batch_size": [10, 25, 50]}
    reported.create(database, grid=grid)
    reading = read(database, study)
    assert reading.study.choices["batch_size"] == (10, 25, 50)
    assert len(reading.points) == 48


def test_the_studies_of_a_report_are_of_one_moment(
    database: Database, busy: Callable[[Callable[[Database], None]], None]
) -> None:
    studies = [reported.create(database, name=name) for name in ("first", "second")]

    def finish_both(other: Database) -> None:
        for study in studies:
            reported.finish(other, study, 1)

    busy(finish_both)
    first, second = read_all(database, studies)
    assert first.covered == second.covered


def test_the_best_of_a_progress_is_among_what_it_counts(
    database: Database, busy: Callable[[Callable[[Database], None]], None]
) -> None:
    study = reported.create(database)
    busy(lambda other: reported.finish(other, study, 1))
    found = read_progress(database, study)
    assert (found.best is not None) == (found.count(State.FINISHED) > 0)


@pytest.fixture
def lite(sqlite_url: str) -> Iterator[Database]:
    """For the commands, which leave it to the end of their process to close what they open."""
    opened = open_database(sqlite_url, create=True)
    yield opened
    opened.close()


def test_best_shows_a_table_and_a_verdict_of_one_moment(
    lite: Database,
    sqlite_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import json  # noqa: PLC0415

    study = reported.create(lite)
    reported.finish(lite, study, 6)
    ranked = ranked_within

    def then_work_goes_on(*arguments: object) -> list[Ranked]:
        found = ranked(*arguments)  # type: ignore[arg-type]
        reported.finish(lite, study)
        return found

    monkeypatch.setattr(looking, "ranked_within", then_work_goes_on)
    looking.best(study.name, top=40, storage=sqlite_url, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert len(told["ranked"]) == told["verdict"]["considered"] == 6
    assert told["verdict"]["open"] == 26


def all_ended(database: Database) -> StoredStudy:
    """A study of eight configurations: one failed, one is left, the others diverged."""
    storage = open_optuna(database)
    study = create_study(database, tiny.loaded()).study
    storage.engine.dispose()
    for _ in range(6):
        reported.end(database, study, State.DIVERGED, "fold 1 diverged in epoch 2")
    reported.end(database, study, State.FAILED, "no answer from postgresql://ann:open-sesame@host/db")
    return study


def test_where_nothing_is_finished_it_is_said_what_happened(
    lite: Database, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from pairsearch.search.common.errors import StudyError  # noqa: PLC0415
    from pairsearch.search.workers.evaluating import configurations_to_evaluate  # noqa: PLC0415

    study = all_ended(lite)
    said = "no configuration is finished: 6 diverged, 1 failed, 1 still to be trained (for example "
    looking.best(study.name, storage=sqlite_url)
    shown = capsys.readouterr().out
    assert shown.startswith(f"tiny: {said}")
    assert "fold 1 diverged in epoch 2)" in shown
    with pytest.raises(
        StudyError, match="no finished trial to evaluate, no configuration is finished: 6 div"
    ):
        configurations_to_evaluate(lite, study, top=1, paper=False)
    assert said in str(read(lite, study).ended)


def test_a_password_in_the_example_is_hidden(
    lite: Database, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = reported.create(lite)
    reported.end(lite, study, State.FAILED, "no answer from postgresql://ann:open-sesame@host/db")
    looking.best(study.name, storage=sqlite_url)
    assert "open-sesame" not in capsys.readouterr().out


def test_nothing_tried_yet_reads_as_before(
    lite: Database, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = reported.create(lite)
    looking.best(study.name, storage=sqlite_url)
    assert capsys.readouterr().out == "pairs: no configuration is finished yet\n"
    assert tiny.count(Ledger(lite, study), *OPEN) == 32
