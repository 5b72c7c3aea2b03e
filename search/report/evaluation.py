"""The section on the final evaluation of all studies: Table 1 beside the papers' figures, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pairsearch.search.report.content import Block, Notice, Section, Table
from pairsearch.search.report.evaluation_figures import (
    PAPERS,
    Candidate,
    box_plot,
    by_epoch,
    candidates,
    evaluated_figures,
)
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.evaluations import Evaluated, Round, evaluated, values_of
from pairsearch.search.results.formatting import (
    DASH,
    abbreviations,
    compact,
    headed,
    label,
    legend,
    reach,
    spread,
)
from pairsearch.studies.intervals import mean_interval
from pairsearch.studies.problem import Metric


def section(readings: Sequence[Reading]) -> Section:
    figures = [box_plot(readings), *map(by_epoch, readings)]
    drawn = [figure for figure in figures if figure is not None]
    return Section("Final evaluation", (table_1(readings), *_missing(readings), *drawn))


def table_1(readings: Sequence[Reading]) -> Table:
    """Compose Table 1: the evaluated figures of each study's best and of its paper's configuration."""
    shown = [(reading, candidate) for reading in readings for candidate in candidates(reading)]
    short = abbreviations(name for reading in readings for name in reading.study.choices)
    facts = list(dict.fromkeys(name for reading, candidate in shown for name in _facts(reading, candidate)))
    # Columns are identified by their header, since different problems may have different figures of the same name.
    figures = [
        {headed(name, metric): (name, metric) for name, metric in evaluated_figures(reading).items()}
        for reading in readings
    ]
    headers = list(dict.fromkeys(header for known in figures for header in known))
    stated = list(dict.fromkeys(header for reading in readings for header in _stated(reading)))
    last = {list(known)[-1] for known in figures if known}
    rows = []
    for reading, known in zip(readings, figures, strict=True):
        study, theirs = reading.study.name.upper(), _stated(reading)
        of_study = candidates(reading)
        if not of_study:
            rows.append((study, *[DASH] * (4 + len(facts) + len(headers)), *[""] * len(stated)))
        for place, candidate in enumerate(of_study):
            own, of_rounds = _facts(reading, candidate), candidate.evaluated.figures
            cells = [
                spread(known[header][1], of_rounds.get(known[header][0])) if header in known else DASH
                for header in headers
            ]
            rows.append(
                (
                    study if place == 0 else "",
                    candidate.role,
                    compact(candidate.configuration.params, short),
                    *(own.get(name, DASH) for name in facts),
                    candidate.evaluated.count,
                    *cells,
                    _interval(reading, candidate.rounds),
                    *(theirs.get(header, DASH) if candidate.papers else "" for header in stated),
                )
            )
    meant = legend(short)
    caption = (
        "Table 1. Mean ± sample standard deviation over n rounds, each on fresh data, as far as the problem has "
        "them, with fresh weights"
        + ("; beside it what the paper states for its own configuration" if stated else "")
        + ". The interval is the 95 % t interval of the mean of the last figure over the rounds."
        + (f" {meant}." if meant else "")
    )
    interval = f"95 % interval, {last.pop()}" if len(last) == 1 else "95 % interval"
    before = ("study", "configuration", "hyperparameters", *facts, "n")
    papers = (f"paper: {header}" for header in stated)
    return Table(caption, (*before, *headers, interval, *papers), tuple(rows), labels=3)


def _facts(reading: Reading, candidate: Candidate) -> dict[str, str]:
    """Return facts about a configuration: those stored with its rounds, and those of the paper if it is the paper's."""
    paper = reading.study.definition.paper
    stated = paper.facts if paper is not None and candidate.papers else {}
    return {str(name): str(value) for name, value in {**stated, **candidate.evaluated.facts}.items()}


def _stated(reading: Reading) -> dict[str, str]:
    paper, metrics = reading.study.definition.paper, reading.study.traits.metrics
    return {
        headed(name, metrics[name]): spread(metrics[name], stated)
        for name, stated in ({} if paper is None else paper.figures).items()
        if name in metrics
    }


def _interval(reading: Reading, rounds: Sequence[Round]) -> str:
    """Format the interval of the most important figure."""
    figures = list(evaluated_figures(reading).items())
    if not figures:
        return DASH
    name, metric = figures[-1]
    return shown_interval(metric, values_of(rounds, name))


def shown_interval(metric: Metric, values: Sequence[float]) -> str:
    """Format the 95 % interval of the mean as `5.14 to 6.98`; that of fractions is clipped to [0, 1]."""
    interval = mean_interval(values, shares=metric.percent)
    return DASH if interval is None else reach(metric, interval)


def _missing(readings: Sequence[Reading]) -> Iterator[Block]:
    for reading in readings:
        name, wanted = reading.study.name, reading.study.definition.evaluation.rounds
        if reading.best is None:
            trains = f"; `pairsearch worker {name}` trains them" if reading.judged.provisional else ""
            yield Notice(f"{name}: {reading.ended}{trains}.")
        for candidate in candidates(reading):
            option = " --paper" if candidate.role == PAPERS else ""
            if len(candidate.rounds) < wanted:
                yield Notice(
                    f"{name}: {len(candidate.rounds)} of {wanted} rounds of {candidate.which} configuration are done; "
                    f"`pairsearch evaluate {name}{option}` trains the others."
                )


def others(reading: Reading) -> Section | None:
    """Compose the section with all evaluated configurations of a study; None if Table 1 shows them all."""
    shown = {candidate.configuration.key for candidate in candidates(reading)}
    figures = evaluated_figures(reading)
    if not set(reading.evaluated) - shown or not figures:
        return None
    last, counts = list(figures.items())[-1]
    every = [(evaluated(reading.study, key, rounds), rounds) for key, rounds in reading.evaluated.items()]

    def worst_last(row: tuple[Evaluated, Sequence[Round]]) -> float:
        known = row[0].figures.get(last)
        return math.inf if known is None else counts.sign * known.mean

    rows = tuple(
        (
            one.key,
            one.count,
            *(spread(metric, one.figures.get(name)) for name, metric in figures.items()),
            _interval(reading, rounds),
        )
        for one, rounds in sorted(every, key=worst_last)
    )
    headers = [headed(name, metric) for name, metric in figures.items()]
    table = Table(
        f"Every evaluated configuration, the best mean {label(last, counts)} first. Choosing among them by it would "
        "be choosing on data that are there to judge the choice: the order is for reading only.",
        ("configuration", "n", *headers, f"95 % interval, {headers[-1]}"),
        rows,
    )
    return Section("Evaluated configurations", (table,))
