"""The cross-validation objective: a configuration in, an `Outcome` over all folds out."""

from __future__ import annotations

import copy
from collections.abc import Callable

from pairsearch.data.sources import Source
from pairsearch.models import fused
from pairsearch.models.training import EpochReport, TrainingJob
from pairsearch.search.database.states import State
from pairsearch.search.ledger.outcome import Outcome, finite
from pairsearch.search.provenance import provenance
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition
from pairsearch.studies.jobs import fold_job, search_folds

# Called with the epoch and the metric's mean over folds; returns the state to end in, or None to go on.
# PENDING ends without a result: the configuration is to be handed back.
Progress = Callable[[int, float], State | None]


class CrossValidation:
    """The objective of one study on one source; makes the folds once and trains any configuration on them.

    Args:
        device: a PyTorch device; `cpu` takes the compiled kernels where there are.
        threads: folds trained at a time by the compiled kernels; the figures do not depend on it.
    """

    def __init__(
        self, definition: Definition, source: Source, device: str = "cpu", *, threads: int = 1
    ) -> None:
        self.definition = definition
        self.device = device
        self.threads = threads
        self.folds = search_folds(definition, source)

    def on_first(self, folds: int | None) -> CrossValidation:
        """This objective on the first so many folds; on all for None."""
        other = copy.copy(self)
        other.folds = self.folds[:folds]
        return other

    def job(self, configuration: Configuration) -> TrainingJob:
        """The training job of a configuration: one model for each fold."""
        return fold_job(self.definition, configuration, self.folds)

    def provenance(self) -> dict[str, str]:
        """Which program and machine computes the results of this objective."""
        probe = self.job(self.definition.grid.configurations()[0])
        return provenance(fused.choose_backend(probe, self.device), self.device)

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        """Train a configuration on every fold.

        Returns:
            The outcome; None where `progress` asked to hand the configuration back.
        """
        job = self.job(configuration)
        ended: State | None = None

        def on_epoch(report: EpochReport) -> bool:
            nonlocal ended
            if any(epoch is not None for epoch in report.diverged):
                ended = State.DIVERGED
            elif progress is not None:
                figures = report.loss if self.definition.metric == "val_loss" else report.error
                ended = progress(report.epoch, float(figures["validation"].mean()))
            return ended is None

        history = fused.train(job, on_epoch=on_epoch, device=self.device, threads=self.threads)
        if ended == State.PENDING:
            return None
        ran = history.epochs_run
        curves = history.evaluation["validation"]
        value, reason = None, None
        if ended is None:
            figures = curves.loss if self.definition.metric == "val_loss" else curves.error
            value = finite(figures[:, -1].mean())
        elif ended == State.DIVERGED:
            fold, epoch = next(
                (fold, epoch) for fold, epoch in enumerate(history.diverged) if epoch is not None
            )
            reason = f"fold {fold} diverged in epoch {epoch}: a loss became NaN or infinite"
        else:
            reason = f"pruned after epoch {ran} by pruner {self.definition.pruner}"
        return Outcome(
            state=ended or State.FINISHED,
            value=value,
            train_loss=history.train_loss[:, :ran],
            val_loss=curves.loss[:, :ran],
            val_error=curves.error[:, :ran],
            diverged=history.diverged,
            seconds=history.seconds,
            reason=reason,
            provenance=self.provenance(),
        )
