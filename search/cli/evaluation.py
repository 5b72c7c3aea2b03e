"""What a terminal shows of the final evaluation: its training, and Table 1, which is a dictionary for `--json`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from pairsearch.search.cli.sheet import Sheet
from pairsearch.search.cli.terminal import print_lines
from pairsearch.search.common.machine import Machine
from pairsearch.search.results.evaluations import Spread, TableRow
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import abbreviations, compact, headed, legend, spread
from pairsearch.search.workers.evaluating import Evaluator
from pairsearch.search.workers.signals import interrupted_by_signals, signals
from pairsearch.studies.definition import Stated
from pairsearch.studies.problem import Metric


@contextmanager
def evaluator_on(machine: Machine, console: Console, **options: Any) -> Iterator[Evaluator]:
    """Yield what trains rounds and shows them, in place on a terminal; signals stop it inside the block.

    Args:
        options: further fields of `Evaluator`.
    """

    stopping = threading.Event()

    @contextmanager
    def watch(label: str) -> Iterator[Callable[[str], None]]:
        # Both have threads, with which no worker can be forked from this process.
        with signals(stopping), console.status(Text(f"{label}: starting")) as status:
            yield lambda line: status.update(Text(line))

    with interrupted_by_signals():
        yield Evaluator(machine, stopping, watch, lambda line: print_lines(console, [line]), **options)


def tables_1(rows: Sequence[TableRow]) -> list[Sheet[_Line]]:
    """Return the final evaluation in the form of the paper's Table 1, a table for each choice of configurations.

    Below each row is one with the paper's configuration and figures, if the definition has them.
    """
    named = any(row.paper is not None for row in rows)
    titles = {"search": "the best of the search", "paper": "the paper's configurations"}
    chosen = {title: [row for row in rows if row.chosen_by == choice] for choice, title in titles.items()}
    what = "Table 1" if named else "Final evaluation"
    # Below a row stand the paper's figures, on the paper's data.
    data = {f"{name} {value}": None for row in rows for name, value in row.study.traits.remember.items()}
    about = f", {', '.join(data)}" if named and data else ""
    return [
        _table_1(f"{what}, {title}{about}", of_choice) for title, of_choice in chosen.items() if of_choice
    ]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of Table 1: an evaluated configuration, or below it what the paper states."""

    study: str
    facts: Mapping[str, str]
    configuration: str
    count: str
    figures: Mapping[str, Spread | Stated]


def _lines(rows: Sequence[TableRow], short: Mapping[str, str]) -> Iterator[_Line]:
    for row in rows:
        own, paper = row.evaluated, row.paper
        name, params = row.definition.name.upper(), compact(row.params, short)
        yield _Line(name, own.facts, params, own.count, own.figures)
        if paper is not None:
            theirs = paper.configuration.params
            what = "as the paper states" if theirs == row.params else f"paper's: {compact(theirs, short)}"
            yield _Line("", paper.facts, what, "", paper.figures)


def _table_1(title: str, rows: Sequence[TableRow]) -> Sheet[_Line]:
    short = abbreviations(name for row in rows for name in row.study.choices)
    metrics = {name: row.study.traits.metrics[name] for row in rows for name in row.evaluated.figures}

    def fact(name: str) -> Field[_Line]:
        return Field(name, lambda line: line.facts.get(name, ""), right=False)

    def over_rounds(name: str, metric: Metric) -> Field[_Line]:
        return Field(headed(name, metric), lambda line: spread(metric, line.figures.get(name)))

    return Sheet(
        [
            Field("study", lambda line: line.study, right=False),
            *map(fact, dict.fromkeys(name for row in rows for name in row.evaluated.facts)),
            Field("configuration", lambda line: line.configuration, right=False, prose=True),
            Field("n", lambda line: line.count),
            *(over_rounds(name, metric) for name, metric in metrics.items()),
        ],
        _lines(rows, short),
        f"{title}: mean ± sample standard deviation over rounds",
        legend(short) or None,
    )


def table_1_json(rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """Return the final evaluation as `evaluate --json` prints it, with figures as they are stored."""
    return [
        {
            "study": row.definition.name,
            "chosen_by": row.chosen_by,
            "facts": row.evaluated.facts,
            "params": row.params,
            "rounds": row.evaluated.rounds,
            "diverged": row.evaluated.diverged,
            "figures": {name: asdict(value) for name, value in row.evaluated.figures.items()},
            "seconds": row.evaluated.seconds,
            "paper": None if row.paper is None else row.paper.model_dump(),
        }
        for row in rows
    ]
