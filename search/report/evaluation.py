"""The section on the final evaluation of all studies: Table 1 beside the papers' figures, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pairsearch.search.report.content import Block, Notice, Section, Table
from pairsearch.search.report.evaluation_figures import box_plot, by_epoch
from pairsearch.search.report.reading import Reading
from pairsearch.search.report.rounds import (
    PAPERS,
    WHICH,
    Candidate,
    candidates,
    evaluated_figures,
    shown_interval,
)
from pairsearch.search.results.evaluations import Evaluated, Round, evaluated, values_of
from pairsearch.search.results.formatting import DASH, abbreviations, compact, headed, label, legend, spread
from pairsearch.studies.problem import Metric


def section(readings: Sequence[Reading]) -> Section:
    figures = [box_plot(readings), *(by_epoch(reading) for reading in readings)]
    blocks: list[Block] = [table_1(readings), *_missing(readings)]
    return Section("Final evaluation", (*blocks, *(figure for figure in figures if figure is not None)))


def table_1(readings: Sequence[Reading]) -> Table:
    """Compose Table 1: the evaluated figures of each study's best and of its paper's configuration."""
    shown = [(reading, candidate) for reading in readings for candidate in candidates(reading)]
    short = abbreviations(name for reading in readings for name in reading.study.choices)
    facts = list(dict.fromkeys(name for reading, candidate in shown for name in _facts(reading, candidate)))
    # Columns are identified by their header, since different problems may have different figures of the same name.
    figures = [
        {headed(name, metric): name for name, metric in evaluated_figures(reading).items()}
        for reading in readings
    ]
    headers = list(dict.fromkeys(header for names in figures for header in names))
    stated = list(dict.fromkeys(header for reading in readings for header in _stated(reading)))
    last = {list(names)[-1] for names in figures if names}
    rows = []
    for reading, names in zip(readings, figures, strict=True):
        study, metrics = reading.study, reading.study.traits.metrics
        of_study = candidates(reading)
        if not of_study:
            rows.append((study.name.upper(), *[DASH] * (4 + len(facts) + len(headers)), *[""] * len(stated)))
        for place, candidate in enumerate(of_study):
            own, theirs = _facts(reading, candidate), _stated(reading)
            known = {header: candidate.evaluated.figures.get(name) for header, name in names.items()}
            rows.append(
                (
                    study.name.upper() if place == 0 else "",
                    candidate.role,
                    compact(candidate.configuration.params, short),
                    *(own.get(name, DASH) for name in facts),
                    candidate.evaluated.count,
                    *(
                        spread(metrics[names[header]], known[header]) if header in names else DASH
                        for header in headers
                    ),
                    _interval(evaluated_figures(reading), candidate.rounds),
                    *(theirs.get(header, DASH) if candidate.papers else "" for header in stated),
                )
            )
    meant = legend(short)
    return Table(
        caption=(
            "Table 1. Mean ± sample standard deviation over n rounds, each on fresh data, as far as the problem has "
            "them, with fresh weights"
            + ("; beside it what the paper states for its own configuration" if stated else "")
            + ". The interval is the 95 % t interval of the mean of the last figure over the rounds."
            + (f" {meant}." if meant else "")
        ),
        header=(
            "study",
            "configuration",
            "hyperparameters",
            *facts,
            "n",
            *headers,
            f"95 % interval, {last.pop()}" if len(last) == 1 else "95 % interval",
            *(f"paper: {header}" for header in stated),
        ),
        rows=tuple(rows),
        labels=3,
    )


def _facts(reading: Reading, candidate: Candidate) -> dict[str, str]:
    """Return facts about a configuration: those stored with its rounds, and those of the paper if it is the paper's."""
    paper = reading.study.definition.paper
    stated = {} if paper is None or not candidate.papers else paper.facts
    return {str(name): str(value) for name, value in {**stated, **candidate.evaluated.facts}.items()}


def _stated(reading: Reading) -> dict[str, str]:
    paper, metrics = reading.study.definition.paper, reading.study.traits.metrics
    return {
        headed(name, metrics[name]): spread(metrics[name], stated)
        for name, stated in ({} if paper is None else paper.figures).items()
        if name in metrics
    }


def _interval(figures: Mapping[str, Metric], rounds: Sequence[Round]) -> str:
    if not figures:
        return DASH
    name, metric = list(figures.items())[-1]
    return shown_interval(metric, values_of(rounds, name))


def _missing(readings: Sequence[Reading]) -> list[Block]:
    blocks: list[Block] = []
    for reading in readings:
        name = reading.study.name
        if reading.best is None:
            blocks.append(
                Notice(
                    f"{name}: {reading.ended}"
                    + (f"; `pairsearch worker {name}` trains them." if reading.judged.provisional else ".")
                )
            )
        for candidate in candidates(reading):
            wanted = reading.study.definition.evaluation.rounds
            option = " --paper" if candidate.role == PAPERS else ""
            if len(candidate.rounds) < wanted:
                which = WHICH[candidate.role]
                blocks.append(
                    Notice(
                        f"{name}: {len(candidate.rounds)} of {wanted} rounds of {which} configuration are done; "
                        f"`pairsearch evaluate {name}{option}` trains the others."
                    )
                )
    return blocks


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

    rows = [
        (
            one.key,
            one.count,
            *(spread(metric, one.figures.get(name)) for name, metric in figures.items()),
            _interval(figures, rounds),
        )
        for one, rounds in sorted(every, key=worst_last)
    ]
    table = Table(
        f"Every evaluated configuration, the best mean {label(last, counts)} first. Choosing among them by it would "
        "be choosing on data that are there to judge the choice: the order is for reading only.",
        (
            "configuration",
            "n",
            *(headed(name, metric) for name, metric in figures.items()),
            f"95 % interval, {headed(last, counts)}",
        ),
        tuple(rows),
    )
    return Section("Evaluated configurations", (table,))
