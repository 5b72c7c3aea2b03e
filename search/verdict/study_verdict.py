"""Reads the figures of a study's folds from the database and judges them (`search.verdict.judging`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pairsearch.search.database.states import State
from pairsearch.search.results.fold_figures import Unjudged
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Metric

if TYPE_CHECKING:  # NumPy is imported only if there is something to judge
    from pairsearch.search.verdict.judging import Verdict

# A row of `configurations`; releases of SQLAlchemy differ in the type parameters of `Row`.
Row = Any


@dataclass(frozen=True, slots=True)
class Winner:
    """The finished configuration with the best mean of a figure."""

    configuration: Configuration
    figures: Mapping[str, float | None]
    """All its figures, as means over folds."""


@dataclass(frozen=True, slots=True)
class StudyVerdict:
    """The verdict of a study by its metric, and the winners by every figure."""

    study: str
    """Name of the study."""
    metric: str
    """Name of the metric by which the verdict judges."""
    metrics: Mapping[str, Metric]
    """Metrics of all figures of folds, by name."""
    overlap: float
    """Validation over training examples of a fold if folds share one sample, else 0."""
    verdict: Verdict | None
    """The verdict; None while no configuration is finished with a figure in every fold. Lower values are better in it:
    figures that are maximised have their sign changed, which `value` undoes."""
    configurations: dict[str, Configuration]
    """The finished configurations by key."""
    seconds: Mapping[str, float]
    """Training time of the finished configurations by key."""
    winners: Mapping[str, Winner]
    """The best finished configuration by each figure."""
    open: int
    """Number of configurations still to be trained. While there are any, the verdict is provisional."""
    pruner: str
    """The pruner of the definition; `none` where another program pruned."""
    uncovered: int
    """Number of configurations that were pruned by anything but the race, whose error rate the verdict's own bounds."""

    def value(self, judged: float) -> float:
        """Convert a value of the verdict to the figure's own sign."""
        return self.metrics[self.metric].sign * judged

    @property
    def provisional(self) -> bool:
        return self.open > 0


def verdict_on(
    unjudged: Unjudged, *, alpha: float = 0.05, tell: Callable[[str], None] = lambda _: None
) -> StudyVerdict:
    """Judge what was read.

    Configurations that diverged, were pruned or failed cannot be compared and count as excluded. Ties are broken as in
    `search.results.ranking.read_best`: by the study's value, then in the order of the grid.
    """
    study = unjudged.study
    step = f"judging the {len(unjudged.rows):,} configurations of {study.name}"
    finished = [row for row, _ in unjudged.finished]
    pruner = study.definition.pruner
    return StudyVerdict(
        study=study.name,
        metric=study.definition.metric,
        metrics=study.traits.of_folds,
        overlap=study.traits.overlap,
        verdict=_judge(unjudged, alpha, lambda share: tell(f"{step}: {share:.0%}")),
        configurations={row.key: unjudged.configurations[row.key] for row in finished},
        seconds={row.key: row.seconds for row in finished},
        winners=_winners(unjudged),
        open=unjudged.ended.count(False),
        pruner=pruner,
        uncovered=0 if pruner == "race" else sum(row.state == State.PRUNED for row in unjudged.rows),
    )


def _judge(unjudged: Unjudged, alpha: float, progress: Callable[[float], None]) -> Verdict | None:
    if unjudged.values is None:
        return None
    import numpy as np  # noqa: PLC0415

    from pairsearch.search.verdict.judging import judge  # noqa: PLC0415

    values = unjudged.values[np.array(unjudged.ended)]
    if not np.isfinite(values).all(axis=1).any():
        return None
    rows = [row for row, over in zip(unjudged.rows, unjudged.ended, strict=True) if over]
    study = unjudged.study
    verdict = judge(
        values,
        [row.key for row in rows],
        np.array([row.seconds or 0.0 for row in rows]),
        overlap=study.traits.overlap,
        alpha=alpha,
        seed=study.definition.seed,
        progress=progress,
    )
    metric = study.metric
    known = metric.sign * values[np.isfinite(values)]
    if verdict.interval is not None and metric.percent and ((known >= 0) & (known <= 1)).all():
        # A share, such as an accuracy: its mean is one too, which a t interval does not know.
        low, high = np.clip(np.array(verdict.interval), min(0.0, metric.sign), max(0.0, metric.sign)).tolist()
        verdict = replace(verdict, interval=(low, high))
    return verdict


def _winners(unjudged: Unjudged) -> dict[str, Winner]:
    winners = {}
    for name, metric in unjudged.study.traits.of_folds.items():
        # Rounded as in `search.verdict.judging.judge`: the last bits of a mean break no tie.
        known = [
            (round(metric.sign * value, 12), row, of_row)
            for row, of_row in unjudged.finished
            if (value := of_row.get(name)) is not None
        ]
        if known:
            _, row, of_row = min(known, key=lambda entry: entry[0])
            winners[name] = Winner(unjudged.configurations[row.key], of_row)
    return winners
