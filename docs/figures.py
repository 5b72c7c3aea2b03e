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
from pairsearch.search.report.claims import effects
from pairsearch.search.report.content import Spec
from pairsearch.search.report.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SCALE,
    SKY,
    VERMILLION,
    Shade,
    axis,
    boxes,
    briefly,
    categories,
    chart,
    note,
    plain,
    scaled,
    shortened,
    spans,
    stated_figures,
    suffix,
    thinned,
)
from pairsearch.search.report.parameters import Parameter, parameters_of, places_of
from pairsearch.search.results.formatting import headed
from pairsearch.search.results.study_table import StudyTable
from pairsearch.search.verdict.judging import judge
from pairsearch.studies.claims_file import AnyEvidence, Choice, Compare, Effect
from pairsearch.studies.configuration import Configuration, describe

GREY, LINES, CLEAR = "#80868d", "rgba(128,134,141,0.3)", "rgba(0,0,0,0)"
MODELS = {"b1": BLUE, "b2": GREEN, "ws": ORANGE, "wsal": VERMILLION}
POINTS = 200
"""The most points that a line is drawn by."""


def _axis(title: str = "", **more: object) -> Spec:
    return _quiet(axis(title, **more))


def _quiet(drawn: Spec) -> Spec:
    titled = {"title": drawn["title"] | {"font": {"size": 13}}} if "title" in drawn else {}
    return drawn | titled | {"gridcolor": LINES, "linecolor": GREY, "tickcolor": LINES}


def _figure(data: Sequence[Spec], height: int, **more: object) -> go.Figure:
    common: Spec = {
        "height": height,
        "autosize": True,
        "template": {},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": GREY},
        "margin": {"l": 56, "r": 12, "t": 48, "b": 48},
    }
    return go.Figure(chart(data, **(common | more)))


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
    parameters = parameters_of(table.definition.grid.choices, table.configurations)
    named = {parameter.name: number for number, parameter in enumerate(parameters)}
    places = [found for found in places_of(parameters, table.configurations) if found is not None]
    x, y, facet = (named[name] for name in ("learning_rate", "weight_decay", "batch_size"))
    sizes = len(parameters[facet].levels)
    across, down = spans(sizes, 0.02), [[0.56, 0.96], [0.0, 0.4]]
    data: list[Spec] = []
    notes: list[Spec] = []
    axes: Spec = {}
    marks: dict[str, list[tuple[int, int, int]]] = {}
    for row, figure in enumerate(("val_loss", "val_error")):
        metric, means = table.traits.metrics[figure], table.values[figure].mean(axis=1)
        # The best over the parameters that have no direction of their own.
        cells: dict[tuple[int, int, int], int] = {}
        for number, place in enumerate(places):
            cell = (place[facet], place[x], place[y])
            if cell not in cells or means[number] < means[cells[cell]]:
                cells[cell] = number
        shade = Shade.over([float(means[number]) for number in cells.values()], metric)
        marked = {"the best by the loss": _best(table, "val_loss"), "the paper’s": _stated(table)}
        marked["the best by the error"] = _best(table, "val_error")
        for column in range(sizes):
            index, end = sizes * row + column, suffix(sizes * row + column)
            data.append(_heat(table, figure, cells, column, (x, y), parameters, shade) | _on(index))
            axes[f"xaxis{end}"] = _level_axis(parameters[x], row == 1 and column == 0) | {
                "domain": across[column],
                "anchor": f"y{end}",
                "tickangle": -60,
                "showticklabels": row == 1,
            }
            axes[f"yaxis{end}"] = _level_axis(parameters[y], column == 0) | {
                "domain": down[row],
                "anchor": f"x{end}",
                "showticklabels": column == 0,
            }
            title = f"batch size {parameters[facet].texts[column]}"
            notes.append(_note(title, sum(across[column]) / 2, down[row][1], xanchor="center", size=12))
        for name, configuration in marked.items():
            place = places[table.configurations.index(configuration)]
            marks.setdefault(name, []).append((sizes * row + place[facet], place[x], place[y]))
        what = f"mean {headed(figure, metric)}"
        notes.append(_note(what, 0, down[row][1] + 0.05, xanchor="left", size=13))
    data += _ringed(marks)
    legend = {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"}
    margin = {"l": 56, "r": 4, "t": 48, "b": 60}
    return _figure(data, 580, annotations=notes, legend=legend, margin=margin, **axes)


def _heat(
    table: StudyTable,
    figure: str,
    cells: dict[tuple[int, int, int], int],
    column: int,
    directions: tuple[int, int],
    parameters: Sequence[Parameter],
    shade: Shade,
) -> Spec:
    metric, means = table.traits.metrics[figure], table.values[figure].mean(axis=1)
    across, down = (range(len(parameters[direction].levels)) for direction in directions)
    found = [[cells[column, x, y] for x in across] for y in down]
    shades = [[shade.of(float(means[number])) for number in row] for row in found]
    texts = [[briefly(metric, float(means[number])) for number in row] for row in found]
    if metric.percent:
        texts = [[f"{100 * float(means[number]):.1f}" for number in row] for row in found]
    return {
        "type": "heatmap",
        "z": shades,
        "zmin": 0,
        "zmax": 1,
        "text": texts,
        "texttemplate": "%{text}",
        "textfont": {"size": 10},
        "hovertext": [
            [
                f"{plain(describe(table.configurations[number].params))}<br>{texts[y][x]}"
                for x, number in enumerate(row)
            ]
            for y, row in enumerate(found)
        ],
        "hoverinfo": "text",
        "colorscale": SCALE,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
    }


def _on(index: int) -> Spec:
    return {"xaxis": f"x{suffix(index)}", "yaxis": f"y{suffix(index)}"}


def _level_axis(parameter: Parameter, titled: bool) -> Spec:
    return _quiet(categories(parameter.texts, parameter.label if titled else ""))


def _note(text: str, x: float, y: float, size: int, xanchor: str) -> Spec:
    return note(text, x, y, xanchor=xanchor, yanchor="bottom", font={"size": size, "color": GREY})


def _ringed(marks: dict[str, list[tuple[int, int, int]]]) -> list[Spec]:
    """Marks of cells, one legend entry for each kind."""
    symbols = {
        "the best by the loss": ("circle-open", 30, VERMILLION),
        "the best by the error": ("diamond-open", 34, PURPLE),
        "the paper’s": ("square-open", 30, SKY),
    }
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "legendgroup": name,
            "showlegend": number == 0,
            "x": [x],
            "y": [y],
            "hoverinfo": "skip",
            "marker": {
                "symbol": symbol,
                "size": size,
                "color": colour,
                "line": {"width": 2.5, "color": colour},
            },
        }
        | _on(index)
        for name, (symbol, size, colour) in symbols.items()
        for number, (index, x, y) in enumerate(marks[name])
    ]


LOSSES: Spec = {"type": "log", "tickmode": "array", "tickvals": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}
"""An axis of losses."""


def learning_curves() -> go.Figure:
    """Mean validation loss and error by epoch, of the search's best and the paper's configuration of each model."""
    data: list[Spec] = []
    axes: Spec = {}
    for panel, figure in enumerate(("val_loss", "val_error")):
        domain, end = spans(2, 0.12)[panel], suffix(panel)
        for study, colour in MODELS.items():
            table = shipped.table(study)
            metric = table.traits.metrics[figure]
            for configuration, dash in ((_best(table, "val_loss"), "solid"), (_stated(table), "dot")):
                points = table.curves[figure][table.configurations.index(configuration)]
                data.append(
                    {
                        "type": "scatter",
                        "mode": "lines",
                        "name": study.upper(),
                        "legendgroup": study,
                        "showlegend": panel == 0 and dash == "solid",
                        "x": list(range(1, len(points) + 1)),
                        "y": [scaled(metric, float(point)) for point in points],
                        "line": {"color": colour, "width": 2, "dash": dash},
                        "hovertemplate": f"{study.upper()}, epoch %{{x}}: %{{y:.4g}}<extra>"
                        f"{plain(describe(configuration.params))}</extra>",
                    }
                    | _on(panel)
                )
        of = shipped.table("wsal").traits.metrics[figure]
        axes[f"xaxis{end}"] = _axis("epoch", domain=domain, anchor=f"y{end}", rangemode="tozero")
        kind = {"rangemode": "tozero"} if of.percent else LOSSES
        axes[f"yaxis{end}"] = _axis(headed(figure, of), anchor=f"x{end}", **kind)
    data += _keys((("the search’s best, by the loss", "solid"), ("the paper’s", "dot")))
    return _figure(data, 400, margin={"l": 56, "r": 12, "t": 72, "b": 48}, **axes)


def _keys(names: Sequence[tuple[str, str]]) -> list[Spec]:
    """Entries of the legend that say what a dash means."""
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": [None],
            "y": [None],
            "line": {"color": GREY, "width": 2, "dash": dash},
        }
        for name, dash in names
    ]


def test_error() -> go.Figure:
    """The test error of the ten final rounds of each model, beside what the paper states."""
    metric = shipped.table("wsal").traits.metrics["test_error"]
    data: list[Spec] = []
    roles = (("the search’s best, by the loss", BLUE, -0.2), ("the paper’s configuration", VERMILLION, 0.16))
    for role, colour, offset in roles:
        xs: list[float] = []
        ys: list[float] = []
        for place, study in enumerate(MODELS):
            table = shipped.table(study)
            chosen = _best(table, "val_loss") if colour == BLUE else _stated(table)
            rounds = table.rounds[chosen.key].values()
            found = [value for figures in rounds if (value := figures["test_error"]) is not None]
            xs += [place + offset] * len(found)
            ys += [scaled(metric, value) for value in found]
        data.append(boxes(role, xs, ys, colour) | {"hovertemplate": "%{y:.4g} %<extra></extra>"})
    papers = [paper for study in MODELS if (paper := shipped.table(study).definition.paper) is not None]
    stated = [paper.figures["test_error"] for paper in papers]
    data.append(stated_figures([place + 0.4 for place in range(len(stated))], metric, stated, GREY))
    xaxis = _quiet(categories([study.upper() for study in MODELS])) | {"range": [-0.5, 3.6]}
    yaxis = _axis(headed("test_error", metric), rangemode="tozero")
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
    # What is written over the lines of a claim and beside its points.
    notes = [
        {
            "text": text,
            "x": 0,
            "y": place,
            "xref": "paper",
            "xanchor": "left",
            "xshift": -236,
            "showarrow": False,
            "align": "left",
            "font": {"size": 12, "color": GREY},
        }
        for place, (text, _) in enumerate(rows)
    ]
    yaxis = _axis(
        showgrid=False,
        showticklabels=False,
        ticks="",
        range=[len(rows) - 0.4, -0.6],
        automargin=False,
        showline=False,
    )
    xaxis = _axis("better by, points of error, %", zeroline=True, zerolinecolor=GREY)
    return _figure(
        data,
        110 + 22 * len(rows),
        annotations=notes,
        xaxis=xaxis,
        yaxis=yaxis,
        margin={"l": 244, "r": 12, "t": 48, "b": 48},
    )


def _heading(decided: Decided) -> str:
    short = HEADINGS.get(decided.number, shortened(decided.claim.statement, 32))
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
    weights = sorted({float(str(one.params["aux_loss_weight"])) for one in table.configurations})
    rates = sorted({float(str(one.params["learning_rate"])) for one in table.configurations})
    lines: list[tuple[str, str, float | None]] = [
        (f"learning rate {rate:g}", colour, rate)
        for rate, colour in zip(rates, (SKY, BLUE, VERMILLION, ORANGE), strict=True)
    ]
    data: list[Spec] = []
    for name, colour, rate in [*lines, ("all learning rates", GREY, None)]:
        ys = [
            scaled(
                metric,
                float(
                    np.mean(
                        [
                            mean
                            for one, mean in zip(table.configurations, means, strict=True)
                            if one.params["aux_loss_weight"] == weight
                            and rate in (None, one.params["learning_rate"])
                        ]
                    )
                ),
            )
            for weight in weights
        ]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": list(range(len(weights))),
                "y": ys,
                "line": {"color": colour, "width": 2.5, "dash": "solid" if rate else "dash"},
                "marker": {"size": 7},
                "hovertemplate": f"{name}: %{{y:.2f}} %<extra></extra>",
            }
        )
    return _figure(
        data,
        380,
        xaxis=_quiet(categories([f"{weight:g}" for weight in weights], "weight of the auxiliary loss")),
        yaxis=_axis(f"mean {headed('val_error', metric)}", rangemode="tozero"),
        margin={"l": 56, "r": 12, "t": 72, "b": 48},
    )


def wsal_verdict() -> go.Figure:
    """WSAL's configurations by rank: those that may be the best, the others, and where the best is expected."""
    table = shipped.table("wsal")
    values, keys = table.values["val_loss"], [one.key for one in table.configurations]
    found = judge(values, keys, table.seconds)
    order = np.argsort(values.mean(axis=1), kind="stable")
    members = {member.key for member in found.members}
    points: dict[bool, list[tuple[int, float, str]]] = {True: [], False: []}
    for rank, number in enumerate(order, start=1):
        entry = (rank, float(f"{values[number].mean():.5g}"), describe(table.configurations[number].params))
        points[keys[number] in members].append(entry)
    data: list[Spec] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [rank for rank, *_ in points[inside]],
            "y": [mean for _, mean, _ in points[inside]],
            "text": [plain(text) for *_, text in points[inside]],
            "marker": {"color": colour, "size": size},
            "hovertemplate": "rank %{x}: %{y:.4g}<br>%{text}<extra></extra>",
        }
        for inside, name, colour, size in (
            (False, f"{len(keys) - len(members)} that are worse", GREY, 4),
            (True, f"{len(members)} that may be the best", BLUE, 7),
        )
    ]
    assert found.interval is not None  # noqa: S101 - ten folds have both
    assert found.optimism is not None  # noqa: S101
    expected = found.mean + found.optimism
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "the best on fresh folds, with its 95 % interval",
            "x": [0.8],
            "y": [expected],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [found.interval[1] - expected],
                "arrayminus": [expected - found.interval[0]],
                "color": VERMILLION,
                "thickness": 2,
            },
            "marker": {"color": VERMILLION, "size": 9, "symbol": "diamond"},
            "hovertemplate": "expected on fresh folds: %{y:.4g}<extra></extra>",
        }
    )
    paper = _stated(table)
    place = table.configurations.index(paper)
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "the paper’s",
            "x": [int(np.flatnonzero(order == place)[0]) + 1],
            "y": [float(values[place].mean())],
            "marker": {"color": ORANGE, "size": 13, "symbol": "square-open", "line": {"width": 3}},
            "hoverinfo": "skip",
        }
    )
    return _figure(
        data,
        400,
        xaxis=_axis("rank by mean validation loss", type="log", dtick=1),
        yaxis=_axis(headed("val_loss", table.metric) + ", nats", rangemode="tozero"),
        margin={"l": 56, "r": 12, "t": 72, "b": 48},
    )


def random_search() -> go.Figure:
    """How far off the choice of a search in random order is, after so much of each study's grid."""
    data: list[Spec] = []
    for study, colour in MODELS.items():
        table = shipped.table(study)
        course = replay(table, "random").course
        _, middle, high = quantiles(course.regret)
        places = thinned(range(course.regret.shape[1]), POINTS)
        shares = [float(f"{100 * (place + 1) / course.regret.shape[1]:.4g}") for place in places]
        for values, dash, share in ((middle, "solid", "half"), (high, "dot", "95 %")):
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": study.upper(),
                    "legendgroup": study,
                    "showlegend": dash == "solid",
                    "x": shares,
                    "y": [float(f"{values[place]:.5g}") for place in places],
                    "line": {"color": colour, "width": 2, "dash": dash},
                    "hovertemplate": f"{study.upper()}, {share} of the searches: at most %{{y:.3g}} after %{{x}} %"
                    "<extra></extra>",
                }
            )
    data += _keys((("half of the searches", "solid"), ("95 %", "dot")))
    return _figure(
        data,
        380,
        xaxis=_axis("configurations trained, % of the grid", range=[0, 100]),
        yaxis=_axis("regret, nats of validation loss", range=[0, 0.2]),
    )


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
