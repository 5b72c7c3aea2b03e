"""Short training jobs and the digests of their results.

`PYTHONPATH=tests python tests/models/golden.py` writes the file anew. Do so only when `TRAINING_VERSION` changes, on a
machine whose kernels of eight and of sixteen lanes agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from histories import History, history_of
from jobs import make_job, make_member

from pairsearch.models import fused
from pairsearch.models.trainer import TRAINING_VERSION, Member, Pairs, TrainingJob

FILE = Path(__file__).with_name("golden.json")
EPOCHS = 3
CASES = [
    *product(("b1", "b2", "ws", "wsal"), ("adam", "sgd"), (1, 7, 25), (0.0, 0.1)),
    *product(("pretrained convolutions", "pretrained all"), ("adam", "sgd"), (1, 7), (0.1,)),
]


def name(architecture: str, optimiser: str, batch_size: int, weight_decay: float) -> str:
    """The name of a case in the file."""
    return f"{architecture} {optimiser} batch {batch_size} decay {weight_decay}"


def job(architecture: str, optimiser: str, batch_size: int, weight_decay: float) -> TrainingJob:
    """The job of a case: two members with 60 pairs, most of whose pixels are black."""
    rate = 1e-3 if optimiser == "adam" else 1e-6
    members = tuple(_member(number, rate, weight_decay) for number in range(2))
    architecture, _, frozen = architecture.partition(" ")
    return make_job(
        architecture,
        batch_size=batch_size,
        epochs=EPOCHS,
        frozen=frozen or None,
        optimiser=optimiser,
        members=members,
    )


def _member(number: int, learning_rate: float, weight_decay: float) -> Member:
    member = make_member(number, pairs=60, learning_rate=learning_rate, weight_decay=weight_decay)
    pairs = member.train
    images = torch.where(pairs.images < 140, 0.0, pairs.images)
    return replace(member, train=Pairs(images, pairs.target, pairs.classes))


def digests(history: History) -> dict[str, str]:
    """SHA-256 of the curves of each epoch and of the final parameters, over little-endian bytes."""
    found = {}
    for epoch in range(EPOCHS):
        curves = [history.train_loss, *(c.loss for c in history.evaluation.values())]
        curves += [c.error for c in history.evaluation.values()]
        found[f"epoch {epoch + 1}"] = _sha256(*(curve[:, epoch] for curve in curves))
    found["parameters"] = _sha256(
        *(state[key].numpy() for state in history.parameters for key in sorted(state))
    )
    return found


def _sha256(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def golden() -> Mapping[str, Mapping[str, str]]:
    """The digests in the file, by case."""
    content = json.loads(FILE.read_text("utf-8"))
    assert content["training_version"] == TRAINING_VERSION, "TRAINING_VERSION changed: write the file anew"
    cases: Mapping[str, Mapping[str, str]] = content["cases"]
    return cases


def computed() -> dict[str, dict[str, str]]:
    """The digests as this machine computes them, by case."""
    torch.set_num_threads(1)
    return {name(*case): digests(history_of(fused.train, job(*case))) for case in CASES}


def differences() -> list[str]:
    """A line for each case that this machine computes differently: the case, and the first epoch that differs."""
    expected, found = golden(), computed()
    return [
        f"{case}: first in {place}"
        for case in expected
        if (place := first_difference(expected[case], found[case])) is not None
    ]


def first_difference(expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """The first epoch whose curves differ, or `parameters` if only these differ; None if all agree."""
    return next((place for place in expected if expected[place] != found[place]), None)


if __name__ == "__main__":
    FILE.write_text(
        json.dumps({"training_version": TRAINING_VERSION, "cases": computed()}, indent=1) + "\n", "utf-8"
    )
