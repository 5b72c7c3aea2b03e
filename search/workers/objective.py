"""Trains a configuration on all folds and returns its `Outcome`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pairsearch.search.common.provenance import provenance
from pairsearch.search.database.states import State
from pairsearch.search.ledger.outcome import Outcome, RunResult, conclude, mean_of
from pairsearch.search.workers.recorder import Keeper, Recorder, train
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.loading import Loaded


@dataclass(frozen=True, slots=True)
class Step:
    """The progress of a configuration.

    Args:
        number: the step in Optuna's terms (`search.ledger.studies.StoredStudy.report_steps`); None between two steps.
        value: the metric after the step; None if there is none or it is not finite.
        ended: the fold that has just ended, if they train one after the other.
        polled: whether nothing was reported: the problem asks between two reports whether the training has to end.
    """

    number: int | None
    value: float | None
    ended: RunResult | None = None
    polled: bool = False


Progress = Callable[[Step], State | None]
"""Returns the state in which to end the training, or None to go on. PENDING ends it without a result."""


class CrossValidation:
    """The objective of one study: a function that trains a configuration on all folds.

    Args:
        threads: how many threads the problem may use; the figures do not depend on it.
        epochs: a smaller number than the definition's, for a rehearsal; None for the definition's.
    """

    def __init__(
        self, loaded: Loaded, device: str = "cpu", *, threads: int = 1, epochs: int | None = None
    ) -> None:
        self.loaded = loaded
        self.device = device
        self.runs = loaded.definition.runs("fold", None, epochs, device, threads)
        self.keeper: Keeper | None = None
        self._provenance: dict[str, str] | None = None

    def on(self, folds: Iterable[int], keeper: Keeper | None = None) -> CrossValidation:
        """Return a copy of this objective that trains on some folds only, and keeps their checkpoints."""
        other, wanted = copy.copy(self), set(folds)
        other.keeper = keeper
        other.runs = [run for run in self.runs if run.index in wanted]
        return other

    def provenance(self) -> dict[str, str]:
        """Return which program and machine computes the results of this objective."""
        if self._provenance is None:
            self._provenance = origin(self.loaded, self.device)
        return self._provenance

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        """Train a configuration on every fold; return None if `progress` ended the training without a result.

        Raises:
            TimeLimitError: it takes longer than the study's time limit.
            Exception: whatever the problem raises.
        """
        metric = self.loaded.definition.metric
        of_epochs = self.loaded.definition.steps_are_epochs(self.loaded.traits.together)
        ended: State | None = None

        def go_on(step: Step) -> bool:
            nonlocal ended
            ended = progress(step) if progress is not None else None
            return ended is None

        def on_epoch(recorder: Recorder) -> bool:
            nonlocal ended
            if any(diverged is not None for diverged in recorder.diverged):
                ended = State.DIVERGED
                return False
            reported = of_epochs and not recorder.polled
            number, value = (recorder.epoch, mean_of(recorder.latest(metric))) if reported else (None, None)
            going = go_on(Step(number, value, polled=recorder.polled))
            recorder.may_go_on = ended == State.PENDING
            return going

        def on_run(fold: RunResult) -> bool:
            return go_on(Step(None if of_epochs else fold.index + 1, fold.last(metric), fold))

        trained = train(self.loaded, configuration.params, self.runs, on_epoch, on_run, self.keeper)
        # Training that ends by nobody's word here ends because a checkpoint found the claim lost.
        if ended == State.PENDING or (trained.stopped and ended is None):
            return None
        return conclude(
            self.loaded.definition,
            self.loaded.traits,
            trained.runs,
            pruned=ended == State.PRUNED,
            seconds=trained.seconds,
            provenance=self.provenance(),
        )


def origin(loaded: Loaded, device: str) -> dict[str, str]:
    """Return which program and machine computes the results of a study here."""
    facts = provenance(loaded.problem.backend(device), device)
    if loaded.traits.files:
        facts["files"] = ", ".join(f"{name} {digest}" for name, digest in loaded.traits.files.items())
    return facts
