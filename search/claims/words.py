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
    """Return the parameters of a configuration in words: `batch size 10, learning rate 0.001`."""
    return ", ".join(_listed(configuration.params))


def interval(metric: Metric, estimated: Interval, level: float, percent: str = "%") -> str:
    """Format an interval of a figure: `93.33 % (95 % interval 77.93 to 99.18)`."""
    estimate, low, high = (
        figure(metric, value) for value in (estimated.estimate, estimated.low, estimated.high)
    )
    unit = percent if metric.percent else metric.unit
    return f"{estimate}{unit and ' '}{unit} ({100 * level:.4g} % interval {low} to {high})"


def better_or_worse(metric: Metric, effect: Interval, level: float) -> str:
    """Format an effect: `better by 5.31 points (95 % interval 4.75 to 5.87)`; negative effects as `worse by`."""
    if effect.estimate < 0:
        turned = Interval(-effect.estimate, -effect.high, -effect.low)
        return f"worse by {interval(metric, turned, level, 'points')}"
    return f"better by {interval(metric, effect, level, 'points')}"
