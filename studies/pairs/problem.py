"""The problem `pairs`, the paper's: folds and rounds of digit pairs, trained side by side.

PyTorch takes seconds to import: functions import it when they need it, so that bad input is refused at once.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pairsearch.data.errors import DataError
from pairsearch.data.sources import ARRAYS, Source, resolve
from pairsearch.studies.configuration import Params
from pairsearch.studies.definition import Definition
from pairsearch.studies.loading import BY_THE_DATA
from pairsearch.studies.pairs.settings import Settings, own
from pairsearch.studies.place import Place
from pairsearch.studies.problem import Metric, Problem, Report, Run, Weights
from pairsearch.studies.seeds import Stream, derive
from pairsearch.studies.validation import read_settings

if TYPE_CHECKING:
    from pairsearch.data.pairs import Fold, PairSet
    from pairsearch.models.trainer import TrainingJob

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
        from pairsearch.studies.pairs.parts import Parts  # noqa: PLC0415

        self.version = TRAINING_VERSION
        self._parts = Parts(self.settings, place)
        if data == BY_THE_DATA:
            self._data = source.name
        self._source: Source | None = source
        self._fingerprint = source.fingerprint
        self.remember = {"data": self._data}
        self.notes = [f"data: {self._reason}"] if data == BY_THE_DATA else []
        self._folds: dict[tuple[int, int], list[Fold]] = {}

    @property
    def source(self) -> Source:
        """The images, read again after `train` has released them; raises a DataError where they have changed."""
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
        self._parts.check(params)

    def prepare(self, runs: Sequence[Run]) -> None:
        """Refuse folds and rounds for which there are too few images."""
        for run in runs:
            self._sets(run)

    def describe(self, params: Params) -> Mapping[str, str]:
        """Return how many parameters the network has."""
        return {"parameters": f"{self._parts.parameters(params):,}"}

    def backend(self, device: str) -> str:
        """Return `compiled` or `torch`."""
        return self._parts.backend(device)

    def prove(self, device: str) -> None:
        """Train a model for an epoch on two pairs."""
        train_a_little(self.settings, device)

    def examine(self) -> Mapping[str, Callable[[], str]]:
        """Return checks of the images, of subnormal numbers and of the compiled kernels."""
        return {
            "data": lambda: (
                f"{self._reason}; {len(self.source.train_images):,} training and "
                f"{len(self.source.test_images):,} test images"
            ),
            "subnormals": _subnormals,
            "kernels": lambda: _kernels(self.settings),
        }

    def train(self, params: Params, runs: Sequence[Run], report: Report) -> Sequence[Weights | None]:
        """Train a model for each run, all side by side."""
        from pairsearch.models import fused  # noqa: PLC0415

        job = self.job(params, runs)
        # Folds are copies, so a worker can release the images.
        self._source = None
        return fused.train(job, on_epoch=report, device=runs[0].device, threads=runs[0].threads)

    def card(self, params: Params, run: Run) -> Mapping[str, Any]:
        """Return the mean and deviation by which raw intensities were standardised, if they were."""
        if not self.settings.standardise:
            return {}
        from pairsearch.data.pairs import scale_of  # noqa: PLC0415

        train, _ = self.round_pairs(run, raw=True)
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
        from pairsearch.models.trainer import Member, Pairs  # noqa: PLC0415

        members = []
        for run in runs:
            weights, order = (derive(run.seed, stream, run.index) for stream in STREAMS[run.kind])
            train, evaluation = self._sets(run)
            read = {name: Pairs(each.images, each.target, each.classes) for name, each in evaluation.items()}
            pairs = Pairs(train.images, train.target, train.classes)
            members.append(Member(pairs, read, weights, order, **self._parts.rates(params)))
        running = "train_loss" if runs[0].kind == "fold" else "running_loss"
        return self._parts.job(params, runs[0].epochs, members, running)

    def _sets(self, run: Run) -> tuple[PairSet, dict[str, PairSet]]:
        """Return the pairs that a run trains on, and the sets on which it is evaluated."""
        if run.kind == "fold":
            fold = self.folds(run.count, run.seed)[run.index]
            return fold.train, {"val": fold.validation}
        train, test = self.round_pairs(run)
        return train, {"train": train, "test": test}

    def folds(self, count: int, seed: int = 0) -> list[Fold]:
        """Make the folds of a study, or return those that were made before; raises a DataError for too few images.

        They depend on the study's seed, settings and data, and never on a configuration.
        """
        if (count, seed) not in self._folds:
            from pairsearch.data.pairs import Fold, make_folds, standardise  # noqa: PLC0415

            chosen = self.settings
            made = make_folds(
                self.source,
                folds=count,
                sample_size=chosen.sample_size,
                validation_size=chosen.validation_size,
                sample_seeds=[derive(seed, Stream.SAMPLE, fold) for fold in range(count)],
                split_seeds=[derive(seed, Stream.SPLIT, fold) for fold in range(count)],
            )
            if chosen.standardise:
                made = [Fold(*standardise(fold.train, fold.validation)) for fold in made]
            self._folds[count, seed] = made
        return self._folds[count, seed]

    def round_pairs(self, run: Run, *, raw: bool = False) -> tuple[PairSet, PairSet]:
        """Draw the training pairs of a round from the training images, and its test pairs from the test images.

        Intensities stay `raw` also where the settings standardise them. Too few images raise a DataError.
        """
        from pairsearch.data.pairs import draw, standardise  # noqa: PLC0415

        chosen = self.settings
        train_seed = derive(run.seed, Stream.EVALUATION_TRAIN, run.index)
        test_seed = derive(run.seed, Stream.EVALUATION_TEST, run.index)
        train = draw(self.source, "train", chosen.train_pairs, train_seed, "train_pairs")
        test = draw(self.source, "test", chosen.test_pairs, test_seed, "test_pairs")
        return standardise(train, test) if chosen.standardise and not raw else (train, test)


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


def train_a_little(settings: Settings, device: str = "cpu") -> str:
    """Train a model with default arguments for an epoch on two pairs, and return the backend; raises whatever fails.

    If architecture or optimiser is a user's own, B1 is trained by Adam, as their arguments differ between points.
    """
    import torch  # noqa: PLC0415 - slow to import, and may be broken

    from pairsearch.models import fused, nets  # noqa: PLC0415
    from pairsearch.models.trainer import Member, Pairs, TrainingJob  # noqa: PLC0415

    architecture: str | nets.Maker = settings.architecture
    optimiser = settings.optimiser
    if own(settings.architecture) or own(optimiser):
        architecture, optimiser = nets.B1, "adam"
    pairs = Pairs(
        torch.zeros(2, 2, 14, 14), torch.zeros(2, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64)
    )
    member = Member(pairs, {"val": pairs}, init_seed=0, order_seed=0, learning_rate=1e-3)
    fused.train(TrainingJob(architecture, (member,), 1, 1, optimiser=optimiser), device=device)
    return fused.backend_of(architecture, optimiser, device)


def _subnormals() -> str:
    """Return what becomes of subnormal numbers; raises an OSError where they stay, and may slow the training."""
    from pairsearch.models.arithmetic import supported  # noqa: PLC0415

    if not supported():
        raise OSError("PyTorch cannot flush them on this processor; training with weight decay may be slow")
    return "flushed to zero while training"


def _kernels(settings: Settings) -> str:
    """Train a little; return the backend, how long it took, and what the kernels' cache said."""
    start, said = time.perf_counter(), BufferingHandler(1000)
    log = logging.getLogger("pairsearch.jit")
    log.addHandler(said)
    try:
        backend = train_a_little(settings)
    finally:
        log.removeHandler(said)
    seconds = time.perf_counter() - start
    notes = "".join(f"; {line}" for line in dict.fromkeys(record.getMessage() for record in said.buffer))
    return f"{backend}: loaded and run in {seconds:.1f} s (compiled where not cached){notes}"
