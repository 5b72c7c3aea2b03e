"""Reads from the ledger what trackers show of a study."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from pairsearch.search.common.redaction import conceal
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


def listed(connection: Connection, study: StoredStudy) -> dict[str, dict[str, str]]:
    """Return the states of the runs of each configuration that has ended, by its key and the run's id.

    Configurations come in the order of the search, those beyond the grid last; one that is open comes when it has
    ended, with its rounds.
    """
    c, r = configurations.c, runs.c
    ended = select(c.key, c.state).where(c.study_id == study.id, c.state.not_in(OPEN)).order_by(c.rank)
    found = {key: {run_id(study, "configuration", key): state} for key, state in connection.execute(ended)}
    trained = (
        select(r.key, r.kind, r.run, r.diverged_epoch, c.state)
        .select_from(OF_RUNS)
        .where(r.study_id == study.id, r.kind.in_(TRAINED))
        .order_by(*IN_ORDER)
    )
    for key, kind, number, diverged, state in connection.execute(trained):
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
        as_configuration = partial(
            of_key, parents[1], kind="configuration", name=name[:LONGEST_NAME], parents=parents[:1]
        )
        if point is None:
            yield as_configuration(state=EVALUATED, tags=about | {"state": EVALUATED})
        else:
            place = {"state": point.state, "position": str(point.rank)}
            said = _said("worker", point.worker) | _said("reason", point.reason)
            yield as_configuration(
                state=point.state,
                tags=_facts(point.origin) | about | place | said,
                curves=means.get(key, {}) if point.state in COVERED else {},
                **_ending(point, study),
            )
        for one in rows.get(key, ()):
            place = {"state": _state(one.diverged_epoch), one.kind: str(one.run)}
            yield of_key(
                run_id(study, one.kind, key, one.run),
                kind=one.kind,
                name=f"{one.kind} {one.run}",
                state=place["state"],
                parents=parents,
                tags=_facts(one.facts) | _facts(one.origin) | about | place | _said("worker", one.worker),
                curves=of_each.get((key, one.kind, one.run), {}),
                **_ending(one, study),
            )


def _ending(row: Any, study: StoredStudy) -> dict[str, Any]:
    """Return a run's last figures, and its times; of results without any the time is that of the study."""
    return {
        "figures": {"seconds": row.seconds} | read_figures(row.figures),
        "ended": row.finished_at or study.created_at,
        "seconds": row.seconds or 0.0,
    }


def _facts(text: str | None) -> dict[str, str]:
    return {name: str(fact) for name, fact in json.loads(text or "{}").items()}


def _said(name: str, text: str | None) -> dict[str, str]:
    return {} if text is None else {name: conceal(text)}
