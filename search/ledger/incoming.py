"""Stores studies with results that come from elsewhere, each row once: what is there already has to be the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, select, update

from pairsearch.search.common.errors import StudyError
from pairsearch.search.database.bulk import insert_many
from pairsearch.search.database.states import COVERED, JobState
from pairsearch.search.database.tables import configurations, curves, jobs, runs
from pairsearch.search.ledger.jobs import fold_jobs
from pairsearch.search.ledger.rows import provenance_id, read_figures, write_figures
from pairsearch.search.ledger.statements import jobs_of
from pairsearch.search.ledger.studies import Choices, StoredStudy, check_same
from pairsearch.studies.definition import Definition
from pairsearch.studies.problem import Traits

LOADED = "loaded"
"""The fact in the provenance of a result that says where it was loaded from."""

RunKey = tuple[str, str, int]
"""Key of the configuration, kind and number of a run."""


@dataclass(frozen=True, slots=True)
class IncomingRun:
    """A fold, a round or a mean that is to be stored.

    Args:
        row: its columns in the database, without the study's id.
        curves: the points of each figure as JSON, by name.
    """

    row: Mapping[str, Any]
    curves: Mapping[str, str]


def run_columns(
    key: str, kind: str, run: int, epochs: int, figures: Mapping[str, float | None]
) -> dict[str, Any]:
    """Return the columns of a run, of which those that only some runs have are empty."""
    rest = dict.fromkeys(("diverged_epoch", "seconds", "worker", "finished_at", "facts", "provenance"))
    about = {"key": key, "kind": kind, "run": run, "epochs": epochs, "figures": write_figures(figures)}
    return about | rest


@dataclass(frozen=True, slots=True)
class Incoming:
    """A study that is to be stored.

    Args:
        traits: what its problem declared.
        choices: the values of each parameter, in the order in which they came into the grid.
        configurations: the columns of each configuration of the grid, by key, in the order of claims; without the ids
            and what only a claim has.
        runs: its runs; folds of configurations that have a result, and rounds.
        source: where it comes from, for messages.
    """

    definition: Definition
    traits: Traits
    choices: Choices
    configurations: Mapping[str, Mapping[str, Any]]
    runs: Mapping[RunKey, IncomingRun]
    source: str

    @property
    def name(self) -> str:
        """The study's name."""
        return self.definition.name


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be written for a study.

    Args:
        study: the study that is there, or None.
        definition: the definition that the study has afterwards.
        new: keys of the configurations that are not there.
        results: keys of the configurations that are there and get their result.
        runs: the runs that are not there.
    """

    study: StoredStudy | None
    definition: Definition
    new: Sequence[str]
    results: Sequence[str]
    runs: Sequence[RunKey]

    @property
    def rounds(self) -> int:
        """How many rounds are added."""
        return sum(kind == "round" for _, kind, _ in self.runs)


def plan(connection: Connection, given: Incoming, study: StoredStudy | None) -> Plan:
    """Compare a study with what is in the database, and say what has to be written.

    A configuration has the same result where its state, its value and the last figures of each fold are the same bits;
    a round where its last figures are.

    Raises:
        StudyError: the study there has another definition, problem or data, or another result.
    """
    if study is None:
        return Plan(None, given.definition, list(given.configurations), [], list(given.runs))
    definition = _larger(study.definition, given.definition)
    check_same(study, definition, given.traits)
    c, r = configurations.c, runs.c
    of_study = select(c.key, c.state, c.value).where(c.study_id == study.id)
    there = {row.key: row for row in connection.execute(of_study)}
    new = [key for key in given.configurations if key not in there]
    results = []
    for key, row in given.configurations.items():
        if key in there and row["state"] in COVERED:
            if there[key].state not in COVERED:
                results.append(key)
            elif (there[key].state, there[key].value) != (row["state"], row["value"]):
                raise _other(given, key, _result(there[key]._mapping), _result(row))
    of_runs = select(r.key, r.kind, r.run, r.figures, r.diverged_epoch).where(r.study_id == study.id)
    known = {(row.key, row.kind, row.run): row for row in connection.execute(of_runs)}
    missing, gaining = [], {*new, *results}
    for place, run in given.runs.items():
        key, kind, number = place
        if place in known:
            ours, theirs = read_figures(known[place].figures), read_figures(run.row["figures"])
            same = known[place].diverged_epoch == run.row["diverged_epoch"]
            if not same or _finite(ours) != _finite(theirs):
                raise _other(given, f"{kind} {number} of {key}", ours, theirs)
        elif kind == "round" or key in gaining:
            missing.append(place)
        elif kind == "fold":
            raise _other(given, key, f"no fold {number}", f"fold {number}")
    return Plan(study, definition, new, results, missing)


def _larger(stored: Definition, given: Definition) -> Definition:
    """Return the given definition, with the stored grid if that has all points of the given one."""
    if set(given.grid.points()) <= set(stored.grid.points()):
        return given.model_copy(update={"grid": stored.grid})
    return given


def _result(row: Mapping[Any, Any]) -> str:
    return f"{row['state']}, {row['value']!r}"


def _finite(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}


def _other(given: Incoming, what: str, there: object, here: object) -> StudyError:
    return StudyError(
        f"study {given.name} in the database has another result of {what} than {given.source}: {there} there and "
        f"{here} here. Use another database"
    )


def store(connection: Connection, given: Incoming, made: Plan, study: StoredStudy) -> None:
    """Write what a plan says, in the caller's transaction; the caller holds the creation lock.

    A configuration that a worker trains at this moment gets its result too; the worker finds that it lost its claim.
    """
    c, before = configurations.c, 0 if made.study is None else len(made.study.definition.grid)
    # Thousands of rows have a handful of provenances.
    provenance_of = cache(lambda facts: provenance_id(connection, json.loads(facts)))

    def row_of(stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of a row with the ids of its study and of its provenance."""
        row = dict(stored) | {"study_id": study.id}
        facts = row.pop("provenance")
        return row | {"provenance_id": None if facts is None else provenance_of(facts)}

    rows = []
    for offset, key in enumerate(made.new):
        row = row_of(given.configurations[key]) | {"key": key}
        rows.append(row if made.study is None else row | {"rank": before + offset})
    if rows:
        insert_many(connection, configurations, rows)
    left = [job for row in rows if row["state"] not in COVERED for job in fold_jobs(study, row)]
    if left:
        insert_many(connection, jobs, left)
    for key in made.results:
        row = row_of(given.configurations[key]) | {"trial_id": None}
        del row["rank"]
        open_one = (c.study_id == study.id, c.key == key, c.state.not_in(COVERED))
        connection.execute(update(configurations).where(*open_one).values(**row))
        connection.execute(update(jobs).where(jobs_of(study.id, key, "fold")).values(state=JobState.DROPPED))
    if not made.runs:
        return
    insert_many(connection, runs, [row_of(given.runs[place].row) for place in made.runs])
    with_curves = {place: of for place in made.runs if (of := given.runs[place].curves)}
    r = runs.c
    found = connection.execute(select(r.id, r.key, r.kind, r.run).where(r.study_id == study.id))
    points = [
        {"run_id": row.id, "figure": figure, "points": text}
        for row in found
        for figure, text in with_curves.get((row.key, row.kind, row.run), {}).items()
    ]
    if points:
        insert_many(connection, curves, points)
