"""The problem `pairs`, the paper's: folds and rounds of digit pairs, trained side by side.

PyTorch takes seconds to import: functions import it when they need it, so that bad input is refused at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pairsearch.data.errors import DataError
from pairsearch.data.sources import ARRAYS, Source, resolve
from pairsearch.studies.configuration import Params, Value
from pairsearch.studies.definition import LARGEST, Definition
from pairsearch.studies.loading import BY_THE_DATA
from pairsearch.studies.pairs import installation
from pairsearch.studies.pairs.settings import Settings
from pairsearch.studies.place import Place
from pairsearch.studies.problem import Figures, Metric, Problem, Report, Run, Weights
from pairsearch.studies.seeds import Stream, derive
from pairsearch.studies.validation import read_settings

if TYPE_CHECKING:
    from pairsearch.data.folds import Fold
    from pairsearch.data.pairs import PairSet
    from pairsearch.models import trainer
    from pairsearch.models.trainer import EpochReport, TrainingJob

DATA_VARIABLE = "PAIRSEARCH_DATA"
"""Folder of the images, a torchvision root that holds `MNIST/raw`, where `--data-dir` is not given. Without either, the
images are kept in a folder of this user's."""
DEFAULT_DATA = "mnist"
NATS = "nats"
FRACTION = "fraction of 1"
STREAMS = {
    "fold": (Stream.INITIAL_WEIGHTS, Stream.BATCH_ORDER),
    "round": (Stream.EVALUATION_WEIGHTS, Stream.EVALUATION_ORDER),
}


class Pairs(Problem):
    """Pairs of digits: is the first smaller than or equal to the second?

    A configuration has `batch_size`, `learning_rate`, `weight_decay`, and `aux_loss_weight` where the architecture's
    `uses_aux_loss` is true; its further parameters are arguments of the architecture, or of a user's optimiser.

    Args:
        place: where the definition comes from, for a user's architecture, optimiser and images.
        definition: the study's, which this problem does not need.
        data: `mnist`, one of its relatives (`fashion-mnist`, `kmnist`, `emnist-digits`, `qmnist`), `digits`, `auto`,
            which takes MNIST where it is present or can be downloaded and else the digits, or an `.npz` file of images
            and labels, relative to the definition that names it, or to the working directory if `--set` names it.
        data_dir: torchvision root of MNIST and its relatives; None for PAIRSEARCH_DATA, or else a folder of the user's.
        settings: the fields of `Settings`.
    """

    metrics: Mapping[str, Metric] = {
        "train_loss": Metric("training loss", unit=NATS, training=True),
        "train_error": Metric("training error", percent=True, unit=FRACTION, training=True),
        "val_loss": Metric("validation loss", unit=NATS),
        "val_error": Metric("validation error", percent=True, unit=FRACTION),
        "running_loss": Metric("running training loss", unit=NATS, training=True),
        "test_loss": Metric("test loss", unit=NATS),
        "test_error": Metric("test error", percent=True, unit=FRACTION),
    }
    # For the largest of the paper's studies the peak was 480 to 499 MiB, without the memory that workers share, which
    # is that of their libraries (`Anonymous` in /proc/PID/smaps_rollup, every millisecond; Linux, torch 2.14).
    worker_bytes = 512 * 2**20
    validated = ("train_loss", "val_loss", "val_error")
    evaluated = ("train_error", "test_error")

    def __init__(
        self,
        *,
        place: Place | None = None,
        definition: Definition | None = None,
        data: str = DEFAULT_DATA,
        data_dir: str | None = None,
        **settings: Any,
    ) -> None:
        del definition
        self.settings = read_settings(Settings, settings, beside=("data", "data_dir"))
        folder = data_dir or os.environ.get(DATA_VARIABLE)
        self._folder = None if folder is None else Path(folder).absolute()
        place = place or Place(None, beside=("data",))
        self._data = str(place.file_of("data", data)) if data.endswith(ARRAYS) else data
        source, self._reason = _load(self._data, self._folder)
        from pairsearch.models.trainer import TRAINING_VERSION  # noqa: PLC0415
        from pairsearch.studies.pairs.parts import Architecture, Optimiser, of_training  # noqa: PLC0415

        self.version = TRAINING_VERSION
        self._architecture = Architecture(self.settings.architecture, place)
        self._optimiser = Optimiser(self.settings.optimiser, place)
        self._needed = of_training(self._architecture, self._optimiser)
        if data == BY_THE_DATA:
            self._data = source.name
        self._source: Source | None = source
        self._fingerprint = source.fingerprint
        self.remember = {"data": self._data}
        self.notes = [f"data: {self._reason}"] if data == BY_THE_DATA else []
        self._folds: dict[tuple[int, int], list[Fold]] = {}

    @property
    def source(self) -> Source:
        """The images, which are read again after `train` has released them.

        Raises:
            DataError: they have changed, or cannot be read.
        """
        if self._source is None:
            source, _ = _load(self._data, self._folder)
            if source.fingerprint != self._fingerprint:
                raise DataError(f"data: {source.name} has changed since the study was loaded: start anew")
            self._source = source
        return self._source

    def fingerprint(self) -> str:
        """Return the SHA-256 over images and labels."""
        return self._fingerprint

    def overlap(self, folds: int) -> float:
        """Return 0 for `resample`, where each fold draws a sample of its own, else that of k-fold."""
        return 0.0 if self.settings.protocol == "resample" else super().overlap(folds)

    def check(self, params: Params) -> None:
        """Refuse missing or unknown parameters, values out of range, and modules with outputs of a wrong shape."""
        from pairsearch.models.nets import check_choice  # noqa: PLC0415
        from pairsearch.studies.pairs.parts import own  # noqa: PLC0415

        of_architecture, of_optimiser = self._divided(params)
        for name in self._needed:
            if name not in params:
                raise ValueError(f"grid.{name}: architecture {self.settings.architecture!r} needs it")
        shipped = () if own(self.settings.architecture) else tuple(of_architecture)
        for name in (*self._needed, *shipped):
            value = params[name]
            if name in self._architecture.choices:
                check_choice(f"grid.{name}", value, self._architecture.choices[name])
                continue
            whole = name in ("batch_size", "hidden_units")
            if whole and not (type(value) is int and 1 <= value <= LARGEST):
                raise ValueError(f"grid.{name}: expected an integer >= 1, got {value!r}")
            if not whole and (not isinstance(value, int | float) or isinstance(value, bool)):
                raise ValueError(f"grid.{name}: expected a number, got {value!r}")
            if name == "learning_rate" and not value > 0:  # type: ignore[operator] # a number by now
                raise ValueError(f"grid.{name}: expected a number > 0, got {value!r}")
            if not whole and value < 0:  # type: ignore[operator]
                raise ValueError(f"grid.{name}: expected a number >= 0, got {value!r}")
        if own(self.settings.architecture):
            self._architecture.shapes(of_architecture)
        if own(self.settings.optimiser):
            rates = self._rates(params)
            self._optimiser.check(
                of_optimiser,
                rates["learning_rate"],
                rates.get("weight_decay", 0.0),
                self._architecture.shapes(of_architecture),
            )

    def _divided(self, params: Params) -> tuple[dict[str, Value], dict[str, Value]]:
        """Divide the further parameters into arguments of the architecture and of the optimiser."""
        from pairsearch.studies.pairs.parts import divided  # noqa: PLC0415

        further = {name: value for name, value in params.items() if name not in self._needed}
        return divided(self._architecture, self._optimiser, further)

    def _rates(self, params: Params) -> dict[str, float]:
        """Return the parameters of the training that `Member` takes, by name."""
        return {name: float(params[name]) for name in self._needed if name != "batch_size"}

    def prepare(self, runs: Sequence[Run]) -> None:
        """Refuse folds and rounds for which there are too few images."""
        for run in runs:
            self._sets(run)

    def describe(self, params: Params) -> Mapping[str, str]:
        """Return how many parameters the network has."""
        of_architecture, _ = self._divided(params)
        return {"parameters": f"{self._architecture.parameters(of_architecture):,}"}

    def backend(self, device: str) -> str:
        """Return `compiled` or `torch`."""
        from pairsearch.models import fused  # noqa: PLC0415

        return fused.backend_of(self._architecture.maker, self._optimiser.rule({}), device)

    def prove(self, device: str) -> None:
        """Train a model for an epoch on two pairs.

        If architecture or optimiser is a user's own, B1 is trained by Adam, as their arguments differ between points.
        """
        self._train_a_little(device)

    def _train_a_little(self, device: str) -> str:
        from pairsearch.models import nets  # noqa: PLC0415
        from pairsearch.studies.pairs.parts import own  # noqa: PLC0415

        if own(self.settings.architecture) or own(self.settings.optimiser):
            return installation.train_a_little(nets.B1, device=device)
        return installation.train_a_little(self.settings.architecture, self.settings.optimiser, device)

    def examine(self) -> Mapping[str, Callable[[], str]]:
        """Return checks of the images, of subnormal numbers and of the compiled kernels."""
        return {
            "data": lambda: (
                f"{self._reason}; {len(self.source.train_images):,} training and "
                f"{len(self.source.test_images):,} test images"
            ),
            "subnormals": installation.subnormals,
            "kernels": lambda: installation.kernels(lambda: self._train_a_little("cpu")),
        }

    def train(self, params: Params, runs: Sequence[Run], report: Report) -> Sequence[Weights | None]:
        """Train a model for each run, all side by side."""
        from pairsearch.models import fused  # noqa: PLC0415

        running = "train_loss" if runs[0].kind == "fold" else "running_loss"
        job = self.job(params, runs)
        # Folds are copies, so a worker can release the images.
        self._source = None

        def on_epoch(epoch: EpochReport) -> None:
            report(epoch.epoch, _figures(epoch, running), epoch.diverged)

        return fused.train(job, on_epoch=on_epoch, device=runs[0].device, threads=runs[0].threads)

    def card(self, params: Params, run: Run) -> Mapping[str, Any]:
        """Return the mean and deviation by which raw intensities were standardised, if they were."""
        if not self.settings.standardise:
            return {}
        from pairsearch.data.pairs import scale_of  # noqa: PLC0415

        train, _ = self.round_pairs(run, standardised=False)
        return {"standardisation": scale_of(train).model_dump()}

    @classmethod
    def answer(
        cls, model: Path, files: Sequence[Path], invert: bool | None
    ) -> tuple[list[str], dict[str, Any]]:
        """Ask a kept model which of two images of digits shows the smaller one."""
        from pairsearch.studies.pairs.prediction import predict  # noqa: PLC0415

        return predict(model, files, invert)

    def job(self, params: Params, runs: Sequence[Run]) -> TrainingJob:
        """Make the training job of a configuration, with a model for each run."""
        from pairsearch.models.trainer import Member, TrainingJob  # noqa: PLC0415

        rates = self._rates(params)
        of_architecture, of_optimiser = self._divided(params)
        members = []
        for run in runs:
            weights, order = (derive(run.seed, stream, run.index) for stream in STREAMS[run.kind])
            train, evaluation = self._sets(run)
            given = {name: _read(pairs) for name, pairs in evaluation.items()}
            members.append(Member(_read(train), given, weights, order, **rates))
        return TrainingJob(
            architecture=self._architecture.maker,
            arguments=of_architecture,
            batch_size=int(params["batch_size"]),
            epochs=runs[0].epochs,
            optimiser=self._optimiser.rule(of_optimiser),
            members=tuple(members),
        )

    def _sets(self, run: Run) -> tuple[PairSet, dict[str, PairSet]]:
        """Return the pairs that a run trains on, and the sets on which it is evaluated."""
        if run.kind == "fold":
            fold = self.folds(run.count, run.seed)[run.index]
            return fold.train, {"validation": fold.validation}
        train, test = self.round_pairs(run)
        return train, {"train": train, "test": test}

    def folds(self, count: int, seed: int = 0) -> list[Fold]:
        """Make the folds of a study, or return those that were made before.

        They depend on the study's seed, settings and data, and never on a configuration.

        Raises:
            DataError: there are too few images.
        """
        if (count, seed) not in self._folds:
            from pairsearch.data.folds import make_folds  # noqa: PLC0415

            chosen = self.settings
            self._folds[count, seed] = make_folds(
                self.source,
                folds=count,
                sample_size=chosen.sample_size,
                validation_size=chosen.validation_size,
                sample_seeds=[derive(seed, Stream.SAMPLE, fold) for fold in range(count)],
                split_seeds=[derive(seed, Stream.SPLIT, fold) for fold in range(count)],
                standardised=chosen.standardise,
            )
        return self._folds[count, seed]

    def round_pairs(self, run: Run, *, standardised: bool | None = None) -> tuple[PairSet, PairSet]:
        """Draw the training and the test pairs of a round.

        Args:
            standardised: whether to standardise them; None for what the settings say.

        Raises:
            DataError: there are too few images.
        """
        from pairsearch.data.folds import evaluation_sets  # noqa: PLC0415

        return evaluation_sets(
            self.source,
            train_pairs=self.settings.train_pairs,
            test_pairs=self.settings.test_pairs,
            train_seed=derive(run.seed, Stream.EVALUATION_TRAIN, run.index),
            test_seed=derive(run.seed, Stream.EVALUATION_TEST, run.index),
            standardised=self.settings.standardise if standardised is None else standardised,
        )


_SOURCES: WeakValueDictionary[tuple[str, Path | None], Source] = WeakValueDictionary()
"""The images that are in use in this process, which its studies share."""


def _load(data: str, folder: Path | None) -> tuple[Source, str]:
    """Load the images, and return them with a line that says why they were chosen."""
    held = _SOURCES.get((data, folder))
    if held is not None:
        return held, f"{held.name}: as for the study before"
    source, reason = resolve(data, folder)
    if not data.endswith(ARRAYS):
        _SOURCES[data, folder] = _SOURCES[source.name, folder] = source
    return source, reason


def _read(pairs: PairSet) -> trainer.Pairs:
    """Return a set of pairs as trainers read it."""
    from pairsearch.models import trainer  # noqa: PLC0415

    return trainer.Pairs(pairs.images, pairs.target, pairs.classes)


def _figures(epoch: EpochReport, running: str) -> list[Figures]:
    """Return the figures of each run after an epoch; the running training loss gets the name `running`."""
    columns = {running: epoch.train_loss}
    for name, loss in epoch.loss.items():
        short = "val" if name == "validation" else name
        columns |= {f"{short}_loss": loss, f"{short}_error": epoch.error[name]}
    by_run = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, values, strict=True)) for values in by_run]
