"""How much each hyperparameter matters: analysis of variance over the grid, and Optuna's fANOVA over the trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from search.report.content import Block, Figure, Notice, Spec, View
from search.report.drawing import BLUE, LABELS, MUTED, ORANGE, axis, layout, number
from search.report.reading import Point, Reading
from studies.configuration import Value

LEAST = 8
"""Finished configurations below which an importance would be noise."""
PAIRS = 4
"""Pairs that have a bar of their own, the largest."""
TREES = 16
"""Of fANOVA's forest: Optuna's default is 64, at four times the time and hardly another answer."""


def section_blocks(reading: Reading) -> list[Block]:
    """The figure of importance, or why there is none, and what it was made from."""
    points = reading.finished
    varying = [name for name, values in reading.study.choices.items() if len(values) > 1]
    if len(points) < LEAST or len(varying) < 2:
        return [
            Notice(
                f"Importance: {len(points)} finished configurations over {len(varying)} varying hyperparameters; "
                f"it is shown from {LEAST} and 2."
            )
        ]
    # NumPy, scikit-learn and Optuna are only needed here.
    from search.report.variance import complete_block, decompose  # noqa: PLC0415

    choices = reading.study.choices
    logarithmic = all(point.value is not None and point.value > 0 for point in points)
    figures = {
        tuple(point.configuration.params[name] for name in choices): _target(point, logarithmic)
        for point in points
    }
    block = complete_block(choices, figures)
    forest = fanova(choices, points, logarithmic)
    bars: list[tuple[str, float | None, float | None]] = []
    if block is None:
        bars += [(LABELS[name], None, forest[name]) for name in choices]
        basis = "The analysis of variance needs a complete grid of two or more hyperparameters, and none is finished."
    else:
        shares = decompose(block.cells, block.names)
        bars += [(LABELS[name], shares.main.get(name), forest[name]) for name in choices]
        pairs = sorted(shares.pairs.items(), key=lambda entry: -entry[1])
        bars += [(f"{LABELS[a]} × {LABELS[b]}", share, None) for (a, b), share in pairs[:PAIRS]]
        if len(pairs) > PAIRS:
            bars.append((f"{len(pairs) - PAIRS} other pairs", sum(share for _, share in pairs[PAIRS:]), None))
        bars.append(("three and more, and noise", shares.rest, None))
        basis = f"The analysis of variance covers {_extent(block.cells.size, len(points), block.left_out)}."
    bars[: len(choices)] = sorted(
        bars[: len(choices)], key=lambda bar: -(bar[1] if bar[1] is not None else bar[2] or 0)
    )
    return [_figure(reading, bars, basis, logarithmic)]


def _target(point: Point, logarithmic: bool) -> float:
    assert point.value is not None  # noqa: S101 - `Reading.finished` leaves the others out
    return math.log10(point.value) if logarithmic else point.value


def _extent(cells: int, finished: int, left_out: Sequence[tuple[str, Value]]) -> str:
    if not left_out:
        return f"all {cells} configurations"
    levels = ", ".join(f"{LABELS[name]} {number(value)}" for name, value in left_out)
    return f"{cells} of the {finished} finished configurations: its largest complete part found, without {levels}"


def fanova(
    choices: Mapping[str, Sequence[Value]], points: Sequence[Point], logarithmic: bool
) -> dict[str, float]:
    """Optuna's fANOVA importance by parameter; they sum to 1, or are all 0 where nothing varies.

    The trials are made from the ledger, in memory: Optuna's storage would want to write to the database.
    """
    import optuna  # noqa: PLC0415
    from optuna.distributions import CategoricalDistribution  # noqa: PLC0415
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # noqa: PLC0415

    if len({point.value for point in points}) < 2:
        return dict.fromkeys(choices, 0.0)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study()
        distributions = {name: CategoricalDistribution(tuple(values)) for name, values in choices.items()}
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=dict(point.configuration.params),
                    distributions=dict(distributions),
                    value=_target(point, logarithmic),
                )
                for point in points
            ]
        )
        found = get_param_importances(
            study, evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=0), params=list(choices)
        )
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {name: float(found[name]) for name in choices}


def _figure(
    reading: Reading, bars: Sequence[tuple[str, float | None, float | None]], basis: str, logarithmic: bool
) -> Figure:
    places = list(range(len(bars)))
    data: list[Spec] = []
    for name, colour, values in (
        ("share of variance (analysis of variance)", BLUE, [bar[1] for bar in bars]),
        ("fANOVA importance (forest)", ORANGE, [bar[2] for bar in bars]),
    ):
        shown = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "x": [round(100 * value, 3) for _, value in shown],
                "y": [place for place, _ in shown],
                "text": [f"{100 * value:.1f}" for _, value in shown],
                "textposition": "outside",
                "textfont": {"color": MUTED},
                "cliponaxis": False,
                "marker": {"color": colour},
                "hovertemplate": "%{x:.2f} %<extra></extra>",
            }
        )
    spec = {
        "data": data,
        "layout": layout(
            barmode="group",
            showlegend=True,  # with one kind of bars too
            bargap=0.35,
            xaxis=axis("share, %", rangemode="tozero"),
            yaxis=axis(
                tickmode="array",
                tickvals=places,
                ticktext=[bar[0] for bar in bars],
                range=[len(bars) - 0.5, -0.5],
                showgrid=False,
                ticks="",
            ),
        ),
    }
    metric = reading.study.definition.metric
    target = f"the {'logarithm of the ' if logarithmic else ''}mean {metric}"
    spoken = ", ".join(
        f"{label} {100 * (share if share is not None else forest or 0):.1f} %"
        for label, share, forest in bars[:5]
    )
    return Figure(
        f"{reading.study.name}-importance",
        "Importance of the hyperparameters",
        f"What moves {target} over the finished configurations. {basis} A bar with × is what two hyperparameters do "
        "together beyond each alone. Analysis of variance of a balanced factorial design: Montgomery, Design and "
        "Analysis of Experiments, chapter 5. fANOVA: Hutter, Hoos & Leyton-Brown, ICML 2014, Optuna’s implementation "
        f"with {TREES} trees; its main effects alone, scaled to sum to 100 %, so that the two need not agree.",
        f"Bar chart of the share of variance by hyperparameter: {spoken}.",
        (View("", spec),),
        height=110 + 44 * len(bars),
        least_width=560,
    )
