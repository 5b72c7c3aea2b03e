"""Common random numbers: what a configuration meets and gives depends on the study's seed and the fold alone."""

from __future__ import annotations

import json
from pathlib import Path

import programs
import pytest
import tiny
import torch

from pairsearch.data.sources import Source
from pairsearch.models.nets import build_seeded
from pairsearch.models.trainer import Member, TrainingJob
from pairsearch.search.database.states import State
from pairsearch.search.ledger.outcome import Outcome, mean_of
from pairsearch.search.workers.objective import CrossValidation, Step
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.pairs.problem import Pairs

REAL = {"folds": 3, "sample_size": 60, "validation_size": 15, "epochs": 3}


@pytest.fixture(scope="module")
def objective(digits_source: Source) -> CrossValidation:
    return CrossValidation(tiny.loaded(source=digits_source, **REAL))


def same_data(member: Member, other: Member) -> bool:
    return torch.equal(member.train.images, other.train.images) and torch.equal(
        member.evaluation["val"].images, other.evaluation["val"].images
    )


def job(objective: CrossValidation, configuration: Configuration) -> TrainingJob:
    """The training job of a configuration."""
    problem = objective.loaded.problem
    assert isinstance(problem, Pairs)
    return problem.job(configuration.params, objective.runs)


def curves(outcome: Outcome, name: str = "val_loss") -> list[list[float]]:
    """A figure by fold and epoch."""
    return [list(fold.curves[name]) for fold in outcome.folds]


def means(outcome: Outcome, name: str = "val_loss") -> list[float | None]:
    """A figure by epoch, mean over folds."""
    return [mean_of(epoch) for epoch in zip(*curves(outcome, name), strict=True)]


def figures(outcome: Outcome | None) -> dict[str, object]:
    """All figures, floats to the last bit."""
    assert outcome is not None
    return {
        "value": float.hex(outcome.value) if outcome.value is not None else None,
        **{
            name: [[float.hex(point) for point in curve] for curve in curves(outcome, name)]
            for name in ("train_loss", "val_loss", "val_error")
        },
    }


def cross_validate(folder: str, number: str, backwards: bool) -> None:
    objective = CrossValidation(tiny.loaded(**REAL))
    assert {run.threads for run in objective.runs} == {1}
    order = objective.loaded.definition.grid.configurations()
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
    some = objective.loaded.definition.grid.configurations()[3]
    assert figures(objective(some)) == there[some.key]


def test_a_configuration_changes_neither_folds_nor_weights_nor_order(objective: CrossValidation) -> None:
    first = job(objective, tiny.point(10, 1e-4, 0.0))
    second = job(objective, tiny.point(25, 1e-3, 0.1))
    for member, other in zip(first.members, second.members, strict=True):
        assert same_data(member, other)
        assert (member.init_seed, member.order_seed) == (other.init_seed, other.order_seed)
    one, two = (build_seeded("b1", {}, made.members[0].init_seed).state_dict() for made in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_folds_differ_from_each_other(objective: CrossValidation) -> None:
    members = job(objective, tiny.point(10, 1e-4, 0.0)).members
    assert len({member.init_seed for member in members}) == 3
    assert len({member.order_seed for member in members}) == 3
    assert not same_data(members[0], members[1])


def test_further_folds_and_epochs_leave_the_first_ones_as_they_are(
    objective: CrossValidation, digits_source: Source
) -> None:
    more = CrossValidation(tiny.loaded(source=digits_source, **REAL | {"folds": 4, "epochs": 4}))
    configuration = tiny.point(10, 1e-4, 0.0)
    few, many = objective(configuration), more(configuration)
    assert few is not None
    assert many is not None
    assert [curve[:3] for curve in curves(many)[:3]] == curves(few)


@pytest.mark.parametrize("metric", ["val_loss", "val_error"])
def test_the_value_is_the_mean_over_folds_after_the_last_epoch(digits_source: Source, metric: str) -> None:
    outcome = CrossValidation(tiny.loaded(source=digits_source, metric=metric))(tiny.point(10, 1e-4, 0.0))
    assert outcome is not None
    assert (
        outcome.value == outcome.figures[metric] == mean_of([curve[-1] for curve in curves(outcome, metric)])
    )
    assert [len(curve) for curve in curves(outcome)] == [2, 2]
    assert list(outcome.figures) == ["train_loss", "val_loss", "val_error"]


def test_divergence_is_told_with_its_fold_and_epoch(digits_source: Source) -> None:
    outcome = CrossValidation(tiny.loaded(source=digits_source, epochs=30))(tiny.point(1, 1e30, 0.0))
    assert outcome is not None
    assert (outcome.state, outcome.value) == (State.DIVERGED, None)
    assert set(outcome.figures.values()) == {None}
    fold = next(fold for fold in outcome.folds if fold.diverged is not None)
    assert outcome.reason == (
        f"fold {fold.index} diverged in epoch {fold.diverged}: a figure became NaN or infinite"
    )
    assert fold.epochs == fold.diverged
    assert fold.final == {}


def test_progress_hears_each_mean_and_may_end_the_training(objective: CrossValidation) -> None:
    configuration = tiny.point(10, 1e-4, 0.0)
    heard: list[Step] = []

    def listen(step: Step) -> None:
        heard.append(step)

    full = objective(configuration, listen)
    assert full is not None
    assert heard == [Step(epoch, mean) for epoch, mean in enumerate(means(full), start=1)]

    def stop(state: State) -> Outcome | None:
        return objective(configuration, lambda step: state if step.number == 2 else None)

    assert stop(State.PENDING) is None
    pruned = stop(State.PRUNED)
    assert pruned is not None
    assert (pruned.state, pruned.value) == (State.PRUNED, None)
    assert pruned.reason == "pruned after epoch 2 by pruner none"
    assert curves(pruned) == [curve[:2] for curve in curves(full)]
