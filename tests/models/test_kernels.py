"""Single kernels against PyTorch: pooling of ties and NaN, transposition, sums, labels out of range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from jobs import SyntheticPairs, make_job, make_member
from torch.nn import functional

from models import compiled
from models.kernels import convolution, linear, softmax
from models.kernels.emit import Address, Emitter, vector_kernel
from models.kernels.jit import compiled as jit

PLACES = 4


@vector_kernel
def pool_vectors(e: Emitter, x: Address, best: Address, position: Address) -> None:
    """Eight windows of four places each, places first."""
    values = [e.load(e.at(x, place * 8)) for place in range(PLACES)]
    largest, where = e.first_maximum(values)
    e.store(largest, best)
    e.store(where, position)


@jit
def pool(x, best, position):  # type: ignore[no-untyped-def]
    pool_vectors(x, 0, best, 0, position, 0)


def test_pooling_takes_the_first_maximum_and_lets_nan_win() -> None:
    nan = float("nan")
    windows = torch.tensor([
        [1, 1, 1, 1], [0, 2, 2, 1], [3, 1, 3, 3], [-1, -2, -1, -3],
        [0, 0, 0, 5], [nan, 1, 2, 3], [1, nan, 2, 3], [1, 2, 3, nan],
    ])  # fmt: skip
    values, positions = functional.max_pool1d(windows.unsqueeze(0), PLACES, return_indices=True)
    best, position = np.zeros(8, np.float32), np.zeros(8, np.int32)
    pool(windows.T.contiguous().numpy().ravel(), best, position)
    np.testing.assert_array_equal(best, values.flatten().numpy())
    offsets = positions.flatten().numpy() % PLACES
    np.testing.assert_array_equal(position[:5], offsets[:5])


@jit
def turn(weights, turned):  # type: ignore[no-untyped-def]
    convolution.taps_first(weights, 0, turned, 0)


def test_second_weights_are_turned_exactly() -> None:
    weights = np.random.default_rng(0).random((32, 108), np.float32)
    turned = np.zeros((108, 32), np.float32)
    turn(weights.ravel(), turned.ravel())
    np.testing.assert_array_equal(turned, weights.T)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 50, 100])
@pytest.mark.parametrize(("inputs", "outputs"), [(288, 120), (120, 88), (88, 16), (32, 8), (24, 104)])
def test_linear_layers_of_every_tile_agree_with_numpy(rows: int, inputs: int, outputs: int) -> None:
    random = np.random.default_rng(rows)
    x, w, dy, bias = (
        random.standard_normal(shape, np.float32)
        for shape in ((rows, inputs), (inputs, outputs), (rows, outputs), (outputs,))
    )
    y, dw, dx, db = (np.full_like(like, np.nan) for like in (dy, w, x, bias))
    zeros = np.zeros(outputs, np.float32)
    linear.matmul(x.ravel(), 0, inputs, 1, w.ravel(), 0, bias, 0, y.ravel(), 0, rows, outputs, inputs)
    linear.matmul(x.ravel(), 0, 1, inputs, dy.ravel(), 0, zeros, 0, dw.ravel(), 0, inputs, outputs, rows)
    linear.input_gradient(
        dy.ravel(), 0, w.ravel(), 0, x.ravel(), 0, dx.ravel(), 0, rows, inputs, outputs, True
    )
    linear.sum_rows(dy.ravel(), 0, rows, outputs, db, 0)
    np.testing.assert_allclose(y, x @ w + bias, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dw, x.T @ dy, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dx, np.where(x > 0, dy @ w.T, 0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(db, dy.sum(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e4])
def test_cross_entropy_and_its_gradient_agree_with_pytorch(scale: float) -> None:
    logits = (scale * torch.randn(10, generator=torch.Generator().manual_seed(0))).requires_grad_()
    expected = functional.cross_entropy(logits, torch.tensor(3))
    expected.backward()
    gradient = np.zeros(10, np.float32)
    got = softmax.cross_entropy(logits.detach().numpy(), 0, 10, 3, gradient, 0, np.float32(1))
    assert got == pytest.approx(float(expected.detach()), rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_labels_that_the_kernels_could_not_index_are_refused() -> None:
    member = make_member(0)
    pairs = member.train
    bad = SyntheticPairs(pairs.images, pairs.target, pairs.classes + 1)
    job = make_job(members=(replace(member, train=bad),))
    with pytest.raises(ValueError, match=r"^classes: expected values 0 to 9, got \d+ to 10$"):
        compiled.train(job)


def test_whole_numbers_as_rates_train_like_floats() -> None:
    as_floats = make_job("b1", epochs=1, members=(make_member(0, weight_decay=0.0, aux_loss_weight=1.0),))
    as_integers = make_job("b1", epochs=1, members=(make_member(0, weight_decay=0, aux_loss_weight=1),))
    np.testing.assert_array_equal(
        compiled.train(as_floats).train_loss, compiled.train(as_integers).train_loss
    )
