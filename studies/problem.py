"""The contract of a problem: what the figures of a configuration are. The service knows nothing else about it.

A user's problem is a class with one method, or a function, in a file beside the study's definition:

    from pairsearch import Metric, OneByOne

    class Wine(OneByOne):
        metrics = {"loss": Metric("log loss"), "error": Metric("error", percent=True)}

        def __init__(self, held_out=0.2):            # by the names in [settings]
            ...

        def fit(self, params, run, report):          # params by the names in [grid]
            for epoch in range(1, run.epochs + 1):
                ...
                report(epoch, loss=..., error=...)

A *run* is one model to train: a fold of the search, or a round of the final evaluation on data that no fold saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pairsearch.studies.configuration import Params

Figures = Mapping[str, float]
"""Figures by name."""
Weights = Mapping[str, Any]
"""Parameters of a trained model by name: arrays of NumPy or tensors of PyTorch."""
Kind = Literal["fold", "round"]


@dataclass(frozen=True, slots=True)
class Metric:
    """How a figure reads."""

    label: str = ""
    """For people; empty for its name."""
    percent: bool = False
    """Whether it is a fraction that is shown in per cent."""
    maximise: bool = False
    """Whether more is better."""
    unit: str = ""
    """Of the stored figure, for exports."""
    training: bool = False
    """Whether it is of the examples that were trained on: nothing is chosen by it."""

    @property
    def sign(self) -> float:
        """What a value is multiplied by where lower has to be better: -1 where more is better, else 1."""
        return -1.0 if self.maximise else 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """One model to train.

    Args:
        kind: `fold` in the search; `round` in the final evaluation, which trains on all that may be used for
            training and reports on data that no fold saw.
        index: from 0.
        count: how many folds, or rounds, there are.
        epochs: how many to train for, where the problem trains in epochs.
        seed: the study's.
        device: where to compute, as PyTorch names it: `cpu`, `cuda:0`.
        threads: how many the training may use.
    """

    kind: Kind
    index: int
    count: int
    epochs: int
    seed: int = 0
    device: str = "cpu"
    threads: int = 1

    def stream(self, name: str) -> int:
        """A seed in 0 to 2**32 - 1 for one use: its own for each name, kind and index, shared by all configurations.

        So all meet the same folds, weights and orders (common random numbers), whoever trains them.
        """
        text = f"{self.seed} {self.kind} {self.index} {name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


class Stopped(BaseException):
    """Raised by `report` when no more is wanted: let it pass. It is no `Exception`, so that `except` lets it."""


class Report(Protocol):
    """Takes what runs gave after an epoch; curves, pruning, time limits and signals all come through it.

    Raises:
        Stopped: no more is wanted.
        ReportError: the figures are not those of the problem.
    """

    def __call__(self, epoch: int, figures: Sequence[Figures], diverged: Sequence[int] = ()) -> None:
        """Report an epoch.

        Args:
            epoch: from 1, ever higher.
            figures: of each run in its order. A run whose figure is not finite has diverged.
            diverged: places of runs that have diverged although all their figures are finite.
        """


RunReport = Callable[..., None]
"""`report(epoch, loss=0.3, error=0.1)`: the figures of one run after an epoch, by name; raises as `Report`."""


class Problem:
    """What a study searches. Constructed with its settings as keyword arguments.

    The constructor, `check` and `train` may raise ValueError with one line that says what was given, what was
    expected and what to do.
    """

    version: int = 1
    """Raised by one whenever figures would change: results of two versions never mix in a study."""
    metrics: Mapping[str, Metric] = {}
    """Every figure that may be reported, by name; empty for those that the definition names."""
    validated: Sequence[str] = ()
    """Figures that folds report; empty for all."""
    evaluated: Sequence[str] = ()
    """Figures of rounds that tables show, the one that counts last; empty for all that are reported."""
    together: ClassVar[bool] = True
    """Whether `train` takes all runs at once; otherwise it gets them one by one."""
    gives_weights: ClassVar[bool] = True
    """Whether `train` may return weights; otherwise nobody looks for their files."""
    remember: Mapping[str, str] = {}
    """Settings of this machine that others should use too, as which data were found: stored with the study."""
    notes: Sequence[str] = ()
    """Lines for people about what was chosen while it was made."""

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the data; empty where they are not looked at."""
        return ""

    def overlap(self, folds: int) -> float:
        """Validation over training examples of a fold, where folds share one sample; 0 where each draws its own.

        By default what k-fold cross-validation has, 1 / (folds - 1): the careful choice. The verdict widens its
        intervals by it (Nadeau & Bengio, Machine Learning 52, 2003).
        """
        return 1.0 / (folds - 1) if folds > 1 else 0.0

    def check(self, params: Params) -> None:
        """Refuse a configuration that cannot be trained, by a ValueError that names the parameter."""

    def prepare(self, runs: Sequence[Run]) -> None:
        """Refuse runs for which the data do not suffice: asked for all folds and a round before a study is created."""

    def describe(self, params: Params) -> Mapping[str, str]:
        """Facts about a configuration for tables, such as the number of its parameters."""
        return {}

    def backend(self, device: str) -> str:
        """What computes on a device, for provenance."""
        return "python"

    def prove(self, device: str) -> None:
        """Raise if this process cannot train at all: called before a worker takes anything."""

    def train(self, params: Params, runs: Sequence[Run], report: Report) -> Sequence[Weights | None]:
        """Train a configuration.

        Returns:
            The weights of each run, None where they are not to be kept.
        """
        raise NotImplementedError

    def card(self, params: Params, run: Run) -> Mapping[str, Any]:
        """What the file of a run's weights says beside the service's own facts: JSON values by name."""
        return {}


class OneByOne(Problem):
    """A problem whose runs are trained in turn; a subclass writes `fit` alone."""

    together = False

    def fit(self, params: Params, run: Run, report: RunReport) -> Weights | None:
        """Train one model; its weights, or None where they are not to be kept."""
        raise NotImplementedError

    def train(self, params: Params, runs: Sequence[Run], report: Report) -> Sequence[Weights | None]:
        """Train one run by `fit`."""
        (run,) = runs

        def report_one(epoch: int, **figures: float) -> None:
            report(epoch, [figures])

        # As it is called in messages about wrong arguments.
        report_one.__qualname__ = "report"
        return [self.fit(params, run, report_one)]


@dataclass(frozen=True, slots=True)
class Traits:
    """What a problem said of itself when its study was created; stored, so that looking needs no problem.

    Args:
        version: `Problem.version`.
        fingerprint: of the data.
        files: SHA-256 (hex) of each of the user's files that it is made of, by name.
        metrics: every figure that may be reported, at least one.
        validated: figures that folds report.
        evaluated: figures of rounds that tables show.
        overlap: for the number of folds of the study.
        together: whether folds train at once.
        remember: settings that other processes use too.

    Raises:
        TypeError, ValueError: on construction, naming what is of another form.
    """

    version: int
    fingerprint: str
    metrics: Mapping[str, Metric]
    files: Mapping[str, str] = field(default_factory=dict)
    validated: tuple[str, ...] = ()
    evaluated: tuple[str, ...] = ()
    overlap: float = 0.0
    together: bool = True
    remember: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _expect("version", int, self.version)
        _expect("fingerprint", str, self.fingerprint)
        _expect("overlap", float, self.overlap)
        _expect("together", bool, self.together)
        _expect("files", str, *self.files.values())
        _expect("remember", str, *self.remember.values())
        for name, metric in self.metrics.items():
            _expect(f"metrics: {name}", Metric, metric)
            _expect(f"metrics: {name}", str, name, metric.label, metric.unit)
            _expect(f"metrics: {name}", bool, metric.percent, metric.maximise, metric.training)
        if others := {*self.validated, *self.evaluated} - self.metrics.keys():
            raise ValueError(f"{', '.join(sorted(others))}: not among its metrics")

    @property
    def data(self) -> str:
        """The data in a few words: what is remembered of them, and the head of their fingerprint."""
        return " ".join([*self.remember.values(), self.fingerprint[:12]]).strip()

    @property
    def of_folds(self) -> dict[str, Metric]:
        """The figures that folds report."""
        return {name: self.metrics[name] for name in self.validated or self.metrics}

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Traits:
        """From plain data.

        Raises:
            TypeError, ValueError: they are of another form.
        """
        metrics = {str(name): Metric(**values) for name, values in raw["metrics"].items()}
        several = {name: tuple(map(str, raw[name])) for name in ("validated", "evaluated")}
        return cls(**(dict(raw) | several | {"metrics": metrics}))


def _expect(name: str, kind: type, *values: object) -> None:
    for value in values:
        if type(value) is not kind:
            raise TypeError(f"{name}: expected {kind.__name__}, got {value!r}")
