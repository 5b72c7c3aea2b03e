"""Optuna's storage with short cuts for the writes of every trial.

`RDBStorage` writes through SQLAlchemy's ORM, with one transaction and several queries for each parameter, attribute and
intermediate value. On PostgreSQL this took three quarters of the service's time. `TrialStorage` writes the same rows
with a few Core statements, in one transaction for each call. `RDBStorage` stays the reference: tests compare every
short cut with it, row by row. A short cut falls back to `RDBStorage` if Optuna's tables have other columns than
expected, or if Optuna would refuse the call, so that the errors are Optuna's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Table,
    bindparam,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from pairsearch.search.database.urls import SQLITE

studies: Table = models.StudyModel.__table__
trials: Table = models.TrialModel.__table__
params: Table = models.TrialParamModel.__table__
user_attributes: Table = models.TrialUserAttributeModel.__table__
values: Table = models.TrialValueModel.__table__
intermediate_values: Table = models.TrialIntermediateValueModel.__table__

# The columns of the tables that the short cuts write, as of Optuna 5.0. A new column might need a value.
KNOWN: Mapping[Table, frozenset[str]] = {
    trials: frozenset({"trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"}),
    params: frozenset({"param_id", "trial_id", "param_name", "param_value", "distribution_json"}),
    user_attributes: frozenset({"trial_user_attribute_id", "trial_id", "key", "value_json"}),
    values: frozenset({"trial_value_id", "trial_id", "objective", "value", "value_type"}),
    intermediate_values: frozenset(
        {
            "trial_intermediate_value_id",
            "trial_id",
            "step",
            "intermediate_value",
            "intermediate_value_type",
        }
    ),
}


Parameters = tuple[Mapping[str, Any], Mapping[str, BaseDistribution]]
"""The parameters of a trial and their distributions."""


def tables_known() -> bool:
    """Whether the installed Optuna has the tables that the short cuts were written for."""
    return all({column.name for column in table.columns} == names for table, names in KNOWN.items())


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial in state RUNNING, with what decides whether a worker still trains it."""

    trial_id: int
    started: datetime | None
    """Local time on the clock of the machine that created it."""
    attributes: Mapping[str, Any]
    """User attributes."""
    reported: frozenset[int]
    """Steps that have an intermediate value."""


@dataclass(frozen=True, slots=True)
class TrialIdentity:
    """What identifies a trial beside its id, since SQLite uses the ids of deleted rows again."""

    study: str
    """Name of the study that the trial belongs to."""
    claim: str | None
    """Token of the claim in its user attributes; None for a trial without claim."""


class TrialStorage(RDBStorage):
    """An `RDBStorage` that creates, reports and closes trials in a third of the time.

    It is as safe to use from threads and processes as `RDBStorage`. It raises what `RDBStorage` raises, and
    SQLAlchemy's `DBAPIError` if the database refuses a statement or is unavailable.
    """

    short_cuts = tables_known()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Add a trial. Templates in state RUNNING, without values and system attributes, take the short cut."""
        if (
            template_trial is None
            or not self.short_cuts
            or template_trial.state != TrialState.RUNNING
            or template_trial.values is not None
            or template_trial.system_attrs
            or template_trial.intermediate_values
        ):
            return super().create_new_trial(study_id, template_trial)
        mine = studies.c.study_id == study_id
        return self._start(
            mine, template_trial, lambda _: (template_trial.params, template_trial.distributions)
        )

    def start_trial(
        self,
        study: str,
        template: FrozenTrial,
        current: Callable[[Connection], Parameters],
    ) -> int:
        """Add a running trial, and read its parameters while no other process can change their categories.

        Args:
            study: name of the study; its id may belong to another study by now.
            template: see `create_new_trial`; its own parameters are used if the short cut is not.
            current: reads the parameters and their distributions over a connection.

        Returns:
            The id of the trial.

        Raises:
            KeyError: there is no such study.
        """
        if not self.short_cuts:
            return super().create_new_trial(self.get_study_id_from_name(study), template)
        return self._start(studies.c.study_name == study, template, current)

    def add_trials(self, study_id: int, templates: Sequence[FrozenTrial]) -> list[int]:
        """Add finished trials, all or none, and return their ids in the same order."""
        if not self.short_cuts:
            return [super(TrialStorage, self).create_new_trial(study_id, template) for template in templates]
        with self.engine.begin() as connection:
            connection.execute(
                select(studies.c.study_id).where(studies.c.study_id == study_id).with_for_update()
            )
            first = connection.execute(select(_next_number(literal(study_id)))).scalar_one()
            rows = [
                {
                    "study_id": study_id,
                    "number": first + place,
                    "state": template.state,
                    "datetime_start": _utc(template.datetime_start),
                    "datetime_complete": _utc(template.datetime_complete),
                }
                for place, template in enumerate(templates)
            ]
            added = insert(trials).returning(trials.c.trial_id, sort_by_parameter_order=True)
            ids = list(connection.execute(added, rows).scalars())
            for trial_id, template in zip(ids, templates, strict=True):
                _write_params(connection, trial_id, template.params, template.distributions)
                _write_user_attributes(connection, trial_id, template.user_attrs)
                if template.value is not None:
                    _write_value(connection, trial_id, template.value)
                _write_reports(connection, trial_id, template.state, template.intermediate_values, None)
        return ids

    def make_tables(self) -> None:
        """Create Optuna's missing tables."""
        models.BaseModel.metadata.create_all(self.engine)

    def holds(self, trial_id: int, identity: TrialIdentity) -> bool:
        """Whether the trial of that id exists and has this identity."""
        with self.engine.begin() as connection:
            rows = connection.execute(
                select(trials.c.trial_id).where(trials.c.trial_id == trial_id, *_matching(identity))
            )
            return rows.first() is not None

    def _start(
        self,
        mine: ColumnElement[bool],
        template_trial: FrozenTrial,
        current: Callable[[Connection], Parameters],
    ) -> int:
        with self.engine.begin() as connection:
            if connection.dialect.name != SQLITE:
                # A lock, since numbers have to count up. SQLite has one writer anyway.
                connection.execute(select(studies.c.study_id).where(mine).with_for_update())
            types = trials.c
            source = select(
                studies.c.study_id,
                _next_number(studies.c.study_id),
                literal(TrialState.RUNNING, types.state.type),
                literal(_utc(template_trial.datetime_start), types.datetime_start.type),
            ).where(mine)
            names = ["study_id", "number", "state", "datetime_start"]
            trial_id: int | None = connection.execute(
                insert(trials).from_select(names, source).returning(trials.c.trial_id)
            ).scalar()
            if trial_id is None:
                raise KeyError(models.NOT_FOUND_MSG)
            if template_trial.params:
                # After the insert above SQLite has no other writer either.
                _write_params(connection, trial_id, *current(connection))
            if template_trial.user_attrs:
                _write_user_attributes(connection, trial_id, template_trial.user_attrs)
        return trial_id

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Store the intermediate value of a running trial after a step, or replace it."""
        self.report(trial_id, step, intermediate_value, None)

    def report(self, trial_id: int, step: int, value: float, identity: TrialIdentity | None) -> None:
        """Store an intermediate value as `set_trial_intermediate_value` does, if the trial has this identity.

        Raises:
            KeyError: there is no such trial; nothing is written.
            UpdateFinishedTrialError: the trial is already finished.
        """
        if self.short_cuts:
            with self.engine.begin() as connection:
                if _write_reports(connection, trial_id, TrialState.RUNNING, {step: value}, identity):
                    return
        self._check_identity(trial_id, identity)
        super().set_trial_intermediate_value(trial_id, step, value)

    def _check_identity(self, trial_id: int, identity: TrialIdentity | None) -> None:
        if identity is not None and not self.holds(trial_id, identity):
            raise KeyError(models.NOT_FOUND_MSG)

    def running_trials(self, study_id: int) -> list[RunningTrial]:
        """Read the trials in state RUNNING, ordered by id.

        Optuna's `get_all_trials` would load every trial completely, and goes on with queries after its connection was
        closed.
        """
        if not self.short_cuts:
            return [
                RunningTrial(
                    trial._trial_id,
                    trial.datetime_start,
                    trial.user_attrs,
                    frozenset(trial.intermediate_values),
                )
                for trial in self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
            ]
        running = (trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
        with self.engine.begin() as connection:
            rows = connection.execute(
                select(trials.c.trial_id, trials.c.datetime_start).where(*running).order_by(trials.c.trial_id)
            ).all()
            if not rows:
                return []
            notes: dict[int, dict[str, Any]] = {row.trial_id: {} for row in rows}
            steps: dict[int, set[int]] = {row.trial_id: set() for row in rows}
            attributes, reports = user_attributes.c, intermediate_values.c
            for trial_id, key, value in connection.execute(
                select(attributes.trial_id, attributes.key, attributes.value_json)
                .join(trials, trials.c.trial_id == attributes.trial_id)
                .where(*running)
            ):
                # A trial that started since the first query is left to the next call.
                if trial_id in notes:
                    # Someone else may have written a value that is not JSON; it is ignored.
                    with suppress(ValueError):
                        notes[trial_id][key] = json.loads(value)
            for trial_id, step in connection.execute(
                select(reports.trial_id, reports.step)
                .join(trials, trials.c.trial_id == reports.trial_id)
                .where(*running)
            ):
                if trial_id in steps:
                    steps[trial_id].add(step)
        return [
            RunningTrial(trial_id, _local(started), notes[trial_id], frozenset(steps[trial_id]))
            for trial_id, started in rows
        ]

    def close_trial(
        self,
        trial_id: int,
        state: TrialState,
        value: float | None,
        user_attrs: Mapping[str, Any],
        reports: Mapping[int, float],
        identity: TrialIdentity | None = None,
    ) -> None:
        """Close a running trial, with its last attributes and reports, in one transaction.

        Args:
            state: its final state.
            value: the value of the trial; None for a trial without result.
            user_attrs: JSON-serialisable values by key.
            reports: intermediate values by step.
            identity: the identity that the trial must have; None not to check it.

        Raises:
            UpdateFinishedTrialError: the trial is already finished; nothing is written.
            KeyError: there is no such trial.
        """
        if self.short_cuts:
            with self.engine.begin() as connection:
                closed = connection.execute(
                    update(trials)
                    .where(
                        trials.c.trial_id == trial_id,
                        trials.c.state == TrialState.RUNNING,
                        *_matching(identity),
                    )
                    .values(state=state, datetime_complete=_utc(datetime.now()))
                )
                if closed.rowcount == 1:
                    if value is not None:
                        _write_value(connection, trial_id, value)
                    if user_attrs:
                        _write_user_attributes(connection, trial_id, user_attrs)
                    _write_reports(connection, trial_id, state, reports, None)
                    return
        self._check_identity(trial_id, identity)
        for step, report in reports.items():
            super().set_trial_intermediate_value(trial_id, step, report)
        for key, note in user_attrs.items():
            self.set_trial_user_attr(trial_id, key, note)
        self.set_trial_state_values(trial_id, state, None if value is None else [value])


def _utc(time: datetime | None) -> datetime | None:
    # Optuna's interface has local times without a zone; its tables have UTC without a zone.
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)


def _local(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _next_number(study_id: ColumnElement[int]) -> ColumnElement[int]:
    """Return one more than the last number; after deletions, a count would repeat a number."""
    others = trials.alias()
    last = select(func.max(others.c.number)).where(others.c.study_id == study_id).scalar_subquery()
    return func.coalesce(last + 1, 0)


def _matching(identity: TrialIdentity | None) -> list[ColumnElement[bool]]:
    if identity is None:
        return []
    study = select(studies.c.study_id).where(studies.c.study_name == bindparam("of_study", identity.study))
    conditions: list[ColumnElement[bool]] = [trials.c.study_id == study.scalar_subquery()]
    if identity.claim is not None:
        conditions.append(
            exists().where(
                user_attributes.c.trial_id == trials.c.trial_id,
                user_attributes.c.key == "claim",
                user_attributes.c.value_json == bindparam("of_claim", json.dumps(identity.claim)),
            )
        )
    return conditions


def _write_params(
    connection: Connection,
    trial_id: int,
    values_by_name: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
) -> None:
    connection.execute(
        insert(params),
        [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": distributions[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(distributions[name]),
            }
            for name, value in values_by_name.items()
        ],
    )


def _write_value(connection: Connection, trial_id: int, value: float) -> None:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    connection.execute(insert(values).values(trial_id=trial_id, objective=0, value=stored, value_type=kind))


def _write_reports(
    connection: Connection,
    trial_id: int,
    state: TrialState,
    reports: Mapping[int, float],
    identity: TrialIdentity | None,
) -> bool:
    """Write intermediate values if the trial is in this state and has this identity; return whether it is so."""
    if not reports:
        return True
    rows = [_report_row(trial_id, step, report) for step, report in reports.items()]
    statement = _reporting(connection.dialect.name, state, identity)
    return connection.execute(statement, rows).rowcount > 0


def _upsert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return sqlite.insert(table) if dialect == SQLITE else postgresql.insert(table)


@cache
def _describing(dialect: str) -> Insert:
    """Return the upsert statement of a user attribute."""
    statement = _upsert(dialect, user_attributes)
    return statement.on_conflict_do_update(
        index_elements=["trial_id", "key"], set_={"value_json": statement.excluded.value_json}
    )


def _write_user_attributes(connection: Connection, trial_id: int, attributes: Mapping[str, Any]) -> None:
    connection.execute(
        _describing(connection.dialect.name),
        [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for key, value in attributes.items()
        ],
    )


# A worker has one trial at a time, and reports to it about ten times by the same statement.
@lru_cache(maxsize=16)
def _reporting(dialect: str, state: TrialState, identity: TrialIdentity | None) -> Insert:
    """Return the upsert statement of an intermediate value; it writes nothing if state or identity differ."""
    columns = intermediate_values.c
    statement = _upsert(dialect, intermediate_values)
    source = select(
        trials.c.trial_id,
        bindparam("at_step", type_=columns.step.type),
        bindparam("reported", type_=columns.intermediate_value.type),
        bindparam("kind", type_=columns.intermediate_value_type.type),
    ).where(
        trials.c.trial_id == bindparam("of_trial"),
        trials.c.state == literal(state, trials.c.state.type),
        *_matching(identity),
    )
    names = ["trial_id", "step", "intermediate_value", "intermediate_value_type"]
    upsert = statement.from_select(names, source).on_conflict_do_update(
        index_elements=["trial_id", "step"], set_={name: statement.excluded[name] for name in names[2:]}
    )
    # Without this option SQLAlchemy drops the row count of an INSERT.
    return upsert.execution_options(preserve_rowcount=True)


def _report_row(trial_id: int, step: int, report: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(report)
    return {"of_trial": trial_id, "at_step": step, "reported": stored, "kind": kind}
