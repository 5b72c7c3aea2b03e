"""Presents results: tables for terminals, dictionaries for `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pairsearch.search.cli.sheet import Field, Sheet
from pairsearch.search.database.states import State
from pairsearch.search.evaluation.evaluating import TableRow
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.evaluations import Spread
from pairsearch.search.results.formatting import (
    DASH,
    abbreviations,
    compact,
    duration,
    figure,
    headed,
    legend,
    spread,
)
from pairsearch.search.results.progress import Progress
from pairsearch.search.results.ranking import Ranked
from pairsearch.studies.configuration import describe, shown
from pairsearch.studies.definition import Paper
from pairsearch.studies.problem import Metric


def progress_line(progress: Progress, rate: float | None = None, ahead: int = 0) -> str:
    """Return the progress of a study as a line for a log.

    Args:
        progress: the progress.
        rate: configurations per second over all studies; None if it is not known yet.
        ahead: how many configurations of other studies come before this study's.
    """
    parts = [
        f"{progress.study}: {progress.covered}/{progress.total} done",
        f"{progress.count(State.RUNNING)} running",
        f"{progress.count(State.DIVERGED)} diverged",
        f"{progress.count(State.FAILED)} failed",
    ]
    if rate:
        parts.append(f"{60 * rate:.1f} a minute")
        parts.append(f"{duration((ahead + progress.open) / rate)} left")
    if progress.best is not None:
        parts.append(f"best {progress.metric} {progress.best.value:.4f} ({describe(progress.best.params)})")
    return ", ".join(parts)


def progress_table(
    progresses: Sequence[Progress],
    rate: float | None = None,
    title: str | None = None,
    ahead: Sequence[int] | None = None,
) -> Sheet:
    """Return a table with a row for each study.

    Args:
        progresses: the progress of each study.
        rate: see `progress_line`.
        title: the title.
        ahead: see `progress_line`, for each study.
    """
    names = ["done", "running", "diverged", "failed"]
    # Only studies with a pruner have pruned configurations.
    pruned = any(progress.count(State.PRUNED) for progress in progresses)
    if pruned:
        names.insert(3, "pruned")
    fields = [Field("study", right=False), *(Field(name) for name in names)]
    if rate is not None:
        fields += [Field("a minute"), Field("time left")]
    fields.append(Field("best so far", right=False, prose=True))
    rows = []
    for progress, before in zip(progresses, ahead or [0] * len(progresses), strict=True):
        row = [
            progress.study,
            f"{progress.covered}/{progress.total}",
            str(progress.count(State.RUNNING)),
            str(progress.count(State.DIVERGED)),
            *([str(progress.count(State.PRUNED))] if pruned else []),
            str(progress.count(State.FAILED)),
        ]
        if rate is not None:
            row += [
                f"{60 * rate:.1f}",
                duration((before + progress.open) / rate) if rate > 0 and progress.open else DASH,
            ]
        best = progress.best
        row.append(DASH if best is None else f"{progress.metric} {best.value:.4f}: {describe(best.params)}")
        rows.append(row)
    return Sheet(fields, rows, title)


def failure_lines(progress: Progress) -> list[str]:
    """List the failures of a study and what to do about them; an empty list if there are none."""
    if not progress.failures:
        return []
    return [
        f"{progress.study}: coverage {progress.covered}/{progress.total}, {len(progress.failures)} failed "
        f"(`pairsearch retry {progress.study}` has them tried again):",
        *(f"  {key}: {reason}" for key, reason in progress.failures.items()),
    ]


def progress_json(progress: Progress) -> dict[str, Any]:
    """Return the progress of a study as `status --json` prints it."""
    return {
        "study": progress.study,
        "metric": progress.metric,
        "total": progress.total,
        "covered": progress.covered,
        "counts": progress.counts,
        "failures": progress.failures,
        "finished_last_minute": progress.recent_per_minute,
        "best": None if progress.best is None else ranked_json(progress.best),
    }


def ranked_table(study: StoredStudy, ranked: Sequence[Ranked]) -> Sheet:
    """Return a table of the best configurations of a study."""
    # Points of different grids have different parameters.
    names = [name for name in study.choices if any(name in entry.params for entry in ranked)]
    metrics = {name: metric for name, metric in study.traits.of_folds.items() if not metric.training}
    return Sheet(
        [
            Field("rank"),
            *(Field(name, constant_below=True) for name in names),
            *(Field(f"{name}{' %' if metric.percent else ''}") for name, metric in metrics.items()),
            Field("seconds"),
        ],
        [
            [
                str(entry.rank),
                *(shown(entry.params[name]) if name in entry.params else "" for name in names),
                *(figure(metric, entry.figures.get(name)) for name, metric in metrics.items()),
                f"{entry.seconds:.1f}",
            ]
            for entry in ranked
        ],
        f"{study.name}: best by {study.definition.metric}, means over folds after the last epoch",
    )


def ranked_json(ranked: Ranked) -> dict[str, Any]:
    """Return a ranked configuration as `best --json` prints it, with figures as they are stored."""
    return {
        "rank": ranked.rank,
        "params": ranked.params,
        "value": ranked.value,
        "figures": ranked.figures,
        "seconds": ranked.seconds,
    }


def tables_1(rows: Sequence[TableRow]) -> list[Sheet]:
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


def _table_1(title: str, rows: Sequence[TableRow]) -> Sheet:
    metrics: dict[str, Metric] = {}
    for row in rows:
        metrics |= {name: row.study.traits.metrics[name] for name in row.evaluated.figures}
    facts = list(dict.fromkeys(name for row in rows for name in row.evaluated.facts))
    short = abbreviations(name for row in rows for name in row.study.choices)
    fields = [
        Field("study", right=False),
        *(Field(name, right=False) for name in facts),
        Field("configuration", right=False, prose=True),
        Field("n"),
        *(Field(headed(name, metric)) for name, metric in metrics.items()),
    ]
    lines: list[list[str]] = []
    for row in rows:
        evaluated = row.evaluated
        count = str(evaluated.rounds) + (f" ({evaluated.diverged} diverged)" if evaluated.diverged else "")
        lines.append(
            [
                row.definition.name.upper(),
                *(evaluated.facts.get(name, "") for name in facts),
                compact(row.params, short),
                count,
                *(spread(metric, evaluated.figures.get(name)) for name, metric in metrics.items()),
            ]
        )
        if row.paper is not None:
            theirs = row.paper.configuration.params
            lines.append(
                [
                    "",
                    *(row.paper.facts.get(name, "") for name in facts),
                    "as the paper states" if theirs == row.params else f"paper's: {compact(theirs, short)}",
                    "",
                    *(_stated(row.paper, name, metric) for name, metric in metrics.items()),
                ]
            )
    return Sheet(
        fields,
        lines,
        f"{title}: mean ± sample standard deviation over rounds",
        legend(short) or None,
    )


def _stated(paper: Paper, name: str, metric: Metric) -> str:
    stated = paper.figures.get(name)
    return DASH if stated is None else spread(metric, Spread(stated.mean, stated.std))


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
            "figures": {
                name: {"mean": value.mean, "std": value.std} for name, value in row.evaluated.figures.items()
            },
            "seconds": row.evaluated.seconds,
            "paper": None if row.paper is None else row.paper.model_dump(),
        }
        for row in rows
    ]
