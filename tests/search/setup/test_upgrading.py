"""A database of schema 4, made by that version in the middle of a search, is taken to this one with all its results."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import tiny
from optuna.trial import TrialState
from programs import run

from pairsearch.search.common.errors import NoStudiesError, StorageError
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.tables import SCHEMA_VERSION, metadata
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import get_study
from pairsearch.search.mirror import presence
from pairsearch.search.mirror.tables import make_tables, open_optuna
from pairsearch.search.mirror.trials import open_view
from pairsearch.search.results.evaluations import read_evaluation
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.setup.upgrading import upgrade
from pairsearch.search.workers.tally import Tally
from pairsearch.search.workers.worker import Worker

OLD = Path(__file__).parent / "schema_4.sql"
SERIAL = (
    "trials", "trial_user_attributes", "trial_params", "trial_values", "trial_intermediate_values",
    "study_user_attributes", "study_system_attributes", "pairsearch_runs", "pairsearch_configurations",
)  # fmt: skip
"""Tables whose ids PostgreSQL has to count on from."""


@pytest.fixture
def old(sqlite_url: str | None, tmp_path: Path, database_url: str) -> str:
    """The URL of the old database."""
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(OLD.read_text(encoding="utf-8"))
    if database_url.startswith("sqlite"):
        return f"sqlite:///{file}"
    _copy(f"sqlite:///{file}", database_url)
    return database_url


def _copy(source: str, target: str) -> None:
    """Bring all rows of a SQLite file to an empty PostgreSQL database, whose own tables Optuna makes."""
    there = Database(target)
    make_tables(there)
    engine, tables = sa.create_engine(source), sa.MetaData()
    tables.reflect(engine)
    for table in tables.tables.values():
        for column in table.columns:
            if isinstance(column.type, sa.DOUBLE):
                column.type = sa.Double()
    with engine.connect() as read, there.write() as write:
        tables.create_all(write)
        own = sa.MetaData()
        own.reflect(write)
        for table in tables.sorted_tables:
            write.execute(own.tables[table.name].delete())
            rows = [dict(row) for row in read.execute(table.select()).mappings()]
            if rows:
                write.execute(own.tables[table.name].insert(), rows)
        for name, table in own.tables.items():
            if name not in SERIAL:
                continue
            column = next(iter(table.primary_key)).name
            sequence = f"pg_get_serial_sequence('{name}', '{column}')"
            write.execute(sa.text(f"select setval({sequence}, (select max({column}) from {name}))"))  # noqa: S608
    engine.dispose()
    there.close()


def found(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


RESULTS = (
    "select key, state, value, figures, seconds, reason, errors, lapses, claims, finished_at "
    "from pairsearch_configurations where state not in ('pending', 'running') order by id"
)
RUNS = "select study_id, key, kind, run, epochs, figures, seconds, facts from pairsearch_runs order by id"
CURVES = "select * from pairsearch_curves order by run_id, figure"


def test_every_result_is_kept_and_the_search_goes_on(old: str) -> None:
    with pytest.raises(StorageError, match=r"schema version 4, older than .* `pairsearch upgrade`"):
        open_database(old)
    before = Database(old)
    kept = [found(before, statement) for statement in (RESULTS, RUNS, CURVES)]
    before.close()
    assert upgrade(old).before == 4
    assert upgrade(old).before == SCHEMA_VERSION
    database = open_database(old)
    try:
        assert [found(database, statement) for statement in (RESULTS, RUNS, CURVES)] == kept
        study = get_study(database, "tiny")
        ledger = Ledger(database, study, view=open_view(database, study))
        assert tiny.states(database) == {"finished": 2, "diverged": 1, "failed": 1, "pending": 6}
        finished = ledger.outcome(ledger.one_finished().key)  # type: ignore[union-attr]
        assert finished is not None
        assert finished.provenance == {"host": "here"}
        [(key,)] = found(database, "select key from pairsearch_runs where kind = 'round' and run = 1")
        [one] = [one for one in study.definition.grid.configurations() if one.key == key]
        assert read_evaluation(database, study, one).rounds == 2
        assert ledger.first_traceback() is not None
        assert presence.shown(database, study)
        storage = open_optuna(database)
        states = [trial.state for trial in storage.get_all_trials(study.optuna_study_id)]
        assert states.count(TrialState.RUNNING) == 0
        assert states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) == 3
        storage.remove_session()
        storage.engine.dispose()
        jobs = "select first, count, state from pairsearch_jobs where study_id = 2 order by id"
        assert found(database, jobs) == [(0, 1, "pending"), (1, 1, "pending")] * 2
        ledger.retry()
        stopping = threading.Event()
        worker = Worker(open_ledger(database, study), tiny.Answering(), stopping=stopping)
        assert worker.run() == Tally(finished=5)
        assert presence.shown(database, study)
    finally:
        database.close()


def test_a_sqlite_file_is_copied_first(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(OLD.read_text(encoding="utf-8"))
        dumped = list(connection.iterdump())
    ended = run(tmp_path, "upgrade", "--storage", f"sqlite:///{file}")
    assert ended.code == 0, ended.err
    assert "from schema 4 to 6" in ended.out
    assert "old.db.schema-4" in ended.out
    with closing(sqlite3.connect(tmp_path / "old.db.schema-4")) as connection:
        assert list(connection.iterdump()) == dumped
    again = run(tmp_path, "upgrade", "--storage", f"sqlite:///{file}")
    assert "nothing to do" in again.out


def described(database: Database) -> dict[str, list[Any]]:
    """What the database says about our tables: columns with their types, keys, checks, indexes, strictness."""
    inspector = sa.inspect(database.engine)
    return {
        name: [
            {one["name"]: (str(one["type"]), one["nullable"]) for one in inspector.get_columns(name)},
            inspector.get_pk_constraint(name),
            inspector.get_table_options(name),
            *(
                sorted(map(repr, get(name)))
                for get in (
                    inspector.get_check_constraints,
                    inspector.get_foreign_keys,
                    inspector.get_indexes,
                    inspector.get_unique_constraints,
                )
            ),
        ]
        for name in metadata.tables
    }


def test_the_upgraded_tables_are_those_that_a_new_database_has(old: str) -> None:
    upgrade(old)
    database = open_database(old)
    try:
        upgraded = described(database)
        with database.write() as connection:
            metadata.drop_all(connection)
        database.create_tables()
        assert upgraded == described(database)
    finally:
        database.close()


def test_a_table_that_a_version_added_comes_in_beside_the_rows_of_all_others(old: str) -> None:
    upgrade(old)
    database = open_database(old)
    try:
        kept = [table for table in metadata.tables if table != "pairsearch_submissions"]
        before = [sorted(found(database, f"select * from {table}")) for table in kept]  # noqa: S608 - our own
        assert sum(map(len, before)) > 40
        tiny.execute(database, "drop table pairsearch_submissions")
        tiny.execute(database, "update pairsearch_schema set version = 5")
        assert upgrade(old).before == 5
        assert [sorted(found(database, f"select * from {table}")) for table in kept] == before  # noqa: S608
        assert found(database, "select * from pairsearch_submissions") == []
        assert not [name for name in sa.inspect(database.engine).get_table_names() if "_old_" in name]
    finally:
        database.close()


def test_a_value_that_no_table_has_any_more_is_one_line_and_nothing_is_changed(old: str) -> None:
    before = Database(old)
    tiny.execute(before, "update pairsearch_runs set epochs = -1 where id = 1")
    with pytest.raises(StorageError, match=r"pairsearch_runs_epochs_check.*nothing was changed") as caught:
        upgrade(old)
    assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="schema version 4"):
        open_database(old)
    tiny.execute(before, "update pairsearch_runs set epochs = 2 where id = 1")
    before.close()
    assert upgrade(old).before == 4


def test_what_cannot_be_upgraded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoStudiesError, match="no database at"):
        upgrade(f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()
    for version in (3, 99):
        file = tmp_path / f"{version}.db"
        database = open_database(f"sqlite:///{file}", create=True)
        tiny.execute(database, f"update pairsearch_schema set version = {version}")  # noqa: S608 - our own
        database.close()
        with pytest.raises(StorageError, match="upgrades from 4 to 6"):
            upgrade(f"sqlite:///{file}")
