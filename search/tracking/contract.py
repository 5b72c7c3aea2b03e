"""What a tracker shows of a study, and what each has to be able to do."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.studies.configuration import Value


def run_id(study: StoredStudy, kind: str, key: str = "", number: int = 0) -> str:
    """Return what tells a run from all others in a tracker, those of studies of its name in other databases too."""
    text = "\n".join((study.name, repr(study.created_at), kind, str(number), key))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Run:
    """A run: a study, a configuration in it, or a fold or a round of a configuration, as `kind` says.

    Args:
        state: a run whose state has changed is written again.
        parents: ids of the runs that it is nested in, the study's first.
        group: what a configuration shares with its folds and rounds, for people.
        curves: figures by epoch, by name.
        figures: figures after the last epoch, by name.
        ended: in seconds since 1970; it began `seconds` before.
        report: the page with a study's report.
    """

    id: str
    study: str
    kind: str
    name: str
    state: str
    parents: Sequence[str] = ()
    group: str = ""
    params: Mapping[str, Value] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    figures: Mapping[str, float | None] = field(default_factory=dict)
    ended: float = 0.0
    seconds: float = 0.0
    report: Path | None = None

    @property
    def nested(self) -> bool:
        """Whether it is a fold or a round."""
        return len(self.parents) > 1

    @property
    def points(self) -> dict[int, dict[str, float]]:
        """The finite figures by epoch, from 1; the last ones stand at the last epoch, which is 0 without curves."""
        last = max(map(len, self.curves.values()), default=0)
        found: dict[int, dict[str, float]] = {}
        for name, curve in self.curves.items():
            for epoch, point in enumerate(curve, start=1):
                if math.isfinite(point):
                    found.setdefault(epoch, {})[name] = point
        finals = {name: figure for name, figure in self.figures.items() if figure is not None}
        if finals:
            found.setdefault(last, {}).update(finals)
        return dict(sorted(found.items()))


class Tracker(ABC):
    """A tracker, opened by its folder or URI. All raises `errors` where it is away or refuses something."""

    errors: tuple[type[Exception], ...] = ()

    @abstractmethod
    def __init__(self, place: str) -> None: ...

    @abstractmethod
    def known(self, study: StoredStudy) -> dict[str, str]:
        """Return the states of the runs that are there as a whole, by id; those of other studies may be among them."""

    @abstractmethod
    def write(self, run: Run) -> None:
        """Write a run in the place of one with its id. Until it is whole it is not known.

        A configuration comes before its folds and rounds, the study when all of them are there.
        """

    def close(self) -> None:  # noqa: B027 - most need nothing
        """Finish what is open; the tracker is used no more."""
