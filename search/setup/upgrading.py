"""Takes a database of an older schema to this program's, with all its results.

Each step stands for itself, in the words of the schema that it begins with and not in those of `database.tables`, which
go on changing. Data definition is part of the transaction on both databases, so that a step is done as a whole or not
at all.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, event

from pairsearch.search.common.errors import InputError, NoStudiesError, StorageError
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.tables import SCHEMA_VERSION
from pairsearch.search.ledger.studies import list_studies
from pairsearch.search.mirror.trials import complete
from pairsearch.search.setup.schema_5 import constrain


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What was done.

    Args:
        before: the schema version that the database had.
        copy: the file that it was copied to before; None where it is PostgreSQL, or nothing had to be done.
    """

    before: int
    copy: Path | None


def upgrade(url: str) -> Upgraded:
    """Take a database to this program's schema; where it has that already, nothing is done.

    A SQLite file is copied first, to a file beside it. No worker may be at work: one of an older program ends with an
    error at its next write.

    Raises:
        NoStudiesError: there is no database, or it holds no studies.
        StorageError: its schema is newer, or so old that nothing leads from there.
    """
    database = Database(url)
    try:
        if database.file is not None and not database.file.exists():
            raise NoStudiesError(f"no database at {database.file}: `pairsearch create` makes one")
        with database.creation_lock():
            before = database.schema_version()
            if before is None:
                raise NoStudiesError(
                    f"database {database.label} holds no studies: there is nothing to upgrade"
                )
            if before == SCHEMA_VERSION:
                return Upgraded(before, None)
            if before not in STEPS:
                raise StorageError(
                    f"database {database.label} has schema version {before}: this program upgrades from "
                    f"{min(STEPS)} to {SCHEMA_VERSION}; use the version of pairsearch that it is from"
                )
            copy = None if database.file is None else _copied(database.file, before)
            try:
                _stepped(url, before)
            except InputError as error:
                if copy is not None:
                    copy.unlink()
                raise StorageError(
                    f"{error}: pairsearch cannot have written it: nothing was changed; correct the value first"
                ) from None
        open_database(database)
        for study in list_studies(database):
            complete(database, study)
        return Upgraded(before, copy)
    finally:
        database.close()


def _stepped(url: str, before: int) -> None:
    """Take the steps from a version to this program's, in one transaction."""
    database = Database(url)
    if database.is_sqlite:
        # A table that is made anew is dropped in between, and others refer to it.
        event.listen(database.engine, "connect", lambda made, _: made.execute("PRAGMA foreign_keys = OFF"))
    try:
        with database.write() as connection:
            for version in range(before, SCHEMA_VERSION):
                STEPS[version](connection, Operations(MigrationContext.configure(connection)))
            connection.execute(
                sa.text("update pairsearch_schema set version = :version"), {"version": SCHEMA_VERSION}
            )
    finally:
        database.close()


def _copied(file: Path, version: int) -> Path:
    copy = file.with_name(f"{file.name}.schema-{version}")
    if copy.exists():
        raise StorageError(f"{copy} is there already: it would be overwritten; move it away")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def _to_5(connection: Connection, op: Operations) -> None:
    """Jobs and failures come in beside configurations, and provenance in a table of its own."""
    op.create_table(
        "pairsearch_provenances",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("digest", sa.String(64), unique=True, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
    )
    op.create_table(
        "pairsearch_jobs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("pairsearch_studies.id"), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("first", sa.Integer, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("params", sa.Text),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("errors", sa.Integer, nullable=False),
        sa.Column("lapses", sa.Integer, nullable=False),
        sa.Column("claims", sa.Integer, nullable=False),
        sa.Column("claim", sa.String(32)),
        sa.Column("worker", sa.Text),
        sa.Column("lease_expires", sa.Double),
        sa.UniqueConstraint("study_id", "key", "kind", "first"),
    )
    names = ["study_id", "state", "lapses", "errors", "rank", "id"]
    op.create_index("pairsearch_jobs_claim", "pairsearch_jobs", names)
    op.create_table(
        "pairsearch_failures",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job_id", sa.Integer, sa.ForeignKey("pairsearch_jobs.id"), nullable=False, index=True),
        sa.Column("claim", sa.String(32), unique=True, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("traceback", sa.Text),
        sa.Column("counts", sa.Integer, nullable=False),
        sa.Column("failed_at", sa.Double, nullable=False),
    )
    op.create_table(
        "pairsearch_checkpoints",
        sa.Column("study_id", sa.Integer, sa.ForeignKey("pairsearch_studies.id"), primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("run", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("curves", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("content", sa.LargeBinary),
        sa.Column("file", sa.Text),
        sa.Column("saved_at", sa.Double, nullable=False),
    )
    op.create_table(
        "pairsearch_models",
        sa.Column(
            "run_id", sa.Integer, sa.ForeignKey("pairsearch_runs.id"), primary_key=True, autoincrement=False
        ),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    # Alembic would copy a table of SQLite's to add a column with a reference.
    op.execute(
        "alter table pairsearch_configurations "
        "add column provenance_id integer references pairsearch_provenances (id)"
    )
    op.execute(
        "alter table pairsearch_runs add column provenance_id integer references pairsearch_provenances (id)"
    )
    texts = sa.text(
        "select provenance from pairsearch_configurations where provenance is not null "
        "union select provenance from pairsearch_runs where provenance is not null"
    )
    facts = set(connection.execute(texts).scalars())
    rows = [{"digest": hashlib.sha256(one.encode()).hexdigest(), "facts": one} for one in sorted(facts)]
    if rows:
        connection.execute(
            sa.text("insert into pairsearch_provenances (digest, facts) values (:digest, :facts)"), rows
        )
    connection.execute(
        sa.text(
            "update pairsearch_configurations set provenance_id = "
            "(select id from pairsearch_provenances where facts = provenance)"
        )
    )
    connection.execute(
        sa.text(
            "update pairsearch_runs set provenance_id = "
            "(select id from pairsearch_provenances where facts = provenance)"
        )
    )
    of_key = _jobs_of_configurations(connection)
    late = connection.execute(
        sa.text(
            "select s.claim, s.worker, s.value, s.arrived_at, c.study_id, c.key from pairsearch_superseded s "
            "join pairsearch_configurations c on c.id = s.configuration_id order by s.id"
        )
    ).all()
    op.drop_table("pairsearch_superseded")
    op.create_table(
        "pairsearch_superseded",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job_id", sa.Integer, sa.ForeignKey("pairsearch_jobs.id"), nullable=False),
        sa.Column("claim", sa.String(32), nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("arrived_at", sa.Double, nullable=False),
    )
    for row in late:
        connection.execute(
            sa.text(
                "insert into pairsearch_superseded (job_id, claim, worker, value, arrived_at) "
                "values (:job, :claim, :worker, :value, :arrived)"
            ),
            {
                "job": of_key[row.study_id, row.key],
                "claim": row.claim,
                "worker": row.worker,
                "value": row.value,
                "arrived": row.arrived_at,
            },
        )
    _name_trials(connection)
    op.add_column("pairsearch_studies", sa.Column("stopped_at", sa.Double))
    connection.execute(
        sa.text(
            "update pairsearch_configurations set state = 'pending', worker = null, started_at = null, "
            "trial_id = null where state in ('pending', 'running')"
        )
    )
    op.drop_index("pairsearch_configurations_claim", "pairsearch_configurations")
    op.create_index(
        "pairsearch_configurations_state", "pairsearch_configurations", ["study_id", "state", "rank"]
    )
    for column in ("claim", "lease_expires", "traceback", "provenance"):
        op.drop_column("pairsearch_configurations", column)
    op.drop_column("pairsearch_runs", "provenance")
    constrain(connection, op)


def _jobs_of_configurations(connection: Connection) -> dict[tuple[int, str], int]:
    """Insert jobs for what is open or failed, and for what has late results; return the first job of each."""
    studies = connection.execute(sa.text("select id, definition, problem from pairsearch_studies")).all()
    of_study: dict[int, tuple[int, int]] = {}
    for study in studies:
        definition, problem = json.loads(study.definition), json.loads(study.problem)
        whole = problem["together"] or definition.get("pruner", "none") != "none"
        of_study[study.id] = (definition["folds"], definition["folds"] if whole else 1)
    rows = connection.execute(
        sa.text(
            "select c.* from pairsearch_configurations c where c.state in ('pending', 'running', 'failed') or "
            "exists (select 1 from pairsearch_superseded s where s.configuration_id = c.id) order by c.rank"
        )
    ).all()
    found: dict[tuple[int, str], int] = {}
    for row in rows:
        folds, size = of_study[row.study_id]
        for first in range(0, folds, size):
            state = {"pending": "pending", "running": "pending"}.get(row.state, "done")
            if row.state == "failed":
                state = "dropped" if first else "failed"
            # Errors that only one fold can have made must not count for all.
            counts = (
                {"errors": row.errors, "lapses": row.lapses} if size == folds or state == "failed" else {}
            )
            job_id = connection.execute(
                sa.text(
                    "insert into pairsearch_jobs "
                    "(study_id, key, kind, first, count, rank, state, errors, lapses, claims) "
                    "values (:study, :key, 'fold', :first, :count, :rank, :state, :errors, :lapses, 0) "
                    "returning id"
                ),
                {
                    "study": row.study_id,
                    "key": row.key,
                    "first": first,
                    "count": size,
                    "rank": row.rank,
                    "state": state,
                    "errors": counts.get("errors", 0),
                    "lapses": counts.get("lapses", 0),
                },
            ).scalar_one()
            found.setdefault((row.study_id, row.key), job_id)
            if row.traceback is not None and first == 0:
                _note_failure(connection, job_id, row)
    return found


def _note_failure(connection: Connection, job_id: int, row: Any) -> None:
    connection.execute(
        sa.text(
            "insert into pairsearch_failures "
            "(job_id, claim, worker, reason, traceback, counts, failed_at) "
            "values (:job, :claim, 'unknown', :reason, :traceback, 1, :at)"
        ),
        {
            "job": job_id,
            # Schema 4 kept no token of a failed attempt.
            "claim": f"schema-4-{row.id}",
            "reason": row.reason or "",
            "traceback": row.traceback,
            "at": row.finished_at or 0.0,
        },
    )


def _name_trials(connection: Connection) -> None:
    """Give the trials of Optuna's the attribute by which they are known, the row of their configuration."""
    if not sa.inspect(connection).has_table("trial_user_attributes"):
        return
    trials = connection.execute(
        sa.text(
            "select t.trial_id, a.value_json, p.id as study_id from trials t "
            "join studies s on s.study_id = t.study_id join pairsearch_studies p on p.name = s.study_name "
            "join trial_user_attributes a on a.trial_id = t.trial_id and a.key = 'configuration'"
        )
    ).all()
    rows = connection.execute(sa.text("select id, study_id, key from pairsearch_configurations"))
    ids: Mapping[tuple[int, str], int] = {(row.study_id, row.key): row.id for row in rows}
    for trial in trials:
        row_id = ids.get((trial.study_id, json.loads(trial.value_json)))
        if row_id is not None:
            connection.execute(
                sa.text(
                    "insert into trial_user_attributes (trial_id, key, value_json) values (:trial, 'row', :row)"
                ),
                {"trial": trial.trial_id, "row": str(row_id)},
            )


STEPS: Mapping[int, Callable[[Connection, Operations], None]] = {4: _to_5}
"""The step from each version to the next."""
