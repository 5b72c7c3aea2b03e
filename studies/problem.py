"""The contract of a problem, which is all that the service knows of what it searches.

A problem of your own is a class in a file beside the study's definition: a subclass of `OneByOne`, which trains one
model at a time, or of `Problem`, which gets all of them at once. A plain function `fit(params, run, report)` is a
problem too. A *run* is one model to train: a fold of the search, or a round of the final evaluation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import ConfigDict, Field, Strict, TypeAdapter
from pydantic.dataclasses import dataclass as validated_dataclass

from pairsearch.studies.checkpoint import Checkpoint
from pairsearch.studies.configuration import Params
from pairsearch.studies.grid import Identifier

Figures = Mapping[str, float]
"""Figures of one run by name."""
Weights = Mapping[str, Any]
"""The parameters of a trained model by name, as NumPy arrays or PyTorch tensors."""
Kind = Literal["fold", "round"]
Names = Annotated[tuple[str, ...], Strict(False)]
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
"""A SHA-256 in hexadecimal, or an empty text."""


@dataclass(frozen=True, slots=True)
class Metric:
    """How a figure that a problem reports is read and shown, such as `Metric("error", percent=True)`."""

    # In a definition, under `[metrics]`, other keys are refused.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", revalidate_instances="always")

    label: str = ""
    """What tables and axes call the figure. Without it they show the figure's own name."""
    percent: bool = False
    """Whether the figure is a fraction of 1 that tables show in per cent. It is stored as the fraction."""
    maximise: bool = False
    """Whether more is better, as with an accuracy. A loss or an error keeps the default, false."""
    unit: str = ""
    """Unit of the stored figure, such as `nats`, for the columns of exports. Empty where it has none."""
    training: bool = False
    """Whether the figure is measured on the examples that were trained on, so that nothing may be chosen by it."""

    @property
    def sign(self) -> float:
        """-1 where more is better, else 1. A figure multiplied by it is better when it is lower."""
        return -1.0 if self.maximise else 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """One model to train: a fold of the search, or a round of the final evaluation.

    Args:
        kind: `fold` in the search; `round` in the final evaluation, which trains on all data that the search could
            use and reports on data that no fold saw.
        index: number of the fold or round, from 0.
        count: how many folds, or rounds, there are.
        epochs: how many epochs to train for, where the problem trains in epochs.
        seed: the study's seed; use `stream` instead.
        device: where to compute, as PyTorch names it: `cpu`, `cuda:0`.
        threads: how many threads the training may use.
        checkpoint: keeps what the run needs to go on in another process, where models train one at a time.
    """

    kind: Kind
    index: int
    count: int
    epochs: int
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    checkpoint: Checkpoint = field(default_factory=Checkpoint, repr=False, compare=False)

    def stream(self, name: str) -> int:
        """Return a seed for one use, such as `run.stream("weights")`, from 0 to `2**32 - 1`.

        It differs for each name, kind and index, and is the same for every configuration and on every worker: all
        configurations meet the same folds, weights and orders (common random numbers), so their figures can be
        compared fold by fold.

        The global generators of Python, NumPy and PyTorch (if the problem's file imports it) are seeded by such a
        stream before each training, for code that draws from them. What they give depends on all that draws from them
        before, so that generators of your own are better. Use no other randomness.
        """
        text = f"{self.seed} {self.kind} {self.index} {name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")

    def poll(self) -> None:
        """Ask between two reports whether the training has to end, where epochs are long and models train one by one.

        Where the run saves checkpoints, it makes `checkpoint.wanted` true instead of raising `Stopped`, if a last one
        is worth its time.

        Raises:
            Stopped: the training has to end; let it pass.
        """
        self.checkpoint.poll()


class Stopped(BaseException):
    """Raised by `report` to end the training, because of a pruner, a time limit or a signal. Do not catch it.

    It is not an `Exception`, so `except Exception` lets it pass.
    """


class Impossible(ValueError):  # noqa: N818 - what it says of a point
    """Raised by a problem that finds while it trains that a point cannot be trained, wherever that is tried.

    The configuration is *failed* at once, with the message as its reason: nobody tries it again, and no worker suspects
    itself. Raise it for what depends on the parameters alone; what a machine lacks is any other exception.

    Example::

        def fit(params, run, report):
            if params["width"] % params["heads"]:
                raise pairsearch.Impossible("the heads do not divide the width")
    """


class Report(Protocol):
    """The function that `Problem.train` calls after each epoch of its runs.

    It stores the curves, and ends the training where a pruner, a time limit or a signal asks for it.
    """

    def __call__(self, epoch: int, figures: Sequence[Figures], diverged: Sequence[int] = ()) -> None:
        """Report the figures of all runs after an epoch.

        Args:
            epoch: number of the epoch, from 1 and higher each time.
            figures: the figures of each run, in the order of the runs. A run with a figure that is NaN or infinite has
                diverged.
            diverged: positions of the runs that have diverged although all their figures are finite.

        Raises:
            Stopped: the training has to end; let it pass.
            ReportError: the epoch, the number of runs or a figure is not what the problem declares.
        """


RunReport = Callable[..., None]
"""The function that `OneByOne.fit` calls after each epoch with figures by name: `report(epoch, loss=0.3, error=0.1)`.
It raises what `Report` raises."""


class Problem:
    """What a study searches: it trains configurations and reports their figures.

    It is constructed with the definition's `[settings]`, and those of `--set`, as keyword arguments. Only `train` has
    to be written. The constructor, `check`, `prepare` and `train` may raise a `ValueError`; its message is one line
    that says what was given, what was expected and what to do.

    `train` raises `Impossible` where it finds that the parameters cannot be trained at all.

    Parameters and settings may be changed in place: each training gets them as they were. What else a training leaves
    on the instance stays, so figures must not depend on it. A problem may start processes; what it prints goes to
    standard error.

    `OneByOne` is the simpler base class, for a problem that trains one model at a time.
    """

    version: int = 1
    """Version of the problem's figures, to be raised by one whenever they would change. A study never mixes two
    versions, and workers with another one are refused."""
    metrics: Mapping[str, Metric] = {}
    """Every figure that may be reported, by name. Where it is empty, the definition declares them by its `metric` and
    under `[metrics]`."""
    validated: Sequence[str] = ()
    """Names of the figures that folds report; empty for all."""
    evaluated: Sequence[str] = ()
    """Names of the figures of rounds that tables show, the most important one last; empty for all that are reported."""
    together: ClassVar[bool] = True
    """Whether `train` gets all folds, or rounds, in one call. Otherwise it is called for each of them in turn."""
    gives_weights: ClassVar[bool] = True
    """Whether `train` may return weights. If not, no files of models are written or missed."""
    isolated: ClassVar[bool | None] = None
    """Whether each call of `train` has a process of its own, unless the definition's `isolate` says otherwise; None for
    where there is a time limit."""
    ends_by_itself: bool = False
    """Whether it trains for as long as code that is not told `run.epochs` does. `pairsearch check` trains it once to
    the end, to see that the definition has as many epochs."""
    worker_bytes: int = 0
    """Bytes of memory that a worker takes for itself, roughly; 0 where that is not known. `run` warns where memory may
    not hold its workers."""
    remember: Mapping[str, str] = {}
    """Settings of this machine, by name, that every worker of the study has to use too, such as which data were found.
    They are stored with the study."""
    notes: Sequence[str] = ()
    """Lines that are shown to the user, about what the constructor chose."""

    def fingerprint(self) -> str:
        """Return the SHA-256 (hexadecimal) over the data, by which workers with other data are refused.

        The default is empty: the data are not compared.
        """
        return ""

    def overlap(self, folds: int) -> float:
        """Return by how much folds depend on each other: validation examples over training examples of a fold.

        The verdict widens its intervals by it (Nadeau & Bengio, Machine Learning 52, 2003). The default is that of
        k-fold cross-validation, 1 / (folds - 1), which is safe for every problem. Return 0 only where each fold draws a
        sample of its own.
        """
        return 1.0 / (folds - 1) if folds > 1 else 0.0

    def check(self, params: Params) -> None:
        """Raise a `ValueError` that names the parameter if the configuration cannot be trained.

        It is called for every point of the grid before the study is created.
        """

    def prepare(self, runs: Sequence[Run]) -> None:
        """Raise a `ValueError` if the data do not suffice for the runs.

        It is called before the study is created, once with all folds and once with a round.
        """

    def describe(self, params: Params) -> Mapping[str, str]:
        """Return facts about a configuration for tables, by name, such as how many parameters its model has."""
        return {}

    def backend(self, device: str) -> str:
        """Return the name of what computes on a device; it is stored with each result."""
        return "python"

    def prove(self, device: str) -> None:
        """Raise an exception if this process cannot train at all; a worker calls it before it claims anything."""

    def examine(self) -> Mapping[str, Callable[[], str]]:
        """Return checks of this machine by name, for `pairsearch doctor`, which calls `prove` after them.

        Each returns what it found, in a line, or raises an exception where something is wrong.
        """
        return {}

    def train(self, params: Params, runs: Sequence[Run], report: Report) -> Sequence[Weights | None]:
        """Train a configuration on each of the runs, and report their figures after each epoch.

        Args:
            params: values by the names in the definition's grid.
            runs: the models to train: all folds, or several rounds; a single one where `together` is false.
            report: takes the figures of all runs after an epoch.

        Returns:
            The weights of each run, or None for a run whose weights are not to be kept.
        """
        raise NotImplementedError

    def card(self, params: Params, run: Run) -> Mapping[str, Any]:
        """Return what the file of a round's model should say about it, as JSON values by name.

        It is added to what every file says (`ModelCard`).
        """
        return {}

    @classmethod
    def answer(
        cls, model: Path, files: Sequence[Path], invert: bool | None
    ) -> tuple[list[str], dict[str, Any]]:
        """Ask a kept model about files; `pairsearch predict` asks models of shipped problems by it.

        Args:
            model: the file of a round's model.
            files: the files that it is asked about.
            invert: whether images are dark on light; None to decide it for each.

        Returns:
            The answer as lines for people, and as JSON.

        Raises:
            NotImplementedError: models of this problem answer no questions.
            ValueError: the model or a file cannot be used.
        """
        raise NotImplementedError


class OneByOne(Problem):
    """A problem that trains one model at a time: a subclass writes `fit` alone.

    Example::

        from pairsearch import Metric, OneByOne


        class Wine(OneByOne):
            metrics = {"loss": Metric("log loss"), "error": Metric("error", percent=True)}

            def __init__(self, held_out=0.2):  # arguments by the names in [settings]
                self.held_out = held_out

            def fit(self, params, run, report):  # params by the names in [grid]
                model = make_model(params["width"], seed=run.stream("weights"))
                for epoch in range(1, run.epochs + 1):
                    loss, error = train_an_epoch(model)
                    report(epoch, loss=loss, error=error)
                return model.state_dict()
    """

    together = False

    def fit(self, params: Params, run: Run, report: RunReport) -> Weights | None:
        """Train one model and report its figures after each epoch.

        Args:
            params: values by the names in the definition's grid.
            run: which fold or round to train, for how many epochs and on which device; its `stream` gives seeds.
            report: takes figures by name: `report(epoch, loss=0.3)`, with epochs from 1. Every report of a fold has
                the study's metric.

        Returns:
            The model's weights, arrays or tensors by name, or None where they are not to be kept.
        """
        raise NotImplementedError

    def train(self, params: Params, runs: Sequence[Run], report: Report) -> Sequence[Weights | None]:
        """Train the one run that is given, by `fit`."""
        (run,) = runs

        def report_one(epoch: int, **figures: float) -> None:
            report(epoch, [figures])

        # Messages about wrong arguments show this name.
        report_one.__qualname__ = "report"
        return [self.fit(params, run, report_one)]


@validated_dataclass(frozen=True, slots=True, config=ConfigDict(strict=True, extra="forbid"))
class Traits:
    """What a problem declared when its study was created; it is stored, so that results can be read without it.

    Args:
        version: `Problem.version`.
        fingerprint: SHA-256 (hexadecimal) over the data, or empty.
        metrics: every figure that may be reported, at least one.
        files: SHA-256 (hexadecimal) of each of the user's files that the problem consists of, by name.
        validated: names of the figures that folds report; empty for all.
        evaluated: names of the figures of rounds that tables show; empty for all.
        overlap: `Problem.overlap` for the study's number of folds.
        together: whether all folds train in one call.
        remember: settings that every worker of the study has to use.
        worker_bytes: `Problem.worker_bytes`.

    Raises:
        ValidationError: on construction, where a field has the wrong type or value, or `validated` or `evaluated` names
            a figure that is not among the metrics.
    """

    version: int
    fingerprint: Digest
    metrics: Mapping[Identifier, Metric]
    files: Mapping[str, str] = field(default_factory=dict)
    validated: Names = ()
    evaluated: Names = ()
    overlap: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    together: bool = True
    remember: Mapping[str, str] = field(default_factory=dict)
    worker_bytes: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if others := {*self.validated, *self.evaluated} - self.metrics.keys():
            raise ValueError(f"{', '.join(sorted(others))}: not among its metrics")

    @property
    def data(self) -> str:
        """The data in a few words: the remembered settings, and the first digits of the fingerprint."""
        return " ".join([*self.remember.values(), self.fingerprint[:12]]).strip()

    @property
    def of_folds(self) -> dict[str, Metric]:
        """The figures that folds report."""
        return {name: self.metrics[name] for name in self.validated or self.metrics}

    def to_json(self) -> dict[str, Any]:
        """Return the fields as dictionaries and lists that JSON can hold."""
        fields = asdict(self)
        if not self.worker_bytes:
            # Studies that were stored before there was such a field come back as they were.
            del fields["worker_bytes"]
        return fields

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Traits:
        """Make traits from what `to_json` returned.

        Raises:
            ValueError: a field is unknown, missing or of the wrong type, or a name is not among the metrics.
        """
        return TypeAdapter(cls).validate_json(json.dumps(raw))
