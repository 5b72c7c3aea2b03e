"""Optuna's storage with short cuts for the writes that every trial makes.

`RDBStorage` writes through SQLAlchemy's ORM, one transaction and several queries for each parameter, attribute and
intermediate value: on PostgreSQL that was three quarters of what the service cost. `TrialStorage` writes the same rows
with a few Core statements, one transaction for a call. `RDBStorage` stays the reference: the tests hold every
short cut to it, row by row, and each falls back to it where the tables are not those that it knows, or where the call
is one that Optuna refuses, so that the errors are Optuna's own.
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

# The columns that the short cuts write; the tables of Optuna 5.0. A further one may need a value of ours.
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
    """What there is to know of a trial in state RUNNING, to tell whether anybody is at work on it."""

    trial_id: int
    started: datetime | None
    """In local time, by the clock of the machine that made it."""
    attributes: Mapping[str, Any]
    """Its user attributes."""
    reported: frozenset[int]
    """Steps that have an intermediate value."""


@dataclass(frozen=True, slots=True)
class Held:
    """Which trial is meant by an id: SQLite gives the ids of what was deleted to others."""

    study: str
    """Name of the study that it belongs to."""
    claim: str | None
    """The claim among its user attributes, None for a trial that has none yet."""


class TrialStorage(RDBStorage):
    """An `RDBStorage` whose new, reported and closed trials cost a third.

    Safe from threads and processes as `RDBStorage` is. Raises what it raises, and SQLAlchemy's `DBAPIError` where the
    database refuses or is away.
    """

    short_cuts = tables_known()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Add a trial; a template in state RUNNING, without values and system attributes, takes the short cut."""
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
        """Add a running trial whose parameters are asked for while no other process can change their categories.

        Args:
            study: name of the study; an id may have gone to another one.
            template: as for `create_new_trial`; its own parameters are used where short cuts are not.
            current: its parameters and their distributions, read by the connection that it is given.

        Raises:
            KeyError: there is no such study.
        """
        if not self.short_cuts:
            return super().create_new_trial(self.get_study_id_from_name(study), template)
        return self._start(studies.c.study_name == study, template, current)

    def add_trials(self, study_id: int, templates: Sequence[FrozenTrial]) -> list[int]:
        """Add trials that have ended, all or none; their ids in the same order."""
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
        """Make Optuna's tables where they are missing."""
        models.BaseModel.metadata.create_all(self.engine)

    def holds(self, trial_id: int, held: Held) -> bool:
        """Whether a trial is still the one that is meant."""
        with self.engine.begin() as connection:
            found = connection.execute(
                select(trials.c.trial_id).where(trials.c.trial_id == trial_id, *_meant(held))
            )
            return found.first() is not None

    def _start(
        self,
        mine: ColumnElement[bool],
        template_trial: FrozenTrial,
        current: Callable[[Connection], Parameters],
    ) -> int:
        with self.engine.begin() as connection:
            if connection.dialect.name != SQLITE:
                # Numbers count up: one creation at a time. SQLite has one writer anyway.
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
                # From here on SQLite, too, has no other writer.
                _write_params(connection, trial_id, *current(connection))
            if template_trial.user_attrs:
                _write_user_attributes(connection, trial_id, template_trial.user_attrs)
        return trial_id

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Store what a running trial reports after a step, or replace it."""
        self.report(trial_id, step, intermediate_value, None)

    def report(self, trial_id: int, step: int, value: float, held: Held | None) -> None:
        """As `set_trial_intermediate_value`, for the trial that is meant.

        Raises:
            KeyError: there is no such trial; nothing is written.
            UpdateFinishedTrialError: it is finished already.
        """
        if self.short_cuts:
            with self.engine.begin() as connection:
                if _write_reports(connection, trial_id, TrialState.RUNNING, {step: value}, held):
                    return
        self._check_held(trial_id, held)
        super().set_trial_intermediate_value(trial_id, step, value)

    def _check_held(self, trial_id: int, held: Held | None) -> None:
        if held is not None and not self.holds(trial_id, held):
            raise KeyError(models.NOT_FOUND_MSG)

    def running_trials(self, study_id: int) -> list[RunningTrial]:
        """The trials in state RUNNING, in their order.

        Optuna's own `get_all_trials` builds all of them whole, and goes on asking on a connection that broke off.
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
            found = connection.execute(
                select(trials.c.trial_id, trials.c.datetime_start).where(*running).order_by(trials.c.trial_id)
            ).all()
            if not found:
                return []
            notes: dict[int, dict[str, Any]] = {row.trial_id: {} for row in found}
            steps: dict[int, set[int]] = {row.trial_id: set() for row in found}
            attributes, reports = user_attributes.c, intermediate_values.c
            for trial_id, key, value in connection.execute(
                select(attributes.trial_id, attributes.key, attributes.value_json)
                .join(trials, trials.c.trial_id == attributes.trial_id)
                .where(*running)
            ):
                # A trial that began in between is the next look's.
                if trial_id in notes:
                    # What others wrote that is no JSON counts as nothing.
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
            for trial_id, started in found
        ]

    def close_trial(
        self,
        trial_id: int,
        state: TrialState,
        value: float | None,
        user_attrs: Mapping[str, Any],
        reports: Mapping[int, float],
        held: Held | None = None,
    ) -> None:
        """End a running trial, with its last attributes and reports, in one transaction.

        Args:
            value: what the study minimises; None for a trial that gave nothing.
            user_attrs: JSON-serialisable values by key.
            reports: intermediate values by step.
            held: which trial is meant; None for the one of that id.

        Raises:
            UpdateFinishedTrialError: the trial is finished already; nothing is written.
            KeyError: there is no such trial.
        """
        if self.short_cuts:
            with self.engine.begin() as connection:
                closed = connection.execute(
                    update(trials)
                    .where(trials.c.trial_id == trial_id, trials.c.state == TrialState.RUNNING, *_meant(held))
                    .values(state=state, datetime_complete=_utc(datetime.now()))
                )
                if closed.rowcount == 1:
                    if value is not None:
                        _write_value(connection, trial_id, value)
                    if user_attrs:
                        _write_user_attributes(connection, trial_id, user_attrs)
                    _write_reports(connection, trial_id, state, reports, None)
                    return
        self._check_held(trial_id, held)
        for step, report in reports.items():
            super().set_trial_intermediate_value(trial_id, step, report)
        for key, note in user_attrs.items():
            self.set_trial_user_attr(trial_id, key, note)
        self.set_trial_state_values(trial_id, state, None if value is None else [value])


def _utc(time: datetime | None) -> datetime | None:
    # Optuna takes and gives local times without a zone, and stores UTC without one.
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)


def _local(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _next_number(study_id: ColumnElement[int]) -> ColumnElement[int]:
    """One more than the last: after deletions, a count would give a number that there is."""
    others = trials.alias()
    last = select(func.max(others.c.number)).where(others.c.study_id == study_id).scalar_subquery()
    return func.coalesce(last + 1, 0)


def _meant(held: Held | None) -> list[ColumnElement[bool]]:
    if held is None:
        return []
    study = select(studies.c.study_id).where(studies.c.study_name == bindparam("of_study", held.study))
    conditions: list[ColumnElement[bool]] = [trials.c.study_id == study.scalar_subquery()]
    if held.claim is not None:
        conditions.append(
            exists().where(
                user_attributes.c.trial_id == trials.c.trial_id,
                user_attributes.c.key == "claim",
                user_attributes.c.value_json == bindparam("of_claim", json.dumps(held.claim)),
            )
        )
    return conditions


def _write_params(
    connection: Connection,
    trial_id: int,
    given: Mapping[str, Any],
    found: Mapping[str, BaseDistribution],
) -> None:
    connection.execute(
        insert(params),
        [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": found[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(found[name]),
            }
            for name, value in given.items()
        ],
    )


def _write_value(connection: Connection, trial_id: int, value: float) -> None:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    connection.execute(insert(values).values(trial_id=trial_id, objective=0, value=stored, value_type=kind))


def _write_reports(
    connection: Connection, trial_id: int, state: TrialState, reports: Mapping[int, float], held: Held | None
) -> bool:
    """Whether they were written: the trial is the one that is meant, and in the state."""
    if not reports:
        return True
    rows = [_report_row(trial_id, step, report) for step, report in reports.items()]
    statement = _reporting(connection.dialect.name, state, held)
    return connection.execute(statement, rows).rowcount > 0


def _upsert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return sqlite.insert(table) if dialect == SQLITE else postgresql.insert(table)


@cache
def _describing(dialect: str) -> Insert:
    """Upsert of a user attribute."""
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


# A worker has one trial at a time, and about ten reports of it.
@lru_cache(maxsize=16)
def _reporting(dialect: str, state: TrialState, held: Held | None) -> Insert:
    """Upsert of a report, for a trial that is the one meant and in the state; none is written for another."""
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
        *_meant(held),
    )
    names = ["trial_id", "step", "intermediate_value", "intermediate_value_type"]
    upsert = statement.from_select(names, source).on_conflict_do_update(
        index_elements=["trial_id", "step"], set_={name: statement.excluded[name] for name in names[2:]}
    )
    # SQLAlchemy drops the count of an INSERT otherwise.
    return upsert.execution_options(preserve_rowcount=True)


def _report_row(trial_id: int, step: int, report: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(report)
    return {"of_trial": trial_id, "at_step": step, "reported": stored, "kind": kind}
