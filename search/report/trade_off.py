"""The section on the trade-off between chosen figures: the Pareto front as a table and as a drawing."""

from __future__ import annotations

from pairsearch.search.report import drawing
from pairsearch.search.report.content import Figure, Paragraph, Section, Table, View
from pairsearch.search.report.reading import Reading
from pairsearch.search.verdict.study_trade import StudyTrade
from pairsearch.studies.configuration import describe

POINTS = 2000
"""The largest number of configurations that are drawn beside the front."""


def sections(reading: Reading) -> list[Section]:
    """Compose the section; none unless it was asked for, and configurations have the figures."""
    trade = reading.trade
    if trade is None:
        return []
    paragraphs = map(Paragraph, trade.lines())
    table = Table.of(f"{trade.title}.", trade.fields(), trade.shown)
    return [Section("Trade-offs", (*paragraphs, table, _figure(trade)))]


def _figure(trade: StudyTrade) -> Figure:
    """Draw all configurations and the front by the first two figures."""
    (x, y), (across, down) = trade.chosen.figures[:2], trade.means.T[:2].tolist()
    members = sorted(trade.members, key=lambda one: one.means[0])
    others = drawing.thinned(list(zip(across, down, strict=True)), POINTS)
    spec = drawing.chart(
        [
            drawing.scatter(
                "markers",
                [drawing.scaled(x.metric, value) for value, _ in others],
                [drawing.scaled(y.metric, value) for _, value in others],
                name="all configurations",
                marker={"color": drawing.BLUE, "size": 5, "opacity": 0.4},
                hoverinfo="skip",
            ),
            drawing.scatter(
                "markers",
                [drawing.scaled(x.metric, one.means[0]) for one in members],
                [drawing.scaled(y.metric, one.means[1]) for one in members],
                name="on the front",
                text=[drawing.plain(describe(one.configuration.params)) for one in members],
                marker={
                    "color": drawing.VERMILLION,
                    "size": 9,
                    "symbol": ["circle" if one.standing else "circle-open" for one in members],
                },
                hovertemplate="%{x:.4g}, %{y:.4g}: %{text}<extra></extra>",
            ),
        ],
        xaxis=drawing.axis(x.header, **drawing.ranging(x.metric, across)),
        yaxis=drawing.axis(y.header, **drawing.ranging(y.metric, down)),
    )
    left_out = drawing.thinned_note(len(others), len(across), POINTS, "them")
    return Figure(
        f"{trade.chosen.study.name}-trade-off",
        f"{y.header} against {x.header}",
        "Each point is a finished configuration; those on the front are filled where the verdict says that they may be "
        f"the best.{left_out}{'.' if left_out else ''}",
        f"Scatter chart of {y.header} by {x.header} with {len(members)} configurations on the front.",
        (View("", spec),),
    )
