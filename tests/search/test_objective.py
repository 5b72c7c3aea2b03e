"""Common random numbers: what a configuration meets and gives depends on the study's seed and the fold alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import programs
import pytest
import tiny
import torch

from pairsearch.data.sources import Source, load
from pairsearch.models.nets import build_seeded
from pairsearch.models.training import Member
from pairsearch.search.database.states import State
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.workers.objective import CrossValidation

REAL = {"folds": 3, "sample_size": 60, "validation_size": 15, "epochs": 3}


@pytest.fixture(scope="module")
def objective(digits_source: Source) -> CrossValidation:
    return CrossValidation(tiny.definition(**REAL), digits_source)


def same_data(member: Member, other: Member) -> bool:
    return torch.equal(member.train.images, other.train.images) and torch.equal(
        member.evaluation["validation"].images, other.evaluation["validation"].images
    )


def figures(outcome: Outcome | None) -> dict[str, object]:
    """All figures, floats to the last bit."""
    assert outcome is not None
    curves = {name: getattr(outcome, name) for name in ("train_loss", "val_loss", "val_error")}
    return {
        "value": float.hex(outcome.value) if outcome.value is not None else None,
        **{name: curve.tobytes().hex() for name, curve in curves.items()},
    }


def cross_validate(folder: str, number: str, backwards: bool) -> None:
    definition = tiny.definition(**REAL)
    objective = CrossValidation(definition, load("digits"))
    order = definition.grid.configurations()
    found = {c.key: figures(objective(c)) for c in (reversed(order) if backwards else order)}
    (Path(folder) / number).write_text(json.dumps(found))


def test_figures_are_the_same_bits_in_any_process_and_order(
    tmp_path: Path, objective: CrossValidation
) -> None:
    for number, backwards in (("there", False), ("back", True)):
        assert programs.together(cross_validate, 1, str(tmp_path), number, backwards) == [0]
    there, back = (json.loads((tmp_path / number).read_text()) for number in ("there", "back"))
    assert there == back
    assert len({entry["value"] for entry in there.values()}) == 8, "configurations differ"
    some = objective.definition.grid.configurations()[3]
    assert figures(objective(some)) == there[some.key]


def test_a_configuration_changes_neither_folds_nor_weights_nor_order(objective: CrossValidation) -> None:
    first = objective.job(tiny.point(10, 1e-4, 0.0))
    second = objective.job(tiny.point(25, 1e-3, 0.1))
    for member, other in zip(first.members, second.members, strict=True):
        assert same_data(member, other)
        assert (member.init_seed, member.order_seed) == (other.init_seed, other.order_seed)
    one, two = (build_seeded("b1", {}, job.members[0].init_seed).state_dict() for job in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_folds_differ_from_each_other(objective: CrossValidation) -> None:
    members = objective.job(tiny.point(10, 1e-4, 0.0)).members
    assert len({member.init_seed for member in members}) == 3
    assert len({member.order_seed for member in members}) == 3
    assert not same_data(members[0], members[1])


def test_further_folds_and_epochs_leave_the_first_ones_as_they_are(
    objective: CrossValidation, digits_source: Source
) -> None:
    more = CrossValidation(tiny.definition(**REAL | {"folds": 4, "epochs": 4}), digits_source)
    configuration = tiny.point(10, 1e-4, 0.0)
    few, many = objective(configuration), more(configuration)
    assert few is not None
    assert many is not None
    np.testing.assert_array_equal(many.val_loss[:3, :3], few.val_loss)


@pytest.mark.parametrize("metric", ["val_loss", "val_error"])
def test_the_value_is_the_mean_over_folds_after_the_last_epoch(digits_source: Source, metric: str) -> None:
    outcome = CrossValidation(tiny.definition(metric=metric), digits_source)(tiny.point(10, 1e-4, 0.0))
    assert outcome is not None
    assert outcome.value == getattr(outcome, metric)[:, -1].mean()
    assert outcome.val_loss.shape == (2, 2)


def test_divergence_is_told_with_its_fold_and_epoch(digits_source: Source) -> None:
    definition = tiny.definition(epochs=30)
    outcome = CrossValidation(definition, digits_source)(tiny.point(1, 1e30, 0.0))
    assert outcome is not None
    assert (outcome.state, outcome.value) == (State.DIVERGED, None)
    fold, epoch = next((fold, epoch) for fold, epoch in enumerate(outcome.diverged) if epoch is not None)
    assert outcome.reason == f"fold {fold} diverged in epoch {epoch}: a loss became NaN or infinite"
    assert outcome.val_loss.shape[1] == epoch


def test_progress_hears_each_mean_and_may_end_the_training(objective: CrossValidation) -> None:
    configuration = tiny.point(10, 1e-4, 0.0)
    heard: list[tuple[int, float]] = []
    full = objective(configuration, lambda epoch, mean: heard.append((epoch, mean)))
    assert full is not None
    assert heard == list(enumerate(full.val_loss.mean(axis=0), start=1))

    def stop(state: State) -> Outcome | None:
        return objective(configuration, lambda epoch, _: state if epoch == 2 else None)

    assert stop(State.PENDING) is None
    pruned = stop(State.PRUNED)
    assert pruned is not None
    assert (pruned.state, pruned.value) == (State.PRUNED, None)
    np.testing.assert_array_equal(pruned.val_loss, full.val_loss[:, :2])
