"""Independent random streams that depend on a study's seed and a fold or round alone.

Samples, splits, initial weights and batch orders never depend on the configuration, the worker or the order of trials.
All configurations of a study meet the same folds (common random numbers), and so do studies with the same seed.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition


class Stream(IntEnum):
    """The use of a stream. The numbers enter the seeds: never change or reuse one."""

    SAMPLE = 1
    SPLIT = 2
    INITIAL_WEIGHTS = 3
    BATCH_ORDER = 4
    EVALUATION_TRAIN = 5
    EVALUATION_TEST = 6
    EVALUATION_WEIGHTS = 7
    EVALUATION_ORDER = 8
    LAYOUT = 9
    SAMPLER = 10


def derive(seed: int, stream: Stream, index: int = 0) -> int:
    """Return a seed, from 0 to 2**63 - 1, for one stream of a fold or round.

    Streams are children of a `numpy.random.SeedSequence`, whose spawn keys make them statistically independent (NumPy
    documentation, "Parallel random number generation").
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(int(stream), index))
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1


def layout_order(definition: Definition) -> list[Configuration]:
    """Return the grid in the order of claims: the paper's configuration, then the others shuffled by the study's seed.

    The first N configurations are thus a random subset of the grid that contains the paper's.
    """
    points = definition.grid.configurations()
    order = np.random.default_rng(derive(definition.seed, Stream.LAYOUT)).permutation(len(points))
    shuffled = [points[index] for index in order]
    if definition.paper is not None and definition.paper.configuration in shuffled:
        shuffled.remove(definition.paper.configuration)
        shuffled.insert(0, definition.paper.configuration)
    return shuffled
