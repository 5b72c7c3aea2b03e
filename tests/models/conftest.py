"""Fixtures of the trainer tests: every trainer, with its history."""

from __future__ import annotations

from functools import partial

import pytest
import reference
from histories import Trainer, history_of

from pairsearch.models import batched, compiled, single

TRAINERS: dict[str, Trainer] = {
    "reference": partial(history_of, reference.train),
    "torch": partial(history_of, single.train),
    "torch-stacked": partial(history_of, batched.train),
    "compiled": partial(history_of, compiled.train),
}


@pytest.fixture(params=TRAINERS)
def trainer(request: pytest.FixtureRequest) -> Trainer:
    """Each trainer in turn."""
    return TRAINERS[request.param]


@pytest.fixture(params=[name for name in TRAINERS if name != "reference"])
def fast_trainer(request: pytest.FixtureRequest) -> Trainer:
    """Each trainer that is compared with the reference."""
    return TRAINERS[request.param]
