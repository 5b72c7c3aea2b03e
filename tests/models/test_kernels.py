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
    largest, where = e.first_maximum(values, range(PLACES))
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


@jit
def second_layer(source, weights, bias, work, output, positions):  # type: ignore[no-untyped-def]
    """Workspace: turned weights (108, 32), transformed weights (16, 12, 32), scratch."""
    convolution.taps_first(weights, 0, work, 0)
    convolution.winograd_weights(work, 0, work, 3456)
    convolution.forward2(source, 0, work, 3456, bias, 0, work, 9600, output, 0, positions, 0, 0)


def run_second_layer(inputs: torch.Tensor, layer: torch.nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled outputs (32, 3, 3) and positions 0 to 3 of inputs (12, 7, 7), by the kernel."""
    source = functional.pad(inputs, (1, 0, 1, 0)).permute(1, 2, 0).contiguous().flatten()
    weights = layer.weight.detach().permute(0, 2, 3, 1).contiguous().flatten()
    work = np.zeros(9600 + convolution.SCRATCH2, np.float32)
    output, positions = np.zeros(288, np.float32), np.zeros(288, np.int32)
    source = functional.pad(source, (0, 16))  # The kernel reads, without using it, beyond the last pixel.
    second_layer(source.numpy(), weights.numpy(), layer.bias.detach().numpy(), work, output, positions)
    corners = 2 * (96 * np.arange(3)[:, None, None] + 12 * np.arange(3)[None, :, None])
    places = np.searchsorted([0, 12, 96, 108], positions.reshape(3, 3, 32) - corners)
    return tuple(torch.from_numpy(a).reshape(3, 3, 32).permute(2, 0, 1) for a in (output, places))


def plain_second_layer(inputs: torch.Tensor, layer: torch.nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in PyTorch, in float64."""
    maps = functional.conv2d(inputs.double(), layer.weight.double(), layer.bias.double(), padding=1)
    values, where = functional.max_pool2d(maps, 2, return_indices=True)
    row, column = where // 7, where % 7
    return functional.relu(values), 2 * (row % 2) + column % 2


def second_convolution() -> torch.nn.Conv2d:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Conv2d(12, 32, 3).requires_grad_(requires_grad=False)


def test_second_convolution_agrees_with_pytorch() -> None:
    layer = second_convolution()
    inputs = 300 * torch.rand(12, 7, 7, generator=torch.Generator().manual_seed(1))
    got, positions = run_second_layer(inputs, layer)
    expected, places = plain_second_layer(inputs, layer)
    torch.testing.assert_close(got, expected.float(), rtol=1e-5, atol=1e-4)
    assert torch.equal(positions.long(), places)


@pytest.mark.parametrize("flat", ["rows", "columns", "both", "black but for a corner"])
def test_equal_patches_of_the_second_convolution_tie_to_the_first_place(flat: str) -> None:
    layer = second_convolution()
    generator = torch.Generator().manual_seed(2)
    inputs = 300 * torch.rand(12, 7, 7, generator=generator)
    inside = slice(1, 3)  # Cells whose patches see no border.
    if flat in ("rows", "both"):
        inputs = inputs[:, :, 3:4].expand(12, 7, 7)
    if flat in ("columns", "both"):
        inputs = inputs[:, 3:4, :].expand(12, 7, 7)
    if flat == "black but for a corner":
        # The last pixel that a window reads: three of its places see nothing but black.
        inputs = torch.zeros(12, 7, 7)
        inputs[:, 4, 4] = 300 * torch.rand(12, generator=generator) - 150
    _, positions = run_second_layer(inputs, layer)
    allowed = {"rows": [0, 2], "columns": [0, 1], "both": [0], "black but for a corner": [0, 3]}[flat]
    cells = positions[:, 1, 1] if "black" in flat else positions[:, inside, inside]
    assert np.isin(cells.numpy(), allowed).all()


def test_nan_in_the_second_convolution_stays_in_the_windows_that_read_it() -> None:
    inputs = torch.rand(12, 7, 7, generator=torch.Generator().manual_seed(3))
    inputs[5, 6, 6] = float("nan")
    got, _ = run_second_layer(inputs, second_convolution())
    assert torch.isnan(got[:, 2, 2]).all()
    assert torch.isnan(got).sum() == 32
    inputs[5, 4, 4] = float("nan")
    got, _ = run_second_layer(inputs, second_convolution())
    assert torch.isnan(got[:, 1:, 1:]).all()
    assert torch.isfinite(got[:, 0]).all()
    assert torch.isfinite(got[:, :, 0]).all()


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
