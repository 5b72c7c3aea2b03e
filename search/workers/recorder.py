"""Trains the runs of a configuration by a study's problem, and records the curves that they report."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pairsearch.search.ledger.checkpoints import Kept
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.workers import signals
from pairsearch.search.workers.failure import TimeLimitError
from pairsearch.search.workers.given import not_an_epoch, number_of, of_each
from pairsearch.studies.checkpoint import Checkpoint, State
from pairsearch.studies.configuration import Params
from pairsearch.studies.errors import ReportError, exits_are_errors
from pairsearch.studies.loading import Loaded
from pairsearch.studies.problem import Figures, Run, Stopped, Weights

log = logging.getLogger(__name__)


class Recorder:
    """The `report` argument of a problem (`studies.problem.Report`), which records figures.

    Args:
        runs: the runs that train together.
        known: names of the figures that may be reported.
        required: name of the figure that each report must have, or None.
        on_epoch: called after each report, and while the problem asks between two of them (`polled`); it stops the
            training by returning False.
        limit: seconds that the training may take; it stops with the first report after that, but for the last epoch's.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        known: Sequence[str],
        required: str | None,
        on_epoch: Callable[[Recorder], bool],
        limit: float | None = None,
    ) -> None:
        self.runs = runs
        self.epoch = 0
        self.diverged: list[int | None] = [None] * len(runs)
        self.stopped = False
        self.polled = False
        self.late = False
        self.checkpoint: RunCheckpoint | None = None
        self.ending = False
        # Whether an end that the worker asks for may wait for the next checkpoint.
        self.may_go_on = False
        self._seconds_before = 0.0
        self._began = time.perf_counter()
        self._known = known
        self._required = required
        self._on_epoch = on_epoch
        self._limit = limit
        self._curves: list[dict[str, list[float]]] = [{} for _ in runs]

    def __call__(self, epoch: int, figures: Sequence[Figures], diverged: Sequence[int] = ()) -> None:
        """Record the figures of an epoch."""
        signals.put_back()
        # The problem caught `Stopped` and went on.
        if self.stopped:
            raise Stopped
        self._check(epoch, figures)
        for place, given in enumerate(figures):
            if self.diverged[place] is None:
                numbers = {name: number_of(name, value) for name, value in given.items()}
                self._append(self._curves[place], epoch, numbers)
                if place in diverged or not all(map(math.isfinite, numbers.values())):
                    self.diverged[place] = epoch
        self.epoch = epoch
        # The problem has saved nothing since it was asked to.
        if self.ending or not (self._on_epoch(self) or self._saves_first()):
            self.end()
        self._end_if_late()

    def poll(self) -> None:
        """End the training between two reports, where it has to end."""
        signals.put_back()
        if self.stopped:
            raise Stopped
        self.polled = True
        try:
            if not (self.ending or self._on_epoch(self) or self._saves_first()):
                self.end()
        finally:
            self.polled = False
        self._end_if_late()

    def _end_if_late(self) -> None:
        if self.epoch < self.runs[0].epochs and self.left is not None and self.left < 0.0:
            self.late = True
            self.end()

    @property
    def seconds(self) -> float:
        """How long the runs have been trained, together and with what was before a checkpoint."""
        return self._seconds_before + time.perf_counter() - self._began

    @property
    def left(self) -> float | None:
        """How many seconds of the time limit are left; None if there is none."""
        return None if self._limit is None else self._limit - self.seconds

    def begin(self) -> None:
        """Count the time from now: the process that trains was not ready before."""
        self._began = time.perf_counter()

    def _saves_first(self) -> bool:
        """Whether the training goes on to its next checkpoint, and ends there."""
        self.ending = self.may_go_on and self.checkpoint is not None and self.checkpoint.used
        return self.ending

    def end(self) -> None:
        """End the training."""
        self.stopped = True
        raise Stopped

    def restore(self, kept: Kept) -> None:
        """Go on from a checkpoint; raises ReportError where something was reported already."""
        if self.epoch:
            raise ReportError(
                f"checkpoint: it is loaded after epoch {self.epoch} was reported: load it before"
            )
        self.epoch, self._seconds_before = kept.epoch, kept.seconds
        self._curves = [{name: list(curve) for name, curve in kept.curves.items()}]

    def kept(self, epoch: int, content: bytes) -> Kept:
        """Return a checkpoint of what was reported so far.

        Raises:
            ReportError: the epoch is not the one that was reported last.
        """
        if epoch != self.epoch:
            raise ReportError(
                f"checkpoint: expected the epoch that was reported last, {self.epoch}, got {epoch!r}"
            )
        return Kept(epoch, self._curves[0], self.seconds, content)

    def latest(self, name: str) -> list[float]:
        """Return a figure of each run after its last epoch, NaN if the run did not report it."""
        return [curves[name][-1] if name in curves else math.nan for curves in self._curves]

    def names(self) -> list[str]:
        """Return the names of the figures that were reported."""
        return list(dict.fromkeys(name for curves in self._curves for name in curves))

    def results(self) -> list[RunResult]:
        """Return the result of each run; raises ReportError where one reported nothing."""
        for run, curves in zip(self.runs, self._curves, strict=True):
            if not curves:
                raise ReportError(
                    f"{run.kind} {run.index} ended without a report: expected at least one, report(1, ...)"
                )
        rows = zip(self.runs, self._curves, self.diverged, strict=True)
        return [RunResult(run.index, curves, diverged) for run, curves, diverged in rows]

    def _check(self, epoch: int, figures: Sequence[Figures]) -> None:
        if type(epoch) is not int or epoch <= self.epoch:
            raise not_an_epoch(epoch, self.epoch)
        if epoch > self.runs[0].epochs:
            raise ReportError(
                f"report: expected an epoch of at most {self.runs[0].epochs}, got {epoch}: the definition's `epochs` "
                "says how many there are, and run.epochs how many in a check"
            )
        if len(figures) != len(self.runs):
            raise ReportError(f"report: expected the figures of {len(self.runs)} runs, got {len(figures)}")
        for given in figures:
            for name in given:
                if name not in self._known:
                    raise ReportError(
                        f"report: figure {name!r} is not one of the problem's metrics: expected "
                        f"{', '.join(self._known)}"
                    )
            if self._required is not None and self._required not in given:
                raise ReportError(
                    f"report: no {self._required!r} among {', '.join(given) or 'nothing'}: it is the study's metric"
                )

    @staticmethod
    def _append(curves: dict[str, list[float]], epoch: int, numbers: Mapping[str, float]) -> None:
        for name in dict.fromkeys([*curves, *numbers]):
            curve = curves.setdefault(name, [])
            curve += [math.nan] * (epoch - 1 - len(curve))
            curve.append(numbers.get(name, math.nan))


class Keeper(Protocol):
    """Keeps the checkpoints of the runs of one job."""

    def find(self, run: int) -> Kept | None:
        """Return the checkpoint of a run, None if it has none."""

    def keep(self, run: int, kept: Kept) -> bool:
        """Store a checkpoint, or raise ReportError as it is too large; return False if the job was lost."""


class RunCheckpoint(Checkpoint):
    """The checkpoint of one run under the service.

    Attributes:
        used: whether the problem loads or saves it.
    """

    def __init__(self, recorder: Recorder, keeper: Keeper) -> None:
        self.used = False
        self._recorder = recorder
        self._keeper = keeper
        self._run = recorder.runs[0].index

    @property
    def wanted(self) -> bool:
        """Whether the training ends with the next checkpoint."""
        return self._recorder.ending

    def poll(self) -> None:
        """End the training between two reports, where it has to end."""
        self._recorder.poll()

    def load(self) -> tuple[int, Any] | None:
        """Return the epoch and the state that were saved last, None if nothing was."""
        found = self.find()
        return None if found is None else (found[0].epoch, found[1])

    def find(self) -> tuple[Kept, Any] | None:
        """Return the checkpoint that was saved last with its state, None if there is none; reports go on from it."""
        from pairsearch.studies.checkpoint_file import unpack  # noqa: PLC0415 - few problems have checkpoints

        self.used = True
        kept = self._keeper.find(self._run)
        if kept is None:
            return None
        try:
            state = unpack(kept.content)
        except ReportError as error:
            log.warning("%s: the run begins again", error)
            return None
        self._recorder.restore(kept)
        return kept, state

    def save(self, epoch: int, state: State) -> None:
        """Store a state with all that was reported up to an epoch."""
        from pairsearch.studies.checkpoint_file import pack  # noqa: PLC0415

        self.store(epoch, pack(state))

    def store(self, epoch: int, content: bytes) -> None:
        """Do what `save` does with a state that is packed already."""
        self.used = True
        kept = self._recorder.kept(epoch, content)
        # Nobody goes on from a state that is worth nothing: where one is kept, it is of before the divergence.
        held = self._recorder.diverged[0] is not None or self._keeper.keep(self._run, kept)
        if not held or self._recorder.ending:
            self._recorder.end()


@dataclass(frozen=True, slots=True)
class Trained:
    """The result of training runs. If training was stopped, runs that had not started are missing.

    Args:
        weights: of each run, None where there are none to keep.
        seconds: wall-clock time.
        stopped: whether a callback stopped the training.
    """

    runs: tuple[RunResult, ...]
    weights: tuple[Weights | None, ...]
    seconds: float
    stopped: bool


def train(
    loaded: Loaded,
    params: Params,
    runs: Sequence[Run],
    on_epoch: Callable[[Recorder], bool],
    on_run: Callable[[RunResult], bool] = lambda _: True,
    keeper: Keeper | None = None,
) -> Trained:
    """Train runs of one kind, together or one after the other, as the problem's `together` says.

    Args:
        on_epoch: called after each report; it stops the training by returning False.
        on_run: called after each run if they train one after the other; it stops the training by returning False.
        keeper: keeps checkpoints of runs that train one after the other; None to keep none.

    Raises:
        TimeLimitError: they take longer than the study's time limit.
        Exception: whatever the problem raises.
    """
    limit, together = loaded.definition.time_limit, loaded.traits.together
    folds = runs[0].kind == "fold"
    known = list(loaded.traits.of_folds if folds else loaded.traits.metrics)
    required = loaded.definition.metric if folds else None
    started = time.perf_counter()
    groups = [runs] if together else [[run] for run in runs]
    results: list[RunResult] = []
    weights: list[Weights | None] = []
    stopped = False
    for group in groups:
        recorder = Recorder(group, known, required, on_epoch, limit)
        if keeper is not None and not together:
            recorder.checkpoint = RunCheckpoint(recorder, keeper)
            recorder.runs = [replace(group[0], checkpoint=recorder.checkpoint)]
        try:
            with exits_are_errors(), signals.in_training():
                given = of_each(loaded.train(params, recorder.runs, recorder), len(group))
        except Stopped:
            given = [None] * len(group)
        if recorder.late:
            first = group[0]
            done, of, unit = recorder.epoch, first.epochs, "epochs"
            if folds and not together:
                done, of, unit = first.index, first.count, "folds"
            raise TimeLimitError(f"longer than the time limit of {limit:g} s, after {done} of {of} {unit}")
        if recorder.stopped and not recorder.epoch:
            # It was ended before it reported anything.
            stopped = True
            break
        each, facts = recorder.seconds / len(group), _facts(loaded, params, needed=not folds)
        results += [replace(result, seconds=each, facts=facts) for result in recorder.results()]
        weights += given
        stopped = recorder.stopped or (not together and not on_run(results[-1]))
        if stopped:
            break
    return Trained(tuple(results), tuple(weights), time.perf_counter() - started, stopped)


def _facts(loaded: Loaded, params: Params, *, needed: bool) -> Mapping[str, str] | None:
    """Return the problem's facts about a configuration; None where they are not needed and it cannot tell them."""
    try:
        return dict(loaded.describe(params))
    except Exception:
        if needed:
            raise
        return None
