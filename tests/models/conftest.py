"""Fixtures of the trainer tests: every implementation of the `Trainer` contract."""

from __future__ import annotations

import pytest

from pairsearch.models import batched, compiled, reference, single
from pairsearch.models.trainer import Trainer

TRAINERS: dict[str, Trainer] = {
    "reference": reference.train,
    "torch": single.train,
    "torch-stacked": batched.train,
    "compiled": compiled.train,
}


@pytest.fixture(params=TRAINERS)
def trainer(request: pytest.FixtureRequest) -> Trainer:
    """Each trainer in turn."""
    return TRAINERS[request.param]


@pytest.fixture(params=[name for name in TRAINERS if name != "reference"])
def fast_trainer(request: pytest.FixtureRequest) -> Trainer:
    """Each trainer that is compared with the reference."""
    return TRAINERS[request.param]
