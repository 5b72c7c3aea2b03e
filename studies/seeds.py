"""Independent random streams, derived from a study's seed and a fold or round, and from nothing else.

Samples, splits, initial weights and batch orders so never depend on the configuration, the worker or the order
of trials: all configurations of a study meet the same folds (common random numbers), and so do studies of the
same seed.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream is used for. The numbers enter the seeds: never reuse or reorder them."""

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
    """A seed in 0 to 2**63 - 1 for one stream of a fold or round.

    Streams are children of one `numpy.random.SeedSequence`, whose spawn keys are made to give statistically
    independent children (NumPy documentation, "Parallel random number generation").
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(int(stream), index))
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1
