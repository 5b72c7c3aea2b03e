"""How figures read: by their metric, spreads, durations; and short names of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pairsearch.search.results.evaluations import Spread
from pairsearch.studies.configuration import Params, shown
from pairsearch.studies.problem import Metric

DASH = "–"


def per_cent(fraction: float | None) -> str:
    """`6.06` for 0.0606."""
    return DASH if fraction is None else f"{100 * fraction:.2f}"


def figure(metric: Metric, value: float | None) -> str:
    """A figure: in per cent, without the sign, where its metric says so; else with four decimals, fewer if large."""
    if value is None:
        return DASH
    if metric.percent:
        return per_cent(value)
    return f"{value:.4f}" if abs(value) < 10_000 else f"{value:.6g}"


def spread(metric: Metric, value: Spread | None) -> str:
    """`6.06 ± 1.28`, by the metric."""
    if value is None:
        return DASH
    return figure(metric, value.mean) + (f" ± {figure(metric, value.std)}" if value.std is not None else "")


def words(name: str) -> str:
    """A name for people; that of scikit-learn's nested parameters stays as it is."""
    return name if "__" in name else name.replace("_", " ")


def label(name: str, metric: Metric) -> str:
    """The name of a figure for people."""
    return metric.label or words(name)


def headed(name: str, metric: Metric) -> str:
    """The name of a figure above a column, with its unit if that is per cent."""
    return label(name, metric) + (", %" if metric.percent else "")


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def abbreviations(names: Iterable[str]) -> dict[str, str]:
    """Short names of parameters: the initials of those of several words, where no two have the same."""
    given = list(dict.fromkeys(names))
    initials = {
        name: "".join(word[0] for word in name.split("_") if word).upper()
        for name in given
        if "_" in name.strip("_")
    }
    short = list(initials.values())
    return {
        name: initials[name] if name in initials and short.count(initials[name]) == 1 else name
        for name in given
    }


def compact(params: Params, names: Mapping[str, str]) -> str:
    """A configuration in short: `BS 25 LR 0.0001`."""
    return " ".join(f"{names.get(name, name)} {shown(value)}" for name, value in params.items())


def legend(names: Mapping[str, str]) -> str:
    """What short names stand for: `BS batch size, LR learning rate`; empty where there are none."""
    return ", ".join(f"{short} {words(name)}" for name, short in names.items() if short != name)
