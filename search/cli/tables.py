"""Presents results: tables for terminals, dictionaries for `--json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from pairsearch.search.cli.sheet import Sheet
from pairsearch.search.database.states import State
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.evaluations import Spread, TableRow
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import (
    DASH,
    abbreviations,
    compact,
    duration,
    figure,
    headed,
    legend,
    spread,
    unit,
)
from pairsearch.search.results.progress import Progress
from pairsearch.search.results.ranking import Ranked
from pairsearch.studies.configuration import describe, shown
from pairsearch.studies.definition import Stated
from pairsearch.studies.problem import Metric


def _times_left(progresses: Sequence[Progress], rate: float | None) -> dict[str, str]:
    """Return by study in what time it will be trained: workers train the configurations of those before it first."""
    # Of those of which some folds have ended, a share.
    todo = (one.open if one.folds is None else one.total - one.ended for one in progresses)
    return {
        progress.study: duration(count / rate) if rate and progress.open else DASH
        for progress, count in zip(progresses, accumulate(todo), strict=True)
    }


def progress_lines(progresses: Sequence[Progress], rate: float | None = None) -> list[str]:
    """Return the progress of each study as a line for a log; arguments are those of `progress_table`."""
    lines, left = [], _times_left(progresses, rate)
    for progress in progresses:
        parts = [
            f"{progress.study}: {progress.covered}/{progress.total} done",
            *([] if progress.folds is None else ["{}/{} folds".format(*progress.folds)]),
            *(f"{progress.count(state)} {state}" for state in (State.RUNNING, State.DIVERGED, State.FAILED)),
        ]
        if rate and progress.open:
            parts += [f"{60 * rate:.1f} a minute", f"{left[progress.study]} left"]
        if progress.best is not None:
            parts.append(
                f"best {progress.metric} {progress.best.value:.4f} ({describe(progress.best.params)})"
            )
        lines.append(", ".join(parts))
    return lines


def progress_table(
    progresses: Sequence[Progress], rate: float | None = None, title: str | None = None
) -> Sheet[Progress]:
    """Return a table with a row for each study.

    Args:
        rate: configurations per second over all studies, 0 if it is not known yet; None without columns of time.
    """
    # Only studies with a pruner have pruned configurations.
    pruned = any(progress.count(State.PRUNED) for progress in progresses)
    states = [State.RUNNING, State.DIVERGED, *([State.PRUNED] if pruned else []), State.FAILED]

    def count(state: State) -> Field[Progress]:
        return Field(state.value, lambda one: str(one.count(state)))

    fields: list[Field[Progress]] = [
        Field("study", lambda one: one.study, right=False),
        Field("done", lambda one: f"{one.covered}/{one.total}"),
    ]
    if any(progress.folds for progress in progresses):
        fields.append(Field("folds", lambda one: "{}/{}".format(*one.folds) if one.folds else DASH))
    fields += map(count, states)
    if rate is not None:
        left = _times_left(progresses, rate)
        fields.append(Field("a minute", lambda _: f"{60 * rate:.1f}"))
        fields.append(Field("time left", lambda one: left[one.study]))
    fields.append(Field("best so far", _best, right=False, prose=True))
    return Sheet(fields, progresses, title)


def _best(progress: Progress) -> str:
    best = progress.best
    return DASH if best is None else f"{progress.metric} {best.value:.4f}: {describe(best.params)}"


def lines_below(progress: Progress) -> list[str]:
    """List what is left of the final evaluation, and the failures of a study and what to do about them."""
    lines = []
    if left := progress.rounds_left:
        lines.append(f"{progress.study}: {left} rounds of the final evaluation are left")
    if progress.failures:
        lines.append(
            f"{progress.study}: coverage {progress.covered}/{progress.total}, {len(progress.failures)} failed "
            f"(`pairsearch retry {progress.study}` has them tried again):"
        )
        lines += [f"  {key}: {reason}" for key, reason in progress.failures.items()]
    return lines


def progress_json(progress: Progress) -> dict[str, Any]:
    """Return the progress of a study as `status --json` prints it."""
    folds = None if progress.folds is None else dict(zip(("ended", "total"), progress.folds, strict=True))
    return {
        **picked(progress, "study", "metric", "total", "covered", "counts"),
        "folds": folds,
        **picked(progress, "rounds_left", "failures"),
        "finished_last_minute": progress.recent_per_minute,
        "best": None if progress.best is None else ranked_json(progress.best),
    }


def ranked_table(study: StoredStudy, ranked: Sequence[Ranked]) -> Sheet[Ranked]:
    """Return a table of the best configurations of a study."""

    def param(name: str) -> Field[Ranked]:
        return Field(
            name, lambda one: shown(one.params[name]) if name in one.params else "", constant_below=True
        )

    def mean(name: str, metric: Metric) -> Field[Ranked]:
        return Field(name + unit(metric), lambda one: figure(metric, one.figures.get(name)))

    return Sheet(
        [
            Field("rank", lambda one: str(one.rank)),
            # Points of different grids have different parameters.
            *(param(name) for name in study.choices if any(name in one.params for one in ranked)),
            *(mean(name, metric) for name, metric in study.traits.of_folds.items() if not metric.training),
            Field("seconds", lambda one: f"{one.seconds:.1f}"),
        ],
        ranked,
        f"{study.name}: best by {study.definition.metric}, means over folds after the last epoch",
    )


def ranked_json(ranked: Ranked) -> dict[str, Any]:
    """Return a ranked configuration as `best --json` prints it, with figures as they are stored."""
    return picked(ranked, "rank", "params", "value", "figures", "seconds")


def picked(item: object, *names: str) -> dict[str, Any]:
    """Return some fields of an object by name, for JSON."""
    return {name: getattr(item, name) for name in names}


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
        name, params = row.study.name.upper(), compact(row.params, short)
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
            "study": row.study.name,
            "chosen_by": row.chosen_by,
            "facts": row.evaluated.facts,
            "params": row.params,
            **picked(row.evaluated, "rounds", "diverged"),
            "figures": {name: asdict(value) for name, value in row.evaluated.figures.items()},
            "seconds": row.evaluated.seconds,
            "paper": None if row.paper is None else row.paper.model_dump(),
        }
        for row in rows
    ]
