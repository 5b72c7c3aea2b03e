"""Subnormal numbers are zeros while a trainer trains, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest
import reference
import torch
from histories import History, Trainer, history_of
from jobs import make_job, make_member

from pairsearch.models import compiled, nets
from pairsearch.models.arithmetic import flushed, flushing, supported
from pairsearch.models.trainer import Pairs, SetResult, TrainingJob

pytestmark = pytest.mark.skipif(not supported(), reason="this processor cannot flush subnormals")


@pytest.fixture(params=[False, True], ids=["off before", "on before"])
def mode(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Flushing on or off before the test begins; it is off again at the end."""
    torch.set_flush_denormal(request.param)
    yield request.param
    torch.set_flush_denormal(False)


def pytorch_flushes() -> list[bool]:
    """Whether float32 arithmetic in PyTorch makes zeros of subnormal results, and of subnormal operands."""
    normal, subnormal = torch.tensor([1 << 23, 1], dtype=torch.int32).view(torch.float32)
    return [bool((normal * 0.5).view(torch.int32) == 0), bool(subnormal * 2.0**30 == 0.0)]


def test_a_block_flushes_and_puts_back_the_mode_that_was_there(mode: bool) -> None:
    assert flushing() == mode
    with flushed():
        assert flushing()
        assert pytorch_flushes() == [True, True]
        with flushed():
            assert flushing()
        assert flushing()
    assert flushing() == mode
    assert pytorch_flushes() == [mode, mode]


def test_a_block_that_raises_puts_it_back_too(mode: bool) -> None:
    with pytest.raises(ArithmeticError), flushed():
        raise ArithmeticError
    assert flushing() == mode


def test_neither_training_nor_its_callback_leaves_the_mode_that_was_there(
    trainer: Trainer, mode: bool
) -> None:
    seen: list[bool] = []

    def look(*_: object) -> None:
        seen.append(flushing())

    trainer(make_job("b1", epochs=2), on_epoch=look)
    assert seen == [mode, mode]
    assert flushing() == mode


def test_training_that_raises_puts_it_back(
    trainer: Trainer, mode: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        trainer(make_job("b1"), on_epoch=fail)
    assert flushing() == mode
    monkeypatch.setattr(SetResult, "__init__", fail)
    with pytest.raises(ArithmeticError):
        trainer(make_job("b1"))
    assert flushing() == mode


def collapsing(architecture: str) -> TrainingJob:
    """A job at batch size 1 and a high rate: units die, and weight decay shrinks their weights without end."""
    member = make_member(0, pairs=100, learning_rate=0.01, weight_decay=0.01, aux_loss_weight=1.0)
    images = torch.where(member.train.images < 140, 0.0, member.train.images)
    pairs = Pairs(images, member.train.target, member.train.classes)
    return make_job(architecture, batch_size=1, epochs=16, members=(replace(member, train=pairs),))


@pytest.fixture
def fading(monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    """A job of one epoch whose weights are small from the start: the other takes some trainers seconds."""
    drawn = nets._uniform
    monkeypatch.setattr(nets, "_uniform", lambda tensor, bound: drawn(tensor, 1e-36 * bound))
    member = make_member(0, pairs=100, learning_rate=1e-3, weight_decay=50.0)
    return make_job("b1", batch_size=1, epochs=1, optimiser="sgd", members=(member,))


def subnormals(history: History) -> int:
    """How many of the final parameters are subnormal."""
    return count_subnormals(torch.cat([value.flatten() for value in history.parameters[0].values()]))


def count_subnormals(values: torch.Tensor) -> int:
    """How many of these float32 are subnormal."""
    bits = values.view(torch.int32) & 0x7FFFFFFF
    return int(((bits > 0) & (bits < 1 << 23)).sum())


def test_weights_that_decay_end_as_zeros(trainer: Trainer, fading: TrainingJob) -> None:
    assert subnormals(trainer(fading)) == 0


@pytest.mark.parametrize("architecture", ["b1", "wsal"])
def test_those_of_units_that_die_too(architecture: str) -> None:
    assert subnormals(history_of(compiled.train, collapsing(architecture))) == 0


def test_the_state_of_the_compiled_optimiser_ends_as_zeros_too() -> None:
    job = collapsing("b1")
    (trainee,) = compiled.trainees_of(job)
    space = trainee.layout.workspace()
    for epoch in range(job.epochs):
        trainee.train_epoch(epoch, space)
    assert count_subnormals(torch.from_numpy(trainee.parameters)) == 0
    assert count_subnormals(torch.from_numpy(trainee._state)) == 0


def test_they_would_end_as_subnormals(monkeypatch: pytest.MonkeyPatch, fading: TrainingJob) -> None:
    monkeypatch.setattr("pairsearch.models.arithmetic.flushed", nullcontext)
    assert subnormals(history_of(reference.train, fading)) > 1000


@pytest.mark.parametrize("architecture", ["b1", "wsal"])
def test_those_of_units_that_die_would_too(monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    monkeypatch.setattr(compiled, "flushed", nullcontext)
    assert subnormals(history_of(compiled.train, collapsing(architecture))) > 1000
