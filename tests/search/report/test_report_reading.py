"""What the report reads, on SQLite and PostgreSQL, and that it only reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import reported
import tiny
from reported import read, table
from sqlalchemy import delete, event, select, text, update

from pairsearch.search.common.errors import DamagedError, StudyError
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations, curves, jobs, runs, studies
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.rows import MEAN, write_runs
from pairsearch.search.ledger.studies import get_study
from pairsearch.search.report import document
from pairsearch.search.report import reading as reading_module
from pairsearch.search.report.reading import TOP, Reading
from pairsearch.search.results.fold_figures import Unjudged
from pairsearch.search.verdict.study_verdict import StudyVerdict
from pairsearch.studies.configuration import Configuration

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = open_database(database_url, create=True)
    yield opened
    opened.close()


@ON_SQLITE
def test_a_study_that_was_just_created_has_points_and_nothing_else(database: Database) -> None:
    reading = read(database, reported.create(database))
    assert {point.state for point in reading.points} == {State.PENDING}
    assert len(reading.points) == 32
    assert (reading.best, reading.top, reading.origins, reading.remarks) == (None, (), (), ())
    assert (reading.covered, reading.evaluated, reading.first_result) == (0, {}, None)


def test_figures_are_those_of_the_ledger(database: Database) -> None:
    study = reported.create(database)
    reported.finish(database, study, 10)
    reading = read(database, study)
    assert reading.counts[State.FINISHED] == reading.covered == 10
    values = [point.value for point in reading.finished]
    assert values == sorted(reported.value_of(point.configuration) for point in reading.finished)
    assert reading.best == reading.finished[0].configuration
    assert len(reading.top) == TOP
    for point, folds in zip(reading.finished, reading.top, strict=False):
        assert tuple(folds) == reported.outcome(point.configuration).folds
    expected = reported.outcome(reading.finished[0].configuration)
    assert reading.finished[0].figures == expected.figures


@ON_SQLITE
def test_reasons_and_origins_are_grouped(database: Database) -> None:
    study = reported.create(database)
    reported.finish(database, study, 3, host="one")
    reported.finish(database, study, 1, host="two")
    first = reported.end(database, study, State.FAILED, "out of memory")
    second = reported.end(database, study, State.FAILED, "out of memory")
    third = reported.end(database, study, State.DIVERGED, "fold 1 diverged")
    reading = read(database, study)
    assert [(r.state, r.reason, r.configurations, r.example) for r in reading.remarks] == [
        (State.FAILED, "out of memory", 2, min(first, second)),
        (State.DIVERGED, "fold 1 diverged", 1, third),
    ]
    assert [(origin.facts["host"], origin.results, origin.seconds) for origin in reading.origins] == [
        ("one", 3, 0.75),
        ("here", 1, 0.0),
        ("two", 1, 0.25),
    ]
    assert (reading.covered, reading.claims) == (5, 7)


@ON_SQLITE
def test_of_many_reasons_the_most_frequent_are_listed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = reported.create(database)
    for reason in ("out of memory", "out of luck", "out of memory"):
        reported.end(database, study, State.FAILED, reason)
    reported.end(database, study, State.PRUNED, "pruned after epoch 3")
    for reasons, more in ((20, ""), (1, "; 1 more failed for rarer reasons")):
        monkeypatch.setattr(reading_module, "REASONS", reasons)
        found = read(database, study)
        report = document.compose([found], "here", datetime(2026, 1, 2, tzinfo=UTC))
        why = table(report, f"Why configurations failed, diverged or were pruned{more}.")
        assert why.rows[0][:2] == ("failed", "out of memory")
        assert len(why.rows) == len(found.remarks) == (3 if reasons == 20 else 2)


@ON_SQLITE
def test_attempts_late_results_and_times_are_counted(database: Database) -> None:
    study, other = reported.create(database), reported.create(database, name="other")
    for one, attempts in ((study, 2), (other, 1)):
        ledger = Ledger(database, one)
        for _ in range(attempts):
            claim = ledger.claim("ann")
            assert claim is not None
            ledger.fail_attempt(claim, "out of memory")
            assert not tiny.finish(ledger, claim, reported.outcome(claim.configuration)), "it comes too late"
        reported.finish(database, one, 2)
    with database.write() as connection:
        for place, (row,) in enumerate(
            tiny.rows(database, "configurations", "id", "where state = 'finished' order by id")
        ):
            connection.execute(
                update(configurations).where(configurations.c.id == row).values(finished_at=100.0 + place)
            )
    first, second = read(database, study), read(database, other)
    assert (first.errors, first.superseded, first.claims) == (2, 2, 4)
    assert (second.errors, second.superseded, second.claims) == (1, 1, 3)
    assert (first.first_result, first.last_result) == (100.0, 101.0)
    assert (second.first_result, second.last_result) == (102.0, 103.0)
    assert (first.best, second.best) == (first.finished[0].configuration, second.finished[0].configuration)


@ON_SQLITE
def test_a_password_in_a_reason_is_hidden(database: Database) -> None:
    study = reported.create(database)
    reported.end(database, study, State.FAILED, "no answer from postgresql://ann:open-sesame@host/db")
    (remark,) = read(database, study).remarks
    assert remark.reason == "no answer from postgresql://ann:***@host/db"


@ON_SQLITE
def test_rounds_come_with_their_curves_in_order(database: Database) -> None:
    study = reported.create(database)
    assert study.definition.paper is not None
    configuration = study.definition.paper.configuration
    reported.evaluate(database, study, configuration, [0.05, 0.07])
    reading = read(database, study)
    rounds = reading.evaluated[configuration.key]
    assert [entry.figures["test_error"] for entry in rounds] == [0.05, 0.07]
    curve = reading.rounds[configuration.key][1].curves["test_error"]
    assert curve == pytest.approx([0.37, 0.27, 0.17, 0.07])


@ON_SQLITE
def test_curves_are_of_the_best_and_the_paper_s_configuration_alone(database: Database) -> None:
    study = reported.create(database)
    reported.finish(database, study)
    assert study.definition.paper is not None
    paper = study.definition.paper.configuration
    ranked = [point.configuration for point in read(database, study).finished]
    for one, error in ((ranked[0], 0.01), (ranked[1], 0.02), (paper, 0.03), (ranked[-1], 0.04)):
        reported.evaluate(database, study, one, [error, error])
    reading = read(database, study)
    assert set(reading.evaluated) == {one.key for one in (*ranked[:2], paper, ranked[-1])}
    assert {key: [run.curves["test_error"][-1] for run in runs] for key, runs in reading.rounds.items()} == {
        ranked[0].key: [0.01, 0.01],
        paper.key: [0.03, 0.03],
    }


@ON_SQLITE
def test_where_no_fold_has_a_curve_that_of_their_mean_is_drawn(database: Database) -> None:
    study = reported.create(database)
    reported.finish(database, study, 5)
    first, second, third = (point.configuration for point in read(database, study).finished[:3])
    with database.write() as connection:
        for one, bare in ((first, (0, 1, 2)), (second, (0,))):
            of_key = (runs.c.key == one.key) & (runs.c.kind == "fold") & runs.c.run.in_(bare)
            lost = select(runs.c.id).where(of_key)
            connection.execute(delete(curves).where(curves.c.run_id.in_(lost)))
            connection.execute(update(runs).where(of_key).values(epochs=0))
            mean = RunResult(0, {"val_loss": [0.5, 0.25]})
            write_runs(
                connection, one.key, MEAN, [mean], {"study_id": study.id, "seconds": None, "worker": None}
            )
    reading = read(database, study)
    assert reading.of_mean
    assert [run.curves for run in reading.top[0]] == [{"val_loss": [0.5, 0.25]}]
    assert [len(run.curves) for run in reading.top[1]] == [0, 3, 3]
    assert tuple(reading.top[2]) == reported.outcome(third).folds


@ON_SQLITE
def test_results_are_counted_by_what_computed_them_in_each_study(database: Database) -> None:
    study, other = reported.create(database), reported.create(database, name="other")
    for one, counts in ((study, {"b": 2, "a": 2, "c": 3}), (other, {"a": 1})):
        for host, count in counts.items():
            reported.finish(database, one, count, host=host)
        assert one.definition.paper is not None
        reported.evaluate(database, one, one.definition.paper.configuration, [0.1] * len(counts))
    found = [
        [(one.work, one.facts["host"], one.results, one.seconds) for one in read(database, of).origins]
        for of in (study, other)
    ]
    assert found == [
        [
            ("search", "c", 3, 0.75),
            ("search", "a", 2, 0.5),
            ("search", "b", 2, 0.5),
            ("evaluation", "there", 3, 1.5),
        ],
        [("search", "a", 1, 0.25), ("evaluation", "there", 1, 0.5)],
    ]


@ON_SQLITE
def test_reasons_are_of_one_study_the_most_frequent_first_and_may_be_missing(database: Database) -> None:
    study, other = reported.create(database), reported.create(database, name="other")
    for reason in ("b", "c", "a", "c", ""):
        reported.end(database, study, State.FAILED, reason)
    reported.end(database, other, State.FAILED, "d")
    with database.write() as connection:
        connection.execute(text("update pairsearch_configurations set reason = null where reason = ''"))
    assert [(one.reason, one.configurations) for one in read(database, study).remarks] == [
        ("c", 2), ("no reason given", 1), ("a", 1), ("b", 1),
    ]  # fmt: skip
    reading = read(database, other)
    assert [(one.reason, one.configurations) for one in reading.remarks] == [("d", 1)]
    assert f"{reading.remarks[0].example}: d" in str(reading.ended)


@ON_SQLITE
def test_a_study_of_so_many_configurations_is_searched_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = reported.create(database)
    reported.finish(database, study)
    for most, searched in ((32, True), (31, False)):
        monkeypatch.setattr(reading_module, "SEARCHED", most)
        assert (read(database, study).table is not None) is searched


@ON_SQLITE
def test_whoever_reads_is_told_what_is_judged(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    study = reported.create(database)
    said: list[str] = []
    real = reading_module.verdict_on

    def judge(unjudged: Unjudged, tell: Callable[[str], None]) -> StudyVerdict:
        tell("judging")
        return real(unjudged)

    monkeypatch.setattr(reading_module, "verdict_on", judge)
    (reading,) = reading_module.read_all(database, [study], said.append)
    assert said == ["reading pairs", "judging"]
    assert reading.trade is None


@ON_SQLITE
def test_a_study_without_configurations_has_no_claims(database: Database) -> None:
    study = reported.create(database)
    with database.write() as connection:
        connection.execute(delete(jobs))
        connection.execute(delete(configurations))
    reading = read(database, study)
    assert (reading.points, reading.claims, reading.errors, reading.covered) == ((), 0, 0, 0)


@ON_SQLITE
def test_a_study_that_was_deleted_meanwhile_and_a_point_outside_its_grid_are_refused(
    database: Database,
) -> None:
    study = reported.create(database)
    with database.write() as connection:
        outside = Configuration(study.definition.grid.configurations()[0].params | {"batch_size": 99})
        values = {"params": outside.text, "key": outside.key}
        connection.execute(update(configurations).where(configurations.c.rank == 0).values(**values))
    with pytest.raises(DamagedError, match=r"values of the study's grid"):
        read(database, study)
    with database.write() as connection:
        connection.execute(delete(jobs))
        connection.execute(delete(configurations))
        connection.execute(delete(studies))
    with pytest.raises(StudyError, match="study pairs has been deleted from the database"):
        read(database, study)


@ON_SQLITE
def test_studies_are_told_apart(database: Database) -> None:
    first, second = reported.create(database), reported.create(database, name="other")
    reported.finish(database, first, 5)
    assert [read(database, study).covered for study in (first, second)] == [5, 0]


def statements(database: Database, name: str) -> tuple[Reading, list[str]]:
    """A reading, and the statements that it took."""
    study = get_study(database, name)
    said: list[str] = []

    def listen(connection: object, cursor: object, statement: str, *rest: object) -> None:
        said.append(statement)

    event.listen(database.engine, "before_cursor_execute", listen)
    try:
        return read(database, study), said
    finally:
        event.remove(database.engine, "before_cursor_execute", listen)


def test_it_only_reads_and_takes_no_more_statements_for_more_configurations(database: Database) -> None:
    study = reported.create(database)
    reported.finish(database, study, TOP)
    few, said_of_few = statements(database, study.name)
    reported.finish(database, study)
    many, said_of_many = statements(database, study.name)
    assert (few.covered, many.covered) == (TOP, 32)
    assert len(said_of_many) == len(said_of_few)
    assert {statement.split()[0].upper() for statement in said_of_many} <= {"SELECT", "BEGIN"}


def read_only(url: str) -> str:
    """The same database, opened so that it refuses every write."""
    if url.startswith("sqlite:///"):
        return f"sqlite:///file:{Path(url.removeprefix('sqlite:///'))}?mode=ro&uri=true"
    return f"{url}{'&' if '?' in url else '?'}options=-c%20default_transaction_read_only%3Don"


def test_a_database_that_may_only_be_read_is_enough(database_url: str, database: Database) -> None:
    study = reported.create(database)
    reported.finish(database, study)
    guarded = open_database(read_only(database_url))
    try:
        assert read(guarded, get_study(guarded, study.name)) == read(database, study)
    finally:
        guarded.close()
