"""How runs are split into jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pairsearch.search.database.states import JobState, State
from pairsearch.search.ledger.studies import StoredStudy


def fold_jobs(study: StoredStudy, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the jobs of a configuration's row: one for each fold, or one of all folds."""
    folds = study.definition.folds
    size = 1 if study.folds_apart else folds
    of_row = {name: row[name] for name in ("study_id", "key", "rank", "errors", "lapses", "claims")}
    state = JobState.FAILED if row["state"] == State.FAILED else JobState.PENDING
    return [
        of_row | {"kind": "fold", "first": first, "count": size, "state": state}
        for first in range(0, folds, size)
    ]


def blocks(numbers: Sequence[int], *, together: bool) -> list[tuple[int, int]]:
    """Return the first number and the length of each run of consecutive numbers, or of each number alone."""
    blocks: list[tuple[int, int]] = []
    for number in numbers:
        if together and blocks and number == sum(blocks[-1]):
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + 1)
        else:
            blocks.append((number, 1))
    return blocks
