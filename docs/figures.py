"""The figures of the explanations, each drawn from the shipped results when the site is built.

A page names a figure in a line `<!-- figure: NAME -->`, and `conf.py` puts what `FIGURES[NAME]` gives in its place.
Texts and lines are of a grey that can be read on white and on black, and there is no background.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from plotly import graph_objects as go

from pairsearch.docs import shipped
from pairsearch.search.claims.deciding import Decided
from pairsearch.search.claims.findings import Finding
from pairsearch.search.replay.searches import quantiles
from pairsearch.search.replay.simulation import replay
from pairsearch.search.report import drawing
from pairsearch.search.report.claims import effects
from pairsearch.search.report.content import Spec
from pairsearch.search.report.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Shade,
    axis,
    plain,
    scaled,
    scatter,
)
from pairsearch.search.report.parameters import Places, parameters_of, places_of
from pairsearch.search.results.formatting import headed
from pairsearch.search.results.study_table import StudyTable
from pairsearch.search.verdict.judging import judge
from pairsearch.studies.claims_file import AnyEvidence, Choice, Compare, Effect
from pairsearch.studies.configuration import Configuration, describe

GREY, LINES, CLEAR = "#80868d", "rgba(128,134,141,0.3)", "rgba(0,0,0,0)"
MODELS = {"b1": BLUE, "b2": GREEN, "ws": ORANGE, "wsal": VERMILLION}
POINTS = 200
"""The most points that a line is drawn by."""
TALL = {"l": 56, "r": 12, "t": 72, "b": 48}
"""Margins with room for a legend of two rows."""


def _figure(data: Sequence[Spec], height: int, **more: object) -> go.Figure:
    common: Spec = {
        "height": height,
        "autosize": True,
        "template": {},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "margin": {"l": 56, "r": 12, "t": 48, "b": 48},
    }
    drawn = go.Figure(drawing.chart(data, **(common | more))).update_layout(font_color=GREY)
    lines: Spec = {"gridcolor": LINES, "linecolor": GREY, "tickcolor": LINES, "title_font_size": 13}
    return drawn.update_xaxes(lines).update_yaxes(lines)


def _stated(table: StudyTable) -> Configuration:
    """The paper's configuration."""
    assert table.definition.paper is not None  # noqa: S101 - all four studies have one
    return table.definition.paper.configuration


def _best(table: StudyTable, figure: str) -> Configuration:
    """The configuration with the lowest mean of a figure; ties are broken as the program breaks them."""
    return table.configurations[int(np.round(table.values[figure].mean(axis=1), 12).argmin())]


def wsal_grid() -> go.Figure:
    """WSAL's complete grid: loss above, error below, a facet for each batch size."""
    table = shipped.table("wsal")
    parameters = {one.name: one for one in parameters_of(table.definition.grid.choices, table.configurations)}
    size, rate, decay = (parameters[name] for name in ("batch_size", "learning_rate", "weight_decay"))
    places = list(filter(None, places_of((size, rate, decay), table.configurations)))
    sizes = len(size.levels)
    across, down = drawing.spans(sizes, 0.02), [[0.56, 0.96], [0.0, 0.4]]
    data: list[Spec] = []
    notes: list[Spec] = []
    axes: Spec = {}
    for row, figure in enumerate(("val_loss", "val_error")):
        metric, means = table.traits.metrics[figure], table.values[figure].mean(axis=1)
        # The best over the parameters that have no direction of their own.
        cells: dict[Places, int] = {}
        for number, place in enumerate(places):
            if place not in cells or means[number] < means[cells[place]]:
                cells[place] = number
        shade = Shade.over([float(means[number]) for number in cells.values()], metric)
        for column, text in enumerate(size.texts):
            index = sizes * row + column
            numbers = [
                [cells[column, x, y] for x in range(len(rate.levels))] for y in range(len(decay.levels))
            ]
            data.append(_heat(table, figure, numbers, shade) | drawing.on(index))
            x = drawing.categories(rate.texts, rate.label if row == 1 and column == 0 else "")
            x |= {"domain": across[column], "tickangle": -60, "showticklabels": row == 1}
            y = drawing.categories(decay.texts, decay.label if column == 0 else "")
            axes |= drawing.panel(index, x, y | {"domain": down[row], "showticklabels": column == 0})
            middle = sum(across[column]) / 2
            notes.append(_note(f"batch size {text}", middle, down[row][1], xanchor="center", size=12))
        notes.append(_note(f"mean {headed(figure, metric)}", 0, down[row][1] + 0.05, xanchor="left", size=13))
    for name, marked, symbol, pixels, colour in (
        ("the best by the loss", _best(table, "val_loss"), "circle-open", 30, VERMILLION),
        ("the best by the error", _best(table, "val_error"), "diamond-open", 34, PURPLE),
        ("the paper’s", _stated(table), "square-open", 30, SKY),
    ):
        facet, along, up = places[table.configurations.index(marked)]
        ring = {"symbol": symbol, "size": pixels, "color": colour, "line": {"width": 2.5, "color": colour}}
        entry = {"name": name, "legendgroup": name, "hoverinfo": "skip", "marker": ring}
        data += [
            scatter("markers", [along], [up], showlegend=row == 0, **entry) | drawing.on(sizes * row + facet)
            for row in (0, 1)
        ]
    legend = {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"}
    margin = {"l": 56, "r": 4, "t": 48, "b": 60}
    return _figure(data, 580, annotations=notes, legend=legend, margin=margin, **axes)


def _heat(table: StudyTable, figure: str, numbers: list[list[int]], shade: Shade) -> Spec:
    """Draw a facet; `numbers` are the indices of its configurations, by weight decay and learning rate."""
    metric, means = table.traits.metrics[figure], table.values[figure].mean(axis=1).tolist()
    texts = [
        [f"{100 * means[one]:.1f}" if metric.percent else drawing.briefly(metric, means[one]) for one in row]
        for row in numbers
    ]
    return {
        "type": "heatmap",
        "z": [[shade.of(means[one]) for one in row] for row in numbers],
        "zmin": 0,
        "zmax": 1,
        "text": texts,
        "texttemplate": "%{text}",
        "textfont": {"size": 10},
        "hovertext": [
            [
                f"{plain(describe(table.configurations[one].params))}<br>{text}"
                for one, text in zip(*row, strict=True)
            ]
            for row in zip(numbers, texts, strict=True)
        ],
        "hoverinfo": "text",
        "colorscale": drawing.SCALE,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
    }


def _note(text: str, x: float, y: float, size: int, xanchor: str) -> Spec:
    return drawing.note(text, x, y, xanchor=xanchor, yanchor="bottom", font={"size": size, "color": GREY})


LOSSES: Spec = {"type": "log", "tickmode": "array", "tickvals": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}
"""An axis of losses."""


def learning_curves() -> go.Figure:
    """Mean validation loss and error by epoch, of the search's best and the paper's configuration of each model."""
    data: list[Spec] = []
    axes: Spec = {}
    for panel, figure in enumerate(("val_loss", "val_error")):
        for study, colour in MODELS.items():
            table = shipped.table(study)
            metric = table.traits.metrics[figure]
            for configuration, dash in ((_best(table, "val_loss"), "solid"), (_stated(table), "dot")):
                points = table.curves[figure][table.configurations.index(configuration)]
                line = scatter(
                    "lines",
                    list(range(1, len(points) + 1)),
                    [scaled(metric, float(point)) for point in points],
                    name=study.upper(),
                    legendgroup=study,
                    showlegend=panel == 0 and dash == "solid",
                    line={"color": colour, "width": 2, "dash": dash},
                    hovertemplate=f"{study.upper()}, epoch %{{x}}: %{{y:.4g}}<extra>"
                    f"{plain(describe(configuration.params))}</extra>",
                )
                data.append(line | drawing.on(panel))
        of = shipped.table("wsal").traits.metrics[figure]
        epochs = axis("epoch", domain=drawing.spans(2, 0.12)[panel], rangemode="tozero")
        kind = {"rangemode": "tozero"} if of.percent else LOSSES
        axes |= drawing.panel(panel, epochs, axis(headed(figure, of), **kind))
    data += _keys((("the search’s best, by the loss", "solid"), ("the paper’s", "dot")))
    return _figure(data, 400, margin=TALL, **axes)


def _keys(names: Sequence[tuple[str, str]]) -> list[Spec]:
    """Entries of the legend that say what a dash means."""
    return [
        scatter("lines", [None], [None], name=name, line={"color": GREY, "width": 2, "dash": dash})
        for name, dash in names
    ]


def test_error() -> go.Figure:
    """The test error of the ten final rounds of each model, beside what the paper states."""
    tables = [shipped.table(study) for study in MODELS]
    metric = tables[0].traits.metrics["test_error"]
    data: list[Spec] = []
    for role, colour, offset, choose in (
        ("the search’s best, by the loss", BLUE, -0.2, lambda table: _best(table, "val_loss")),
        ("the paper’s configuration", VERMILLION, 0.16, _stated),
    ):
        points = [
            (place + offset, scaled(metric, value))
            for place, table in enumerate(tables)
            for figures in table.rounds[choose(table).key].values()
            if (value := figures["test_error"]) is not None
        ]
        xs, ys = map(list, zip(*points, strict=True))
        data.append(drawing.boxes(role, xs, ys, colour, hovertemplate="%{y:.4g} %<extra></extra>"))
    papers = [table.definition.paper for table in tables]
    stated = [paper.figures["test_error"] for paper in papers if paper is not None]
    places = [place + 0.4 for place in range(len(stated))]
    data.append(drawing.stated_figures(places, metric, stated, GREY))
    xaxis = drawing.categories([study.upper() for study in MODELS]) | {"range": [-0.5, 3.6]}
    yaxis = axis(headed("test_error", metric), rangemode="tozero")
    return _figure(data, 400, xaxis=xaxis, yaxis=yaxis)


HEADINGS = {
    1: "Weight sharing beats both",
    2: "Auxiliary loss: better by far",
    3: "A larger weight is better",
    5: "Adam beats SGD",
    6: "Pre-training does as well",
    8: "The error chooses better",
}
"""What there is room for of the claims in `studies/claims/paper.toml`."""


def claim_effects() -> go.Figure:
    """Every effect on an error by which a claim stands and falls, with its interval."""
    rows: list[tuple[str, Finding | None]] = []
    for decided in shipped.decided():
        found = [
            (_named(weighed.evidence, finding), finding)
            for weighed in decided.weighed
            for finding in weighed.findings
            if finding.decides and finding.name in ("test_error", "val_error") and finding.effect is not None
        ]
        if found:
            rows += [(f"<b>{_heading(decided)}</b>", None), *found]
    drawn = {place: finding for place, (_, finding) in enumerate(rows) if finding is not None}
    data = effects(drawn, undecided=GREY, bounds=GREY)
    hidden: Spec = dict.fromkeys(("showgrid", "showticklabels", "showline"), False)
    # What is written over the lines of a claim and beside its points.
    common: Spec = {"x": 0, "xref": "paper", "xanchor": "left", "xshift": -236, "align": "left"}
    common |= {"showarrow": False, "font": {"size": 12, "color": GREY}}
    return _figure(
        data,
        110 + 22 * len(rows),
        annotations=[common | {"text": text, "y": place} for place, (text, _) in enumerate(rows)],
        xaxis=axis("better by, points of error, %", zeroline=True, zerolinecolor=GREY),
        yaxis=axis(range=[len(rows) - 0.4, -0.6], ticks="", automargin=False, **hidden),
        margin={"l": 244, "r": 12, "t": 48, "b": 48},
    )


def _heading(decided: Decided) -> str:
    short = HEADINGS.get(decided.number, drawing.shortened(decided.claim.statement, 32))
    return plain(f"{decided.number}. {short}")


def _named(evidence: AnyEvidence, finding: Finding) -> str:
    """A comparison in a few words: both studies, and how their configurations were chosen."""
    if isinstance(evidence, Compare) and evidence.pooled:
        return f"mean over {', '.join(study.upper() for study in evidence.studies)}"
    if isinstance(evidence, Compare):
        names = [_study(choice) for choice in (evidence.first, evidence.second)]
        return f"{' – '.join(names)}, {_chosen(evidence.first)}"
    if isinstance(evidence, Effect) and evidence.at is not None:
        low, high = evidence.values[0], evidence.values[-1]
        return f"weight {high:g} – weight {low:g}, {_chosen(evidence.at)}"
    return plain(finding.what)


def _study(choice: Choice) -> str:
    return (choice.study or "").removesuffix(".toml").upper()


def _chosen(choice: Choice) -> str:
    if choice.paper:
        return "the paper’s"
    return {"val_loss": "best by loss", "val_error": "best by error"}.get(choice.best or "", "")


def auxiliary_weight() -> go.Figure:
    """WSAL's mean validation error by the weight of the auxiliary loss, for each learning rate and over all."""
    table = shipped.table("wsal")
    metric, means = table.traits.metrics["val_error"], table.values["val_error"].mean(axis=1)
    params = [one.params for one in table.configurations]
    weights, rates = (
        sorted({float(str(one[name])) for one in params}) for name in ("aux_loss_weight", "learning_rate")
    )
    colours = {None: GREY} | dict(zip(rates, (SKY, BLUE, VERMILLION, ORANGE), strict=True))
    data = []
    for rate in (*rates, None):
        name = "all learning rates" if rate is None else f"learning rate {rate:g}"
        chosen = [rate in (None, one["learning_rate"]) for one in params]
        of_weights = [[one["aux_loss_weight"] == weight for one in params] for weight in weights]
        data.append(
            scatter(
                "lines+markers",
                list(range(len(weights))),
                [scaled(metric, float(means[np.logical_and(chosen, of)].mean())) for of in of_weights],
                name=name,
                line={"color": colours[rate], "width": 2.5, "dash": "dash" if rate is None else "solid"},
                marker={"size": 7},
                hovertemplate=f"{name}: %{{y:.2f}} %<extra></extra>",
            )
        )
    along = drawing.categories([f"{weight:g}" for weight in weights], "weight of the auxiliary loss")
    errors = axis(f"mean {headed('val_error', metric)}", rangemode="tozero")
    return _figure(data, 380, xaxis=along, yaxis=errors, margin=TALL)


def wsal_verdict() -> go.Figure:
    """WSAL's configurations by rank: those that may be the best, the others, and where the best is expected."""
    table = shipped.table("wsal")
    values, keys = table.values["val_loss"], [one.key for one in table.configurations]
    found = judge(values, keys, table.seconds)
    means = values.mean(axis=1)
    order = np.argsort(means, kind="stable").tolist()
    members = {member.key for member in found.members}
    data: list[Spec] = []
    for inside, name, colour, size in (
        (False, f"{len(keys) - len(members)} that are worse", GREY, 4),
        (True, f"{len(members)} that may be the best", BLUE, 7),
    ):
        ranks = {rank: one for rank, one in enumerate(order, start=1) if (keys[one] in members) == inside}
        data.append(
            scatter(
                "markers",
                list(ranks),
                [float(f"{means[one]:.5g}") for one in ranks.values()],
                name=name,
                text=[plain(describe(table.configurations[one].params)) for one in ranks.values()],
                marker={"color": colour, "size": size},
                hovertemplate="rank %{x}: %{y:.4g}<br>%{text}<extra></extra>",
            )
        )
    assert found.interval is not None  # noqa: S101 - ten folds have both
    assert found.optimism is not None  # noqa: S101
    low, expected, high = found.interval[0], found.mean + found.optimism, found.interval[1]
    reach = drawing.whiskers([high - expected], [expected - low], color=VERMILLION, thickness=2)
    paper = table.configurations.index(_stated(table))
    data += [
        scatter(
            "markers",
            [0.8],
            [expected],
            name="the best on fresh folds, with its 95 % interval",
            error_y=reach,
            marker={"color": VERMILLION, "size": 9, "symbol": "diamond"},
            hovertemplate="expected on fresh folds: %{y:.4g}<extra></extra>",
        ),
        scatter(
            "markers",
            [order.index(paper) + 1],
            [float(means[paper])],
            name="the paper’s",
            marker={"color": ORANGE, "size": 13, "symbol": "square-open", "line": {"width": 3}},
            hoverinfo="skip",
        ),
    ]
    ranked = axis("rank by mean validation loss", type="log", dtick=1)
    losses = axis(headed("val_loss", table.metric) + ", nats", rangemode="tozero")
    return _figure(data, 400, xaxis=ranked, yaxis=losses, margin=TALL)


def random_search() -> go.Figure:
    """How far off the choice of a search in random order is, after so much of each study's grid."""
    data: list[Spec] = []
    for study, colour in MODELS.items():
        table = shipped.table(study)
        course = replay(table, "random").course
        _, middle, high = quantiles(course.regret)
        places = drawing.thinned(range(course.regret.shape[1]), POINTS)
        shares = [float(f"{100 * (place + 1) / course.regret.shape[1]:.4g}") for place in places]
        data += [
            scatter(
                "lines",
                shares,
                [float(f"{values[place]:.5g}") for place in places],
                name=study.upper(),
                legendgroup=study,
                showlegend=dash == "solid",
                line={"color": colour, "width": 2, "dash": dash},
                hovertemplate=f"{study.upper()}, {share} of the searches: at most %{{y:.3g}} after %{{x}} %"
                "<extra></extra>",
            )
            for values, dash, share in ((middle, "solid", "half"), (high, "dot", "95 %"))
        ]
    data += _keys((("half of the searches", "solid"), ("95 %", "dot")))
    trained = axis("configurations trained, % of the grid", range=[0, 100])
    regrets = axis("regret, nats of validation loss", range=[0, 0.2])
    return _figure(data, 380, xaxis=trained, yaxis=regrets)


FIGURES: dict[str, Callable[[], go.Figure]] = {
    "wsal-grid": wsal_grid,
    "learning-curves": learning_curves,
    "test-error": test_error,
    "claim-effects": claim_effects,
    "auxiliary-weight": auxiliary_weight,
    "wsal-verdict": wsal_verdict,
    "random-search": random_search,
}
"""By the name that pages use."""
