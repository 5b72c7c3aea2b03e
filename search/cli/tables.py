"""How results look in a terminal: tables for people, plain dictionaries for `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pairsearch.search.cli.sheet import Field, Sheet
from pairsearch.search.database.states import State
from pairsearch.search.evaluation.evaluating import TableRow
from pairsearch.search.results.evaluations import Spread
from pairsearch.search.results.formatting import DASH, duration, per_cent, spread
from pairsearch.search.results.progress import Progress
from pairsearch.search.results.ranking import Ranked
from pairsearch.studies.configuration import Params, describe, shown


def progress_line(progress: Progress, rate: float | None = None, ahead: int = 0) -> str:
    """One line for a log.

    Args:
        rate: configurations a second of all studies together, for the time left; None where it is not known yet.
        ahead: configurations that are done before this study's.
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
    """A row for each study; `rate` and `ahead` as for `progress_line`."""
    names = ["done", "running", "diverged", "failed"]
    # Only a study with a pruner has any.
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
        found = progress.best
        row.append(
            DASH if found is None else f"{progress.metric} {found.value:.4f}: {describe(found.params)}"
        )
        rows.append(row)
    return Sheet(fields, rows, title)


def failure_lines(progress: Progress) -> list[str]:
    """What failed in a study and what to do about it; nothing where nothing failed."""
    if not progress.failures:
        return []
    return [
        f"{progress.study}: coverage {progress.covered}/{progress.total}, {len(progress.failures)} failed "
        f"(`pairsearch retry {progress.study}` lays them out again):",
        *(f"  {key}: {reason}" for key, reason in progress.failures.items()),
    ]


def progress_json(progress: Progress) -> dict[str, Any]:
    """What `status --json` prints for a study."""
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


def ranked_table(study: str, metric: str, ranked: Sequence[Ranked]) -> Sheet:
    """The best configurations of a study."""
    names = list(ranked[0].params) if ranked else []
    return Sheet(
        [
            Field("rank"),
            *(Field(name, constant_below=True) for name in names),
            *map(Field, ("val loss", "val error %", "seconds")),
        ],
        [
            [
                str(entry.rank),
                *(shown(entry.params[name]) for name in names),
                DASH if entry.val_loss is None else f"{entry.val_loss:.4f}",
                per_cent(entry.val_error),
                f"{entry.seconds:.1f}",
            ]
            for entry in ranked
        ],
        f"{study}: best by {metric}, means over folds after the last epoch",
    )


def ranked_json(ranked: Ranked) -> dict[str, Any]:
    """What `best --json` prints for a configuration; errors are fractions."""
    return {
        "rank": ranked.rank,
        "params": ranked.params,
        "value": ranked.value,
        "val_loss": ranked.val_loss,
        "val_error": ranked.val_error,
        "seconds": ranked.seconds,
    }


def _compact(params: Params) -> str:
    short = {
        "batch_size": "BS",
        "learning_rate": "LR",
        "weight_decay": "WD",
        "hidden_units": "HL",
        "aux_loss_weight": "ALW",
    }
    return " ".join(f"{short[name]} {shown(value)}" for name, value in params.items())


def tables_1(rows: Sequence[TableRow]) -> list[Sheet]:
    """The paper's Table 1 with our figures beside it, once for each choice of configurations that there is."""
    titles = {"search": "Table 1, the best of the search", "paper": "Table 1, the paper's configurations"}
    chosen = {title: [row for row in rows if row.chosen_by == choice] for choice, title in titles.items()}
    return [_table_1(title, found) for title, found in chosen.items() if found]


def _table_1(title: str, rows: Sequence[TableRow]) -> Sheet:
    fields = [
        Field("model", right=False),
        Field("parameters", right=False),
        Field("configuration", right=False, prose=True),
        *map(Field, ("n", "train", "test", "paper train", "paper test")),
    ]
    lines: list[list[str]] = []
    for row in rows:
        paper, found = row.paper, row.evaluated
        count = str(found.rounds) + (f" ({found.diverged} diverged)" if found.diverged else "")
        lines.append(
            [
                row.definition.name.upper(),
                f"{row.parameters:,}",
                _compact(row.params),
                count,
                spread(found.train_error),
                spread(found.test_error),
                DASH if paper is None else f"{paper.train_error:.2f} ± {paper.train_std:.2f}",
                DASH if paper is None else f"{paper.test_error:.2f} ± {paper.test_std:.2f}",
            ]
        )
        if paper is not None and paper.configuration.params != row.params:
            theirs = f"paper: {_compact(paper.configuration.params)}"
            lines.append(["", f"{paper.parameters:,}", theirs, *[""] * 5])
    return Sheet(
        fields,
        lines,
        f"{title}: error in %, mean ± sample standard deviation over rounds",
        "BS batch size, LR learning rate, WD weight decay, HL hidden units, ALW auxiliary loss weight",
    )


def table_1_json(rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """What `evaluate --json` prints: errors as fractions, the paper's in per cent as it states them."""

    def spread_json(value: Spread | None) -> dict[str, float | None] | None:
        return None if value is None else {"mean": value.mean, "std": value.std}

    return [
        {
            "study": row.definition.name,
            "chosen_by": row.chosen_by,
            "parameters": row.parameters,
            "params": row.params,
            "rounds": row.evaluated.rounds,
            "diverged": row.evaluated.diverged,
            "train_error": spread_json(row.evaluated.train_error),
            "test_error": spread_json(row.evaluated.test_error),
            "seconds": row.evaluated.seconds,
            "paper_percent": None if row.paper is None else row.paper.model_dump(),
        }
        for row in rows
    ]
