"""Formats configurations, effects and intervals for the sentences about claims."""

from __future__ import annotations

from collections.abc import Sequence

from pairsearch.search.results.formatting import figure, label, words
from pairsearch.search.results.study_table import StudyTable
from pairsearch.studies.claims_file import Choice
from pairsearch.studies.configuration import Configuration, Params, shown
from pairsearch.studies.intervals import Interval
from pairsearch.studies.problem import Metric


def choice(table: StudyTable, chosen: Choice) -> str:
    """Name a configuration by how it was chosen: `WS (paper)`, `B1 (best validation loss, batch size 25)`."""
    how, values = ["paper"], chosen.changed
    if chosen.params:
        how, values = [], chosen.params
    elif chosen.best is not None:
        metric = table.traits.metrics.get(chosen.best, Metric())
        how, values = [f"best {label(chosen.best, metric)}"], chosen.where
    return f"{table.name.upper()} ({', '.join([*how, *_listed(values)])})"


def grid(tables: Sequence[StudyTable], where: Params) -> str:
    """Name the grids of studies, or the part with some values: `WSAL (grid, batch size 25)`."""
    names = ", ".join(table.name.upper() for table in tables)
    return f"{names} ({', '.join(['grid', *_listed(where)])})"


def _listed(values: Params) -> list[str]:
    return [f"{words(name)} {shown(value)}" for name, value in values.items()]


def params(configuration: Configuration) -> str:
    """List the parameters of a configuration."""
    return ", ".join(_listed(configuration.params))


def interval(metric: Metric, found: Interval, level: float) -> str:
    """Format an interval of a figure: `93.33 % (95 % interval 77.93 to 99.18)`."""
    estimate, low, high = (figure(metric, value) for value in (found.estimate, found.low, found.high))
    unit = " %" if metric.percent else f" {metric.unit}" if metric.unit else ""
    return f"{estimate}{unit} ({_level(level)} interval {low} to {high})"


def better_or_worse(metric: Metric, effect: Interval, level: float) -> str:
    """Format an effect: `better by 5.31 points (95 % interval 4.75 to 5.87)`; negative effects as `worse by`."""
    is_worse = effect.estimate < 0
    shown_effect = Interval(-effect.estimate, -effect.high, -effect.low) if is_worse else effect
    estimate, low, high = (
        figure(metric, value) for value in (shown_effect.estimate, shown_effect.low, shown_effect.high)
    )
    unit = " points" if metric.percent else f" {metric.unit}" if metric.unit else ""
    return (
        f"{'worse' if is_worse else 'better'} by {estimate}{unit} ({_level(level)} interval {low} to {high})"
    )


def _level(level: float) -> str:
    return f"{100 * level:.4g} %"
