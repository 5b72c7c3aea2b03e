"""Reads the figures of a study's folds from the database and judges them (`search.verdict.judging`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pairsearch.search.database.states import OPEN, State
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.fold_figures import Point, Unjudged
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Metric

if TYPE_CHECKING:  # NumPy is imported only if there is something to judge
    from pairsearch.search.verdict.judging import Verdict


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
    winners: Mapping[str, Point]
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
    study, points, pruner = unjudged.study, unjudged.points, unjudged.study.definition.pruner
    tell(f"judging the {len(points):,} configurations of {study.name}")
    finished = [one for one in points if one.state == State.FINISHED]
    return StudyVerdict(
        study=study.name,
        metric=study.definition.metric,
        metrics=study.traits.of_folds,
        overlap=study.traits.overlap,
        verdict=_judge(unjudged, alpha),
        configurations={one.key: one.configuration for one in finished},
        seconds={one.key: one.seconds or 0.0 for one in finished},
        winners=_winners(study, finished),
        open=sum(one.state in OPEN for one in points),
        pruner=pruner,
        uncovered=0 if pruner == "race" else sum(one.state == State.PRUNED for one in points),
    )


def _judge(unjudged: Unjudged, alpha: float) -> Verdict | None:
    if not unjudged.values:
        return None
    import numpy as np  # noqa: PLC0415

    from pairsearch.search.verdict.judging import judge  # noqa: PLC0415

    study, ended = unjudged.study, [one for one in unjudged.points if one.state not in OPEN]
    stored = unjudged.values[study.definition.metric][[one.state not in OPEN for one in unjudged.points]]
    values = study.metric.sign * stored
    if not np.isfinite(values).all(axis=1).any():
        return None
    verdict = judge(
        values,
        [one.key for one in ended],
        np.array([one.seconds or 0.0 for one in ended]),
        overlap=study.traits.overlap,
        alpha=alpha,
        seed=study.definition.seed,
    )
    metric = study.metric
    known = metric.sign * values[np.isfinite(values)]
    if verdict.interval is not None and metric.percent and ((known >= 0) & (known <= 1)).all():
        # A share, such as an accuracy: its mean is one too, which a t interval does not know.
        low, high = np.clip(np.array(verdict.interval), min(0.0, metric.sign), max(0.0, metric.sign)).tolist()
        verdict = replace(verdict, interval=(low, high))
    return verdict


def _winners(study: StoredStudy, finished: Sequence[Point]) -> dict[str, Point]:
    winners = {}
    for name, metric in study.traits.of_folds.items():
        if known := [(value, one) for one in finished if (value := one.figures.get(name)) is not None]:
            # Rounded as in `search.verdict.judging.judge`: the last bits of a mean break no tie.
            winners[name] = min(known, key=lambda entry: round(metric.sign * entry[0], 12))[1]
    return winners
