"""How figures look: colours for every eye, axes, facets, scales, and texts that Plotly leaves as text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pairsearch.search.report.content import Spec
from pairsearch.search.report.parameters import Parameter
from pairsearch.search.results.formatting import DASH
from pairsearch.studies.problem import Metric

# Okabe & Ito, "Color Universal Design" (2008): told apart with every common kind of colour blindness.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
INK, MUTED, RULE = "#22262b", "#6b7178", "#e3e5e8"
# Perceptually even, in grey and for colour-blind eyes too (Smith & van der Walt, SciPy 2015).
SCALE = "Viridis"

Item = TypeVar("Item")


def thinned(items: Sequence[Item], most: int) -> Sequence[Item]:
    """At most so many of the items (two or more), evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def plain(text: str) -> str:
    """A text that Plotly shows as it is.

    Plotly reads texts as a small HTML with links, breaks and entities (plotly.js, `svg_text_utils`). Control
    characters, which it has no picture for, become spaces.
    """
    shown = text
    if not text.isprintable():
        shown = "".join(character if character.isprintable() else " " for character in text)
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def faded(colour: str, opacity: float) -> str:
    """A `#rrggbb` colour with an opacity in [0, 1]."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def shortened(text: str, most: int = 24) -> str:
    """A text that fits beside an axis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def slug(text: str) -> str:
    """A text as part of a file's name: lower-case letters, numbers and -."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


def layout(**more: object) -> Spec:
    """The common layout, with further or other entries."""
    common: Spec = {
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 64, "r": 24, "t": 48, "b": 56},
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": MUTED, "font": {"color": INK}, "align": "left"},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "colorway": [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY],
    }
    return common | more


def axis(title: str = "", **more: object) -> Spec:
    """An axis with quiet lines."""
    common: Spec = {
        "gridcolor": RULE,
        "linecolor": MUTED,
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": RULE,
    }
    if title:
        common["title"] = {"text": plain(title), "standoff": 10}
    return common | more


def categories(texts: Sequence[str], title: str = "") -> Spec:
    """An axis whose places 0, 1, … are the levels of a parameter; every other of many has no label."""
    step = -(-len(texts) // 12)
    return axis(
        title,
        tickmode="array",
        tickvals=list(range(0, len(texts), step)),
        ticktext=[plain(shortened(text)) for text in texts[::step]],
        range=[-0.5, len(texts) - 0.5],
        showgrid=False,
        ticks="",
    )


def from_zero(metric: Metric) -> Spec:
    """The range of an axis of a figure: a fraction is seen beside zero."""
    return {"rangemode": "tozero"} if metric.percent else {}


def scaled(metric: Metric, value: float) -> float:
    """A figure as an axis shows it, rounded."""
    return float(f"{100 * value if metric.percent else value:.6g}")


def briefly(metric: Metric, value: float | None) -> str:
    """A figure as a cell of a heat map has room for."""
    if value is None:
        return DASH
    if metric.percent:
        return f"{100 * value:.2f}"
    return f"{value:.3f}" if 0.01 <= abs(value) < 100 else f"{value:.3g}"


def note(text: str, x: float, y: float, **more: object) -> Spec:
    """A text in paper coordinates; `text` is escaped here."""
    common: Spec = {"text": plain(text), "x": x, "y": y, "xref": "paper", "yref": "paper", "showarrow": False}
    return common | more


def suffix(index: int) -> str:
    """Plotly's number of the n-th axis, from 0: nothing for the first, then 2, 3, …"""
    return "" if index == 0 else str(index + 1)


def spans(count: int, gap: float) -> list[list[float]]:
    """`count` domains in [0, 1] with a gap between neighbours."""
    gap = min(gap, 0.5 / count)
    size = (1 - gap * (count - 1)) / count
    return [[index * (size + gap), index * (size + gap) + size] for index in range(count)]


@dataclass(frozen=True, slots=True)
class Shade:
    """Places figures in [0, 1] so that differences near the best are seen: 0 the best, 1 the worst.

    With r the place of a figure between best and worst, on a logarithmic scale where `logarithmic`, the shade is
    √r: the quarter of the range that is nearest to the best gets half of the colours.
    """

    best: float
    worst: float
    logarithmic: bool

    @classmethod
    def over(cls, figures: Sequence[float], metric: Metric) -> Shade:
        """The shade of at least one figure; on a logarithmic scale where that is sensible, as of losses above 0."""
        least, most = min(figures), max(figures)
        if metric.maximise:
            return cls(most, least, logarithmic=False)
        return cls(least, most, logarithmic=not metric.percent and least > 0)

    def of(self, figure: float) -> float:
        """The shade of a figure between best and worst."""
        if self.worst == self.best:
            return 0.0
        if self.logarithmic:
            ratio = math.log(figure / self.best) / math.log(self.worst / self.best)
        else:
            ratio = (figure - self.best) / (self.worst - self.best)
        return math.sqrt(min(max(ratio, 0.0), 1.0))

    def ticks(self) -> list[float]:
        """The best, the worst, and round figures between them that do not crowd."""
        if self.worst == self.best:
            return [self.best]
        chosen = [self.best]
        for figure in sorted(self._round_figures(), reverse=self.worst < self.best):
            if self.of(figure) - self.of(chosen[-1]) > 0.09 and self.of(figure) < 0.92:
                chosen.append(figure)
        return [*chosen, self.worst]

    def _round_figures(self) -> list[float]:
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.best)), math.ceil(math.log10(self.worst)) + 1)
            return [leading * 10.0**power for power in powers for leading in (1, 1.5, 2, 3, 4, 5, 6, 7, 8)]
        low, high = sorted((self.best, self.worst))
        # Multiples of a power of ten, between 20 and 200 of them.
        step = 10.0 ** math.floor(math.log10((high - low) / 20))
        return [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def along(parameter: Parameter, title: str | None = None) -> Spec:
    """An axis of a parameter's levels."""
    return categories(parameter.texts, parameter.label if title is None else title)
