"""Reads the figures that a trade-off is about: of the folds, the seconds of training, and facts that are numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from sqlalchemy import Connection, select

from pairsearch.search.common.errors import InputError, StudyError
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations, runs
from pairsearch.search.ledger.rows import read_configuration
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.fold_figures import fold_figures
from pairsearch.search.results.formatting import figure, headed
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.intervals import FloatArray
from pairsearch.studies.problem import Metric

SECONDS = "seconds"
DIRECTIONS = {"min": False, "max": True}
THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?")

Choice = Mapping[str, bool | None]
"""Names of figures, and whether more is better; None for what the figure itself says."""


@dataclass(frozen=True, slots=True)
class ChosenFigure:
    """A figure of the finished configurations."""

    name: str
    metric: Metric
    """How it is shown, and whether more is better here."""
    values: FloatArray
    """(configurations, folds), or (configurations, 1) for one that does not vary by fold; NaN where there is none."""
    declared: bool
    """Whether it is a figure of the problem's folds, and neither seconds nor a fact."""

    @property
    def header(self) -> str:
        """The header of its column."""
        return headed(self.name, self.metric)

    def written(self, value: float) -> str:
        """Format a value."""
        if self.declared:
            return figure(self.metric, value)
        return f"{value:.1f}" if self.name == SECONDS else f"{value:,.10g}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen figures of a study, at least two; none while no configuration is finished."""

    study: StoredStudy
    configurations: tuple[Configuration, ...]
    """The finished ones, in the order of the study."""
    figures: tuple[ChosenFigure, ...]


def choice(text: str) -> Choice:
    """Read a choice such as `error,seconds` or `accuracy:max,latency`.

    Raises:
        InputError: it names fewer than two figures, or one twice.
    """
    chosen: dict[str, bool | None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, end = part.rpartition(":")
        known = bool(colon) and end in DIRECTIONS
        name = name if known else part
        if name in chosen:
            raise InputError(f"--trade {text}: {name} is named twice")
        chosen[name] = DIRECTIONS[end] if known else None
    if len(chosen) < 2:
        raise InputError(
            f"--trade {text}: expected two figures or more, separated by commas, as in error,seconds"
        )
    return chosen


def read_chosen(connection: Connection, study: StoredStudy, chosen: Choice) -> Chosen:
    """Read the figures of the finished configurations, in the caller's transaction.

    Raises:
        StudyError: the study has no figure of a name by which configurations may be compared.
    """
    c = configurations.c
    of_folds = {name: metric for name, metric in study.traits.of_folds.items() if not metric.training}
    finished = select(c.key, c.params, c.seconds).where(c.study_id == study.id, c.state == State.FINISHED)
    rows = connection.execute(finished.order_by(c.rank)).all()
    if not rows:
        return Chosen(study, (), ())
    places = {row.key: place for place, row in enumerate(rows)}
    own = chosen.keys() & of_folds
    values = fold_figures(connection, study, list(places), own) if own else {}
    others = _facts(connection, study, places) if chosen.keys() - of_folds - {SECONDS} else {}
    # Results of other programs that were loaded without times have 0 seconds.
    whole = np.array([[row.seconds or np.nan] for row in rows], float)
    others[SECONDS] = _seconds(connection, study, places, whole)
    values = others | values
    if unknown := [name for name in chosen if name not in values]:
        raise StudyError(
            f"{study.name} has no figure {unknown[0]!r} to trade: expected some of "
            f"{', '.join(dict.fromkeys([*of_folds, *others]))}; a fact counts where it is a "
            "number that is stored, a figure of training examples does not"
        )
    figures = []
    for name, more in chosen.items():
        metric = of_folds.get(name, Metric())
        directed = metric if more is None else replace(metric, maximise=more)
        figures.append(ChosenFigure(name, directed, values[name], name in of_folds))
    return Chosen(study, tuple(read_configuration(row.key, row.params) for row in rows), tuple(figures))


def _seconds(
    connection: Connection, study: StoredStudy, places: Mapping[str, int], whole: FloatArray
) -> FloatArray:
    """Return the seconds of a configuration's training by fold, as many times as there are folds.

    Folds that train together only share their time, and folds that were loaded have none: then these are the seconds
    of all folds, which do not vary by fold.
    """
    if study.traits.together:
        return whole
    c = runs.c
    values = np.full((len(places), study.definition.folds), np.nan)
    measured = select(c.key, c.run, c.seconds).where(c.study_id == study.id, c.kind == "fold")
    for key, fold, seconds in connection.execute(measured):
        if key in places and seconds is not None:
            values[places[key], fold] = seconds * study.definition.folds
    return whole if np.isnan(values).any() else values


def _facts(connection: Connection, study: StoredStudy, places: Mapping[str, int]) -> dict[str, FloatArray]:
    """Return the facts that are numbers, means over the runs that state them."""
    stated: dict[str, dict[str, list[float]]] = {}
    c = runs.c
    for key, text in connection.execute(
        select(c.key, c.facts).where(c.study_id == study.id, c.facts.is_not(None))
    ):
        for name, fact in json.loads(text).items() if key in places else ():
            if (number := _number(fact)) is not None:
                stated.setdefault(name, {}).setdefault(key, []).append(number)
    found = {}
    for name, of_name in sorted(stated.items()):
        found[name] = np.full((len(places), 1), np.nan)
        for key, numbers in of_name.items():
            found[name][places[key]] = fmean(numbers)
    return found


def _number(fact: str) -> float | None:
    """Return the number that a fact is, such as `50,454`; None if it is none."""
    try:
        number = float(fact.replace(",", "") if THOUSANDS.fullmatch(fact) else fact)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
