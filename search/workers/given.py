"""Checks what a problem reports and returns: epochs, figures and weights.

A process that trains has these checks without the ledger, which would cost it the import of SQLAlchemy.
"""

from __future__ import annotations

from pairsearch.studies.errors import ReportError
from pairsearch.studies.problem import Weights


def of_each(weights: object, runs: int) -> list[Weights | None]:
    """Return the weights of each run from what `train` returned; None stands for no weights of any run.

    Raises:
        ReportError: it is neither None nor a list with an entry for each run.
    """
    if weights is None:
        return [None] * runs
    if not isinstance(weights, list | tuple) or len(weights) != runs:
        raise ReportError(
            f"train returned {type(weights).__name__}, expected a list of the weights of {runs} runs, None for a run "
            "without"
        )
    return list(weights)


def not_an_epoch(epoch: object, last: int) -> ReportError:
    """Return the error of a report of something else than an epoch after the last one."""
    return ReportError(
        f"report: expected an epoch as an integer above {last}, got {epoch!r}: epochs count from 1"
    )


def number_of(name: str, value: object) -> float:
    """Return a figure as a number; raises ReportError where it is none."""
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)  # type: ignore[arg-type] # what is not a number raises
    except (TypeError, ValueError, RuntimeError, OverflowError):
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        raise ReportError(
            f"report: figure {name!r} is no number: got {type(value).__name__} {shown}"
        ) from None
