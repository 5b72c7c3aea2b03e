"""Independent random streams that depend on a study's seed and a fold or round alone.

Samples, splits, initial weights and batch orders never depend on the configuration, the worker or the order of trials.
All configurations of a study meet the same folds (common random numbers), and so do studies with the same seed.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def global_generators(seed: int, device: str) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and, if it is imported, PyTorch, and put them back after the block.

    The service draws from Python's too: pauses that all workers made alike would bring them back at the same moment.

    Args:
        device: on which PyTorch computes, whose generator is seeded too.
    """
    torch = sys.modules.get("torch")
    generator = getattr(torch, "default_generator", None)
    before = random.getstate(), np.random.get_state(), None if generator is None else generator.get_state()
    random.seed(seed)
    np.random.seed(seed)
    if torch is not None and generator is not None:
        # For all devices, where another one is used; that counts the calls until the device is.
        generator.manual_seed(seed) if device == "cpu" else torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        if generator is not None:
            generator.set_state(before[2])


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
