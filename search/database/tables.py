"""Our tables, beside Optuna's in the same database: studies, the ledger, fold results, curves, evaluations.

Times are seconds since 1970 (UTC) on the database's clock. Losses are mean cross entropies, errors fractions in
[0, 1]; both are NULL where the figure was not finite or not computed. Epochs are 1-based, folds and rounds
0-based.

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
SCHEMA_VERSION = 3

metadata = MetaData()


def _figure(name: str) -> Column[float]:
    """A figure that may be missing."""
    return Column(name, Double)


schema = Table(
    "pairsearch_schema",
    metadata,
    # One row, which says which version of these tables the database holds.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)

# A study, bound to its definition, its data and the training version.
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
    Column("source_name", Text, nullable=False),
    Column("source_fingerprint", Text, nullable=False),
    Column("training_version", Integer, nullable=False),
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
    # What the study minimises.
    _figure("value"),
    _figure("val_loss"),
    _figure("val_error"),
    Column("seconds", Double),
    # Why it diverged, was pruned or failed.
    Column("reason", Text),
    # JSON: versions, git commit, host and processor that computed the result.
    Column("provenance", Text),
    UniqueConstraint("study_id", "key"),
    Index("pairsearch_configurations_claim", "study_id", "state", "lapses", "errors", "rank"),
)

# The final figures of one fold of a configuration.
folds = Table(
    "pairsearch_folds",
    metadata,
    Column("configuration_id", ForeignKey(configurations.c.id), primary_key=True),
    Column("fold", Integer, primary_key=True, autoincrement=False),
    _figure("train_loss"),
    _figure("val_loss"),
    _figure("val_error"),
    Column("diverged_epoch", Integer),
)

# The figures of one epoch of one fold of a configuration.
curves = Table(
    "pairsearch_curves",
    metadata,
    # No foreign key: it would be checked for each of a trial's three hundred rows, which come in one
    # transaction with their configuration's result.
    Column("configuration_id", Integer, primary_key=True, autoincrement=False),
    Column("fold", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    _figure("train_loss"),
    _figure("val_loss"),
    _figure("val_error"),
)

# Results that came after their lease was lost; kept for the record, counted nowhere.
superseded = Table(
    "pairsearch_superseded",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("configuration_id", ForeignKey(configurations.c.id), nullable=False),
    Column("claim", String(32), nullable=False),
    Column("worker", Text, nullable=False),
    _figure("value"),
    Column("arrived_at", Double, nullable=False),
)

# One finished round of the final evaluation of a configuration.
rounds = Table(
    "pairsearch_rounds",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey(studies.c.id), nullable=False),
    Column("key", Text, nullable=False),
    Column("round", Integer, nullable=False),
    _figure("train_loss"),
    _figure("train_error"),
    _figure("test_loss"),
    _figure("test_error"),
    Column("diverged_epoch", Integer),
    # Wall-clock time of the rounds trained together, divided by their number.
    Column("seconds", Double, nullable=False),
    Column("worker", Text, nullable=False),
    Column("finished_at", Double, nullable=False),
    Column("provenance", Text, nullable=False),
    UniqueConstraint("study_id", "key", "round"),
)

# The figures of one epoch of one round of the final evaluation.
round_curves = Table(
    "pairsearch_round_curves",
    metadata,
    Column("round_id", ForeignKey(rounds.c.id), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    # Training loss as the epoch went, before each step.
    _figure("running_loss"),
    _figure("train_loss"),
    _figure("train_error"),
    _figure("test_loss"),
    _figure("test_error"),
)

# The version of the tables is read before anything is taken for granted.
check_columns(metadata, but=schema)
