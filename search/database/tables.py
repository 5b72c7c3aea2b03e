"""Our tables, beside Optuna's in the same database: studies, the ledger, runs with their figures, curves.

Times are seconds since 1970 (UTC) on the database's clock. Figures stand by their names in JSON objects; one that was
not finite or not reported is null. Epochs are 1-based, folds and rounds 0-based.

SQLAlchemy Core, not its ORM: rows are written in bulk and read into our own dataclasses, and the commands that
only look start a tenth of a second sooner without it.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from pairsearch.search.database.column_types import check_columns

# Raised by one with every change of the tables; a database of another version is refused.
SCHEMA_VERSION = 4

metadata = MetaData()


schema = Table(
    "pairsearch_schema",
    metadata,
    # One row, which says which version of these tables the database holds.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)

# A study, bound to its definition, its problem and its data.
studies = Table(
    "pairsearch_studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), unique=True, nullable=False),
    Column("optuna_study_id", Integer, nullable=False),
    # JSON of the definition as last created.
    Column("definition", Text, nullable=False),
    # JSON of parameter → values in the order of Optuna's categorical distributions; only ever appended to.
    Column("choices", Text, nullable=False),
    # JSON of what its problem said of itself (`studies.problem.Traits`).
    Column("problem", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

# The ledger: one row for each configuration of a study, under a unique constraint.
configurations = Table(
    "pairsearch_configurations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey(studies.c.id), nullable=False),
    Column("key", Text, nullable=False),
    # Position in the order of claims.
    Column("rank", Integer, nullable=False),
    # JSON of parameter → value.
    Column("params", Text, nullable=False),
    # One of `search.database.states.State`.
    Column("state", String(16), nullable=False),
    # Attempts that ended in an exception.
    Column("errors", Integer, nullable=False),
    # Attempts that ended with their lease: the worker was killed, or cut off for too long.
    Column("lapses", Integer, nullable=False),
    # How often the row was claimed.
    Column("claims", Integer, nullable=False),
    # Token of the last claim; a result counts only under the token that the row still holds.
    Column("claim", String(32)),
    Column("worker", Text),
    Column("lease_expires", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    # Optuna's id of the trial of the last claim.
    Column("trial_id", Integer),
    # The mean of the study's metric over folds.
    Column("value", Double),
    # JSON of figure → mean over folds after the last epoch.
    Column("figures", Text),
    Column("seconds", Double),
    # Why it diverged, was pruned or failed.
    Column("reason", Text),
    # Of the exception that ended the last attempt which failed.
    Column("traceback", Text),
    # JSON: versions, git commit, host and processor that computed the result.
    Column("provenance", Text),
    UniqueConstraint("study_id", "key"),
    Index("pairsearch_configurations_claim", "study_id", "state", "lapses", "errors", "rank"),
)

# What one model gave: a fold of a configuration, or a round of its final evaluation.
runs = Table(
    "pairsearch_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey(studies.c.id), nullable=False),
    # Of its configuration.
    Column("key", Text, nullable=False),
    # `fold` or `round`.
    Column("kind", String(8), nullable=False),
    Column("run", Integer, nullable=False),
    # How many epochs it has figures of.
    Column("epochs", Integer, nullable=False),
    # JSON of figure → value after the last epoch; empty where the run diverged.
    Column("figures", Text, nullable=False),
    Column("diverged_epoch", Integer),
    # Of a round; a fold's are those of its configuration. Rounds that were trained together share their time evenly.
    Column("seconds", Double),
    Column("worker", Text),
    Column("finished_at", Double),
    # JSON of fact → text about the configuration (`studies.problem.Problem.describe`).
    Column("facts", Text),
    Column("provenance", Text),
    UniqueConstraint("study_id", "key", "kind", "run"),
)

# One figure of a run over its epochs.
curves = Table(
    "pairsearch_curves",
    metadata,
    # No foreign key: it would be checked for each row of a trial, which come in one transaction with their runs.
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("figure", String(64), primary_key=True),
    # JSON array, a number or null for each epoch.
    Column("points", Text, nullable=False),
)

# Results that came after their lease was lost; kept for the record, counted nowhere.
superseded = Table(
    "pairsearch_superseded",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("configuration_id", ForeignKey(configurations.c.id), nullable=False),
    Column("claim", String(32), nullable=False),
    Column("worker", Text, nullable=False),
    Column("value", Double),
    Column("arrived_at", Double, nullable=False),
)

# The version of the tables is read before anything is taken for granted.
check_columns(metadata, but=schema)
