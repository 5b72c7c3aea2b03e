"""Formats figures, spreads, durations and the names of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pairsearch.search.results.evaluations import Spread
from pairsearch.studies.configuration import Params, shown
from pairsearch.studies.definition import Stated
from pairsearch.studies.intervals import Interval
from pairsearch.studies.problem import Metric

DASH = "–"


def figure(metric: Metric, value: float | None) -> str:
    """Format a figure: in per cent without the sign, 0.0606 as `6.06`, or with four decimals, fewer if large."""
    if value is None:
        return DASH
    if metric.percent:
        return f"{100 * value:.2f}"
    return f"{value:.4f}" if abs(value) < 10_000 else f"{value:.6g}"


def spread(metric: Metric, value: Spread | Stated | None) -> str:
    """Format a spread as `6.06 ± 1.28`."""
    if value is None:
        return DASH
    return figure(metric, value.mean) + (f" ± {figure(metric, value.std)}" if value.std is not None else "")


def reach(metric: Metric, interval: Interval) -> str:
    """Format the ends of an interval as `4.75 to 5.87`."""
    return f"{figure(metric, interval.low)} to {figure(metric, interval.high)}"


def words(name: str) -> str:
    """Replace underscores in a name by spaces, except in scikit-learn's nested parameters such as `svc__C`."""
    return name if "__" in name else name.replace("_", " ")


def label(name: str, metric: Metric) -> str:
    """Return the label of a figure, by default its name."""
    return metric.label or words(name)


def unit(metric: Metric) -> str:
    """Return what stands behind a figure: ` %` if it is shown in per cent, else nothing."""
    return " %" if metric.percent else ""


def with_unit(metric: Metric, value: float | None) -> str:
    """Format a figure, followed by `%` if it is shown in per cent."""
    return figure(metric, value) + (unit(metric) if value is not None else "")


def headed(name: str, metric: Metric) -> str:
    """Return the header of a figure's column: its label, followed by `%` if it is shown in per cent."""
    return label(name, metric) + (", %" if metric.percent else "")


def duration(seconds: float) -> str:
    """Format seconds as `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def abbreviations(names: Iterable[str]) -> dict[str, str]:
    """Abbreviate parameters of several words by their initials, where no two share them; others keep their name."""
    unique = list(dict.fromkeys(names))
    initials = {
        name: "".join(word[0] for word in name.split("_") if word).upper()
        for name in unique
        if "_" in name.strip("_")
    }
    short = list(initials.values())
    return {
        name: initials[name] if name in initials and short.count(initials[name]) == 1 else name
        for name in unique
    }


def compact(params: Params, names: Mapping[str, str]) -> str:
    """Format a configuration with short names: `BS 25 LR 0.0001`."""
    return " ".join(f"{names.get(name, name)} {shown(value)}" for name, value in params.items())


def legend(names: Mapping[str, str]) -> str:
    """Explain short names: `BS batch size, LR learning rate`; empty if there are none."""
    return ", ".join(f"{short} {words(name)}" for name, short in names.items() if short != name)
