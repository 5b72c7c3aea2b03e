"""Reads from the ledger what trackers show of a study."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from pairsearch.search.common.redaction import conceal
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, OPEN
from pairsearch.search.database.tables import TRAINED, configurations, jobs, provenances, runs
from pairsearch.search.ledger.rows import MEAN, read_configuration, read_figures
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.study_table import IN_ORDER, OF_RUNS, mean_curves, read_curves
from pairsearch.search.tracking.contract import Run, run_id
from pairsearch.studies.configuration import describe

LONGEST_NAME = 120
EVALUATED = "evaluated"
"""The state of a configuration beyond the grid, which has rounds alone."""


States = dict[str, dict[str, str]]
"""What there is to export of a study: states of runs by their ids, by the keys of their configurations."""


def states_of(database: Database, study: StoredStudy) -> States:
    """Read what there is to export of a study: the runs of each configuration that has ended.

    Configurations come in the order of the search, those beyond the grid last; one that is open comes when it has
    ended, with its rounds.
    """
    c, r = configurations.c, runs.c
    ended = select(c.key, c.state).where(c.study_id == study.id, c.state.not_in(OPEN)).order_by(c.rank)
    trained = (
        select(r.key, r.kind, r.run, r.diverged_epoch, c.state)
        .select_from(OF_RUNS)
        .where(r.study_id == study.id, r.kind.in_(TRAINED))
        .order_by(*IN_ORDER)
    )
    with database.snapshot() as connection:
        points, rows = connection.execute(ended).all(), connection.execute(trained).all()
    found = {key: {run_id(study, "configuration", key): state} for key, state in points}
    for key, kind, number, diverged, state in rows:
        if state is None:
            found.setdefault(key, {run_id(study, "configuration", key): EVALUATED})
        if key in found:
            found[key][run_id(study, kind, key, number)] = _state(diverged)
    return found


def _state(diverged: int | None) -> str:
    return "finished" if diverged is None else "diverged"


def read_runs(connection: Connection, study: StoredStudy, keys: Sequence[str]) -> Iterator[Run]:
    """Yield the runs of some configurations, each after the one that it is nested in."""
    c, r, j = configurations.c, runs.c, jobs.c
    origin = provenances.c.facts.label("origin")
    of_points = (
        select(configurations, origin)
        .join(provenances, provenances.c.id == c.provenance_id, isouter=True)
        .where(c.study_id == study.id, c.key.in_(keys))
    )
    of_runs = (
        select(runs, origin)
        .join(provenances, provenances.c.id == r.provenance_id, isouter=True)
        .where(r.study_id == study.id, r.key.in_(keys), r.kind.in_(TRAINED))
        .order_by(r.kind, r.run)
    )
    asked = select(j.key, j.params).where(j.study_id == study.id, j.key.in_(keys), j.params.is_not(None))
    beyond = {row.key: row.params for row in connection.execute(asked)}
    points: dict[str, Any] = {row.key: row for row in connection.execute(of_points)}
    rows: dict[str, list[Any]] = {}
    for row in connection.execute(of_runs):
        rows.setdefault(row.key, []).append(row)
    curves = list(read_curves(connection, study, (*TRAINED, MEAN), within=keys))
    means = {key: read for key, _, _, read in mean_curves(one for one in curves if one[1] != "round")}
    of_each = {(key, kind, number): read for key, kind, number, read in curves}
    for key in keys:
        point = points.get(key)
        text = beyond.get(key) if point is None else point.params
        params = {} if text is None else read_configuration(key, text).params
        name = describe(params) if params else key
        group = f"{name[:LONGEST_NAME]} ({run_id(study, 'configuration', key)[:6]})"
        parents = [run_id(study, "study"), run_id(study, "configuration", key)]
        about = {"study": study.name, "key": key}
        of_key = partial(Run, study=study.name, group=group, params=params)
        state, tags, more = EVALUATED, about, {}
        if point is not None:
            state, more = point.state, _ending(point, study)
            tags = _said(point) | about | {"position": str(point.rank)}
            if state in COVERED:
                more["curves"] = means.get(key, {})
        yield of_key(
            parents[1], kind="configuration", name=name[:LONGEST_NAME], state=state, parents=parents[:1],
            tags=tags | {"state": state}, **more,
        )  # fmt: skip
        for one in rows.get(key, ()):
            state, number = _state(one.diverged_epoch), str(one.run)
            yield of_key(
                run_id(study, one.kind, key, one.run), kind=one.kind, name=f"{one.kind} {number}", state=state,
                parents=parents, tags=_said(one) | about | {"state": state, one.kind: number},
                curves=of_each.get((key, one.kind, one.run), {}), **_ending(one, study),
            )  # fmt: skip


def _ending(row: Any, study: StoredStudy) -> dict[str, Any]:
    """Return a run's last figures, and its times; of results that were loaded without any, the study's time."""
    figures = {"seconds": row.seconds} | read_figures(row.figures)
    return {"figures": figures, "ended": row.finished_at or study.created_at, "seconds": row.seconds or 0.0}


def _said(row: Any) -> dict[str, str]:
    """Return what is known of a run beside its figures: facts, provenance, who trained it, why it ended."""
    found: dict[str, Any] = {}
    for column in ("facts", "origin"):
        found |= json.loads(getattr(row, column, None) or "{}")
    found |= {name: text for name in ("worker", "reason") if (text := getattr(row, name, None)) is not None}
    return {name: conceal(str(fact)) for name, fact in found.items()}
