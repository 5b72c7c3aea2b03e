"""Our tables, beside Optuna's in the same database: studies, the ledger, fold results, curves, evaluations.

Times are seconds since 1970 (UTC) on the database's clock. Losses are mean cross entropies, errors fractions in
[0, 1]; both are NULL where the figure was not finite or not computed. Epochs are 1-based, folds and rounds
0-based.
"""

from __future__ import annotations

from sqlalchemy import Double, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Raised by one with every change of the tables; a database of another version is refused.
SCHEMA_VERSION = 1


class Base(DeclarativeBase):
    """Holds the metadata of our tables."""

    type_annotation_map = {float: Double(), str: Text()}  # noqa: RUF012 - SQLAlchemy reads it as written


class SchemaRow(Base):
    """The one row that says which version of these tables the database holds."""

    __tablename__ = "pairsearch_schema"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    version: Mapped[int]


class StudyRow(Base):
    """A study, bound to its definition, its data and the training version."""

    __tablename__ = "pairsearch_studies"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    optuna_study_id: Mapped[int]
    definition: Mapped[str]
    """JSON of the definition as last created."""
    choices: Mapped[str]
    """JSON of parameter → values in the order of Optuna's categorical distributions; only ever appended to."""
    source_name: Mapped[str]
    source_fingerprint: Mapped[str]
    training_version: Mapped[int]
    created_at: Mapped[float]


class ConfigurationRow(Base):
    """The ledger: one row for each configuration of a study, under a unique constraint."""

    __tablename__ = "pairsearch_configurations"
    __table_args__ = (
        UniqueConstraint("study_id", "key"),
        Index("pairsearch_configurations_claim", "study_id", "state", "rank"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("pairsearch_studies.id"))
    key: Mapped[str] = mapped_column(String(255))
    rank: Mapped[int]
    """Position in the order of claims."""
    batch_size: Mapped[int]
    learning_rate: Mapped[float]
    weight_decay: Mapped[float]
    hidden_units: Mapped[int | None]
    aux_loss_weight: Mapped[float | None]
    state: Mapped[str] = mapped_column(String(16))
    """One of `search.states.State`."""
    errors: Mapped[int]
    """Attempts that ended in an exception."""
    claims: Mapped[int]
    """How often the row was claimed."""
    claim: Mapped[str | None] = mapped_column(String(32))
    """Token of the last claim; a result counts only under the token that the row still holds."""
    worker: Mapped[str | None]
    lease_expires: Mapped[float | None]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    trial_id: Mapped[int | None]
    """Optuna's id of the trial of the last claim."""
    value: Mapped[float | None]
    """What the study minimises."""
    val_loss: Mapped[float | None]
    val_error: Mapped[float | None]
    seconds: Mapped[float | None]
    reason: Mapped[str | None]
    """Why it diverged, was pruned or failed."""
    provenance: Mapped[str | None]
    """JSON: versions, git commit, host and processor that computed the result."""


class FoldRow(Base):
    """The final figures of one fold of a configuration."""

    __tablename__ = "pairsearch_folds"
    configuration_id: Mapped[int] = mapped_column(ForeignKey(ConfigurationRow.id), primary_key=True)
    fold: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    train_loss: Mapped[float | None]
    val_loss: Mapped[float | None]
    val_error: Mapped[float | None]
    diverged_epoch: Mapped[int | None]


class CurveRow(Base):
    """The figures of one epoch of one fold of a configuration."""

    __tablename__ = "pairsearch_curves"
    configuration_id: Mapped[int] = mapped_column(ForeignKey(ConfigurationRow.id), primary_key=True)
    fold: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    train_loss: Mapped[float | None]
    val_loss: Mapped[float | None]
    val_error: Mapped[float | None]


class SupersededRow(Base):
    """A result that came after its lease was lost; kept for the record, counted nowhere."""

    __tablename__ = "pairsearch_superseded"
    id: Mapped[int] = mapped_column(primary_key=True)
    configuration_id: Mapped[int] = mapped_column(ForeignKey(ConfigurationRow.id))
    claim: Mapped[str] = mapped_column(String(32))
    worker: Mapped[str]
    value: Mapped[float | None]
    arrived_at: Mapped[float]


class RoundRow(Base):
    """One finished round of the final evaluation of a configuration."""

    __tablename__ = "pairsearch_rounds"
    __table_args__ = (UniqueConstraint("study_id", "key", "round"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("pairsearch_studies.id"))
    key: Mapped[str] = mapped_column(String(255))
    round: Mapped[int]
    train_loss: Mapped[float | None]
    train_error: Mapped[float | None]
    test_loss: Mapped[float | None]
    test_error: Mapped[float | None]
    diverged_epoch: Mapped[int | None]
    seconds: Mapped[float]
    """Wall-clock time of the rounds trained together, divided by their number."""
    worker: Mapped[str]
    finished_at: Mapped[float]
    provenance: Mapped[str]


class RoundCurveRow(Base):
    """The figures of one epoch of one round of the final evaluation."""

    __tablename__ = "pairsearch_round_curves"
    round_id: Mapped[int] = mapped_column(ForeignKey(RoundRow.id), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    running_loss: Mapped[float | None]
    """Training loss as the epoch went, before each step."""
    train_loss: Mapped[float | None]
    train_error: Mapped[float | None]
    test_loss: Mapped[float | None]
    test_error: Mapped[float | None]
