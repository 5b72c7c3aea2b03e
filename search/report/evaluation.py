"""The final evaluation of all studies side by side: Table 1 beside the paper's, and what is still missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pairsearch.search.report.content import Block, Notice, Section, Table
from pairsearch.search.report.errors import box_plot, error_by_epoch
from pairsearch.search.report.reading import Reading, Round
from pairsearch.search.report.rounds import Estimate, candidates, compact, test_errors, train_errors
from pairsearch.search.results.formatting import DASH
from pairsearch.studies.architecture import parameter_count
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.jobs import Hyperparameters


def section(readings: Sequence[Reading]) -> Section:
    """What all studies together show."""
    blocks: list[Block] = [table_1(readings), *_missing(readings)]
    if any(test_errors(candidate.rounds) for reading in readings for candidate in candidates(reading)):
        blocks.append(box_plot(readings))
    for reading in readings:
        figure = error_by_epoch(reading)
        if figure is not None:
            blocks.append(figure)
    return Section("Final evaluation", tuple(blocks))


def table_1(readings: Sequence[Reading]) -> Table:
    """The paper's Table 1, with our figures."""
    rows = []
    for reading in readings:
        stated = reading.study.definition.paper
        shown = candidates(reading)
        name = reading.study.name.upper()
        if not shown:
            rows.append((name, *(DASH,) * 9))
        for place, candidate in enumerate(shown):
            train, test = train_errors(candidate.rounds), test_errors(candidate.rounds)
            estimate = Estimate.of(test)
            theirs = candidate.configuration == reading.paper and stated is not None
            rows.append(
                (
                    name if place == 0 else "",
                    candidate.role,
                    compact(candidate.configuration),
                    _parameters(reading, candidate.configuration),
                    _count(candidate.rounds),
                    str(Estimate.of(train) or DASH),
                    str(estimate or DASH),
                    DASH if estimate is None else estimate.interval,
                    f"{stated.train_error:.2f} ± {stated.train_std:.2f}" if theirs and stated else "",
                    f"{stated.test_error:.2f} ± {stated.test_std:.2f}" if theirs and stated else "",
                )
            )
    return Table(
        caption=(
            "Table 1. Error in %, mean ± sample standard deviation over n rounds, each on fresh pairs with fresh "
            "weights; beside it what the paper states for its own configuration. The interval is the 95 % t interval "
            "of our mean test error over the rounds. BS batch size, LR learning rate, WD weight decay, HL hidden "
            "units, ALW auxiliary loss weight."
        ),
        header=(
            "model",
            "configuration",
            "hyperparameters",
            "parameters",
            "n",
            "train",
            "test",
            "95 % interval, test",
            "paper: train",
            "paper: test",
        ),
        rows=tuple(rows),
        labels=3,
    )


def _parameters(reading: Reading, configuration: Configuration) -> str:
    try:
        units = Hyperparameters.of(configuration).hidden_units
        return f"{parameter_count(reading.study.definition.architecture, units):,}"
    except ValueError:  # an architecture that this installation does not have
        return DASH


def _count(rounds: Sequence[Round]) -> str:
    diverged = sum(entry.diverged for entry in rounds)
    return f"{len(rounds)} ({diverged} diverged)" if diverged else str(len(rounds))


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
            option = " --paper" if candidate.role == "paper’s" else ""
            if len(candidate.rounds) < wanted:
                which = {"both": "the best and the paper’s", "paper’s": "the paper’s"}.get(
                    candidate.role, "the search’s best"
                )
                blocks.append(
                    Notice(
                        f"{name}: {len(candidate.rounds)} of {wanted} rounds of {which} configuration are done; "
                        f"`pairsearch evaluate {name}{option}` trains the others."
                    )
                )
    return blocks


def others(reading: Reading) -> Table | None:
    """Every configuration of a study that has rounds, where there are more than Table 1 shows."""
    shown = {candidate.configuration.key for candidate in candidates(reading)}
    if not set(reading.evaluated) - shown:
        return None
    rows = []
    for key, rounds in reading.evaluated.items():
        estimate = Estimate.of(test_errors(rounds))
        rows.append(
            (
                estimate.mean if estimate else math.inf,
                (
                    key,
                    _count(rounds),
                    str(Estimate.of(train_errors(rounds)) or DASH),
                    str(estimate or DASH),
                    DASH if estimate is None else estimate.interval,
                ),
            )
        )
    return Table(
        "Every evaluated configuration, the lowest mean test error first. Choosing among them by test error would "
        "be choosing on test data: the order is for reading only.",
        ("configuration", "n", "train error, %", "test error, %", "95 % interval, test"),
        tuple(row for _, row in sorted(rows, key=lambda entry: entry[0])),
    )
