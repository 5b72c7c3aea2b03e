"""The folds and rounds of a study as training jobs: their data, and what a configuration makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pairsearch.data.folds import Fold, evaluation_sets, make_folds
from pairsearch.data.pairs import PairSet
from pairsearch.data.sources import Source
from pairsearch.models.training import Member, TrainingJob
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition
from pairsearch.studies.seeds import Stream, derive


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The parameters of a configuration as training takes them; None where the architecture has none."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    hidden_units: int | None = None
    aux_loss_weight: float | None = None

    @classmethod
    def of(cls, configuration: Configuration) -> Self:
        """Those of a configuration.

        Raises:
            TypeError: it has other parameters.
        """
        return cls(**configuration.params)  # type: ignore[arg-type] # a definition's grid has checked the values


def search_folds(definition: Definition, source: Source) -> list[Fold]:
    """The folds of a study. They depend on its seed, protocol and data, never on the configuration.

    Raises:
        DataError: the source has too few images for the definition.
    """
    return make_folds(
        source,
        protocol=definition.protocol,
        folds=definition.folds,
        sample_size=definition.sample_size,
        validation_size=definition.validation_size,
        sample_seeds=[derive(definition.seed, Stream.SAMPLE, fold) for fold in range(definition.folds)],
        split_seeds=[derive(definition.seed, Stream.SPLIT, fold) for fold in range(definition.folds)],
        standardised=definition.standardise,
    )


def round_pairs(definition: Definition, source: Source, index: int) -> tuple[PairSet, PairSet]:
    """The training and the test pairs of one round.

    Raises:
        DataError: the source has too few images.
    """
    evaluation = definition.evaluation
    return evaluation_sets(
        source,
        train_pairs=evaluation.train_pairs,
        test_pairs=evaluation.test_pairs,
        train_seed=derive(definition.seed, Stream.EVALUATION_TRAIN, index),
        test_seed=derive(definition.seed, Stream.EVALUATION_TEST, index),
        standardised=definition.standardise,
    )


def fold_job(definition: Definition, configuration: Configuration, folds: Sequence[Fold]) -> TrainingJob:
    """One model for each of the study's folds, of which each reports `validation`."""
    streams = Stream.INITIAL_WEIGHTS, Stream.BATCH_ORDER
    members = tuple(
        _member(definition, configuration, streams, index, fold.train, {"validation": fold.validation})
        for index, fold in enumerate(folds)
    )
    return _job(definition, configuration, definition.epochs, members)


def round_job(
    definition: Definition, configuration: Configuration, pairs: Mapping[int, tuple[PairSet, PairSet]]
) -> TrainingJob:
    """One model for each round, of which each reports `train` and `test`.

    Args:
        pairs: training and test pairs of each round, by its index.
    """
    streams = Stream.EVALUATION_WEIGHTS, Stream.EVALUATION_ORDER
    members = tuple(
        _member(definition, configuration, streams, index, train, {"train": train, "test": test})
        for index, (train, test) in pairs.items()
    )
    return _job(definition, configuration, definition.evaluation.epochs, members)


def _member(
    definition: Definition,
    configuration: Configuration,
    streams: tuple[Stream, Stream],
    index: int,
    train: PairSet,
    evaluation: Mapping[str, PairSet],
) -> Member:
    params = Hyperparameters.of(configuration)
    weights, order = (derive(definition.seed, stream, index) for stream in streams)
    return Member(
        train=train,
        evaluation=evaluation,
        init_seed=weights,
        order_seed=order,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        aux_loss_weight=params.aux_loss_weight or 0.0,
    )


def _job(
    definition: Definition, configuration: Configuration, epochs: int, members: tuple[Member, ...]
) -> TrainingJob:
    params = Hyperparameters.of(configuration)
    return TrainingJob(
        architecture=definition.architecture,
        hidden_units=params.hidden_units,
        batch_size=params.batch_size,
        epochs=epochs,
        optimiser=definition.optimiser,
        members=members,
    )
