"""The style of figures: colours for colour-blind readers too, axes, facets, scales, escaped texts."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pairsearch.search.report.content import Spec
from pairsearch.search.results.formatting import unit
from pairsearch.studies.definition import Stated
from pairsearch.studies.problem import Metric

# Okabe & Ito, "Color Universal Design" (2008): these differ with every common kind of colour blindness.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
INK, MUTED, RULE = "#22262b", "#6b7178", "#e3e5e8"
# Perceptually uniform, also in grey and with colour blindness (Smith & van der Walt, SciPy 2015).
SCALE = "Viridis"
LEGEND: Spec = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
"""A row above the drawing."""

Item = TypeVar("Item")


def thinned(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Choose at most `most` (two or more) items, evenly spaced, including the first and the last."""
    if len(items) <= most:
        return items
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def plain(text: str) -> str:
    """Escape a text so that Plotly shows it as it is.

    Plotly reads texts as a subset of HTML with links, breaks and entities (plotly.js, `svg_text_utils`). Control
    characters, which it cannot show, become spaces.
    """
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return html.escape(text, quote=False)


def faded(colour: str, opacity: float) -> str:
    """Give a `#rrggbb` colour an opacity in [0, 1]."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def shortened(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def slug(text: str) -> str:
    """Turn a text into a part of a file name: lower-case letters, digits and -."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


def thinned_note(drawn: int, of: int, most: int, what: str) -> str:
    """Say that items were thinned, at most `most` of `what`; empty if all are drawn."""
    if drawn == of:
        return ""
    return f" Drawn are {drawn:,} of the {of:,}, at most {most} of {what}, evenly by rank"


def chart(data: Sequence[Spec], **more: object) -> Spec:
    """Return a figure of some traces with the common layout, extended or changed by `more`."""
    common: Spec = {
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 64, "r": 24, "t": 48, "b": 56},
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": MUTED, "font": {"color": INK}, "align": "left"},
        "legend": LEGEND,
        "colorway": [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY],
    }
    return {"data": data, "layout": common | more}


def axis(title: str = "", **more: object) -> Spec:
    common: Spec = {"gridcolor": RULE, "linecolor": MUTED, "tickcolor": RULE, "ticks": "outside"}
    common |= {"zeroline": False, "automargin": True}
    titled = {"title": {"text": plain(title), "standoff": 10}} if title else {}
    return common | titled | more


def labelled(texts: Sequence[str], step: int = 1) -> Spec:
    """Return what makes the positions 0, 1, … of an axis categories, of which one in `step` has its label."""
    return {
        "tickmode": "array",
        "tickvals": list(range(0, len(texts), step)),
        "ticktext": [plain(text) for text in texts[::step]],
        "showgrid": False,
    }


def categories(texts: Sequence[str], title: str = "") -> Spec:
    """Return an axis whose positions 0, 1, … are categories; if there are many, not all of them are labelled."""
    labels = labelled([shortened(text) for text in texts], step=-(-len(texts) // 12))
    return axis(title, range=[-0.5, len(texts) - 0.5], ticks="", **labels)


def logarithmic(metric: Metric, figures: Iterable[float]) -> bool:
    """Whether figures have a logarithmic scale: losses above 0 do."""
    return not metric.percent and not metric.maximise and min(figures, default=0.0) > 0


def from_zero(metric: Metric) -> Spec:
    """Return the range of a figure's axis: that of a fraction begins at zero."""
    return {"rangemode": "tozero"} if metric.percent else {}


def ranging(metric: Metric, figures: Iterable[float]) -> Spec:
    """Return the range of an axis that these figures have, logarithmic for losses above 0."""
    return {"type": "log"} if logarithmic(metric, figures) else from_zero(metric)


def scaled(metric: Metric, value: float) -> float:
    """Scale a figure to the unit of its axis, and round it."""
    return float(f"{100 * value if metric.percent else value:.6g}")


def briefly(metric: Metric, value: float) -> str:
    if metric.percent:
        return f"{100 * value:.2f}"
    return f"{value:.3f}" if 0.01 <= abs(value) < 100 else f"{value:.3g}"


def scatter(mode: str, x: Sequence[object], y: Sequence[object], **more: object) -> Spec:
    common: Spec = {"type": "scatter", "mode": mode, "x": x, "y": y}
    return common | more


def joined(curves: Iterable[Sequence[float | None]], first: int = 0, **more: object) -> Spec:
    """Return one trace for several curves, with gaps between them; `first` is the place of their first value."""
    xs: list[int | None] = []
    ys: list[float | None] = []
    for curve in curves:
        xs += [*range(first, first + len(curve)), None]
        ys += [*curve, None]
    return scatter("lines", xs, ys, hoverinfo="skip", **more)


def whiskers(above: Sequence[float], below: Sequence[float], **more: object) -> Spec:
    """Return bars that reach so far to either side of the points of a trace."""
    common: Spec = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    return common | more


def box(name: str, x: Sequence[float], colour: str, **more: object) -> Spec:
    common: Spec = {"type": "box", "name": name, "x": x}
    style = {"line": {"color": colour, "width": 1.5}, "fillcolor": faded(colour, 0.12)}
    return common | style | more


def boxes(name: str, x: Sequence[float], y: Sequence[float], colour: str, **more: object) -> Spec:
    """Return box plots with every value as a point, one box for each place of `x`."""
    points: Spec = {"y": y, "width": 0.3, "boxpoints": "all", "jitter": 0.4, "pointpos": 0}
    points["marker"] = {"color": colour, "size": 5, "opacity": 0.65}
    return box(name, x, colour, **(points | more))


def stated_figures(x: Sequence[float], metric: Metric, stated: Sequence[Stated], colour: str) -> Spec:
    """Return marks with bars: the mean ± standard deviation that a paper states, at each place of `x`."""
    return scatter(
        "markers",
        x,
        [scaled(metric, one.mean) for one in stated],
        name="the paper’s figure, mean ± std",
        error_y={"type": "data", "array": [scaled(metric, one.std) for one in stated], "color": colour},
        marker={"symbol": "diamond", "color": colour, "size": 8},
        hovertemplate=f"paper: %{{y:.4g}}{unit(metric)}<extra></extra>",
    )


def note(text: str, x: float, y: float, **more: object) -> Spec:
    """Return an annotation in paper coordinates; `text` is escaped here."""
    common: Spec = {"text": plain(text), "x": x, "y": y, "xref": "paper", "yref": "paper", "showarrow": False}
    return common | more


def _suffix(index: int) -> str:
    """Return Plotly's suffix of an axis by its index: empty for 0, then 2, 3, …"""
    return "" if index == 0 else str(index + 1)


def on(index: int) -> Spec:
    """Return what puts a trace into the panel of an index."""
    return {"xaxis": f"x{_suffix(index)}", "yaxis": f"y{_suffix(index)}"}


def panel(index: int, x: Spec, y: Spec) -> Spec:
    """Return what makes two axes those of the panel of an index."""
    end = _suffix(index)
    return {f"xaxis{end}": x | {"anchor": f"y{end}"}, f"yaxis{end}": y | {"anchor": f"x{end}"}}


def spans(count: int, gap: float) -> list[list[float]]:
    """Divide [0, 1] into `count` domains with a gap between neighbours."""
    gap = min(gap, 0.5 / count)
    size = (1 - gap * (count - 1)) / count
    return [[index * (size + gap), index * (size + gap) + size] for index in range(count)]


@dataclass(frozen=True, slots=True)
class Shade:
    """A colour scale that shows differences near the best: it maps the best figure to 0 and the worst to 1.

    If r in [0, 1] is the position of a figure between best and worst, on a logarithmic scale if `logarithmic`, the
    shade is √r. The quarter of the range nearest to the best thus gets half of the colours.
    """

    best: float
    worst: float
    logarithmic: bool

    @classmethod
    def over(cls, figures: Sequence[float], metric: Metric) -> Shade:
        """Make the scale of at least one figure, logarithmic for losses above 0."""
        best, worst = sorted((min(figures), max(figures)), reverse=metric.maximise)
        return cls(best, worst, logarithmic(metric, figures))

    def of(self, figure: float) -> float:
        if self.worst == self.best:
            return 0.0
        if self.logarithmic:
            ratio = math.log(figure / self.best) / math.log(self.worst / self.best)
        else:
            ratio = (figure - self.best) / (self.worst - self.best)
        return math.sqrt(min(max(ratio, 0.0), 1.0))

    def ticks(self) -> list[float]:
        """Return the best, the worst, and round figures between them with enough distance."""
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
        # 20 to 200 multiples of a power of ten.
        step = 10.0 ** math.floor(math.log10((high - low) / 20))
        return [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
