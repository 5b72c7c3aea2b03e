"""Single kernels agree with PyTorch and NumPy: pooling of ties and NaN, layers, functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from histories import history_of
from jobs import make_job, make_member
from torch.nn import functional

from pairsearch.jit.compiling import compiled as jit
from pairsearch.models import compiled
from pairsearch.models.kernels import convolution, epoch, linear, updates
from pairsearch.models.kernels.emit import Emitter
from pairsearch.models.kernels.intrinsic import Address, Count, vector_kernel
from pairsearch.models.kernels.linear import matmul
from pairsearch.models.trainer import Pairs

PLACES = 4


@vector_kernel
def pool_vectors(e: Emitter, x: Address, best: Address, position: Address) -> None:
    """Eight windows of four places each, places first."""
    values = [e.load(e.at(x, place * 8), 8) for place in range(PLACES)]
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


PIXEL = convolution.PIXEL
TRANSFORMED = 16 * 12 * 32


@jit
def second_layer(source, weights, bias, work, output, positions):  # type: ignore[no-untyped-def]
    """Return a workspace: transformed weights (16, 12, 32), and scratch."""
    convolution.winograd_weights(weights, 0, work, TRANSFORMED, work, 0)
    convolution.forward2(source, 0, work, 0, bias, 0, work, TRANSFORMED, output, 0, positions, 0, 0)


def run_second_layer(inputs: torch.Tensor, layer: torch.nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the kernel's pooled outputs (32, 3, 3) and positions 0 to 3 for inputs (12, 7, 7)."""
    spare = PIXEL - 12
    padded = functional.pad(inputs, (1, 0, 1, 0, 0, spare))
    source = padded.permute(1, 2, 0).contiguous().flatten()
    weights = functional.pad(layer.weight.detach().permute(0, 2, 3, 1), (0, spare)).contiguous().flatten()
    work = np.zeros(TRANSFORMED + max(convolution.SCRATCH2, convolution.SCRATCH_WEIGHTS), np.float32)
    output, positions = np.zeros(288, np.float32), np.zeros(288, np.int32)
    source = functional.pad(source, (0, 16))  # the kernel reads more than the last pixel
    second_layer(source.numpy(), weights.numpy(), layer.bias.detach().numpy(), work, output, positions)
    row = 8 * PIXEL
    corners = 2 * (row * np.arange(3)[:, None, None] + PIXEL * np.arange(3)[None, :, None])
    places = np.searchsorted([0, PIXEL, row, row + PIXEL], positions.reshape(3, 3, 32) - corners)
    return tuple(torch.from_numpy(a).reshape(3, 3, 32).permute(2, 0, 1) for a in (output, places))


def plain_second_layer(inputs: torch.Tensor, layer: torch.nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same from PyTorch, in float64."""
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
    inside = slice(1, 3)  # The patches of these cells do not reach the border.
    if flat in ("rows", "both"):
        inputs = inputs[:, :, 3:4].expand(12, 7, 7)
    if flat in ("columns", "both"):
        inputs = inputs[:, 3:4, :].expand(12, 7, 7)
    if flat == "black but for a corner":
        # Only the last pixel that a window reads is set: three of its places see nothing but black.
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


@jit
def add_rows(x, rows, columns, y):  # type: ignore[no-untyped-def]
    linear.sum_rows(x, 0, rows, columns, y, 0)


SIZES = [(288, 120), (120, 88), (88, 16), (32, 8), (24, 104)]


def layer_of(rows: int, inputs: int, outputs: int) -> tuple[np.ndarray, ...]:
    """x (rows, inputs), w (inputs, outputs), dy (rows, outputs), bias (outputs,)."""
    random = np.random.default_rng(rows)
    shapes = ((rows, inputs), (inputs, outputs), (rows, outputs), (outputs,))
    return tuple(random.standard_normal(shape, np.float32) for shape in shapes)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 8, 50, 100])
@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_linear_layers_of_every_tile_agree_with_numpy(rows: int, inputs: int, outputs: int) -> None:
    x, w, dy, bias = layer_of(rows, inputs, outputs)
    y, dw, dx, db = (np.full_like(like, np.nan) for like in (dy, w, x, bias))
    block = linear.BLOCK
    scratch = np.zeros(max(outputs, block) + block * outputs, np.float32)
    turned = max(outputs, block)
    matmul(
        x.ravel(), 0, inputs, 1, w.ravel(), 0, outputs, bias, 0, y.ravel(), 0, outputs, rows, outputs, inputs
    )
    matmul(
        x.ravel(),
        0,
        1,
        inputs,
        dy.ravel(),
        0,
        outputs,
        scratch,
        0,
        dw.ravel(),
        0,
        outputs,
        inputs,
        outputs,
        rows,
    )
    for i in range(0, inputs, block):
        height = min(block, inputs - i)
        linear.input_gradient(
            dy.ravel(),
            0,
            w.ravel(),
            i * outputs,
            dx.ravel(),
            i,
            scratch,
            turned,
            0,
            rows,
            inputs,
            height,
            outputs,
        )
    add_rows(dy.ravel(), rows, outputs, db)
    np.testing.assert_allclose(y, x @ w + bias, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dw, x.T @ dy, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dx, dy @ w.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(db, dy.sum(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rule", [updates.ADAM, updates.SGD_MOMENTUM])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_one_pass_over_a_layer_updates_it_as_its_gradient_does(
    rule: int, rows: int, inputs: int, outputs: int
) -> None:
    x, w, dy, _ = layer_of(rows, inputs, outputs)
    rates = np.zeros(updates.RATES, np.float32)
    updates.set_rates(rule, rates, 3, 0.01, 0.1)
    state = np.random.default_rng(9).random(2 * w.size, np.float32)
    twice = np.concatenate([dy, dy], axis=1).ravel()
    floats = np.concatenate([x.ravel(), twice, np.full(x.size, np.nan, np.float32)])
    passed, passed_state = w.ravel().copy(), state.copy()
    dx = x.size + twice.size
    updates.step_rows(rule, passed, 0, floats, 0, x.size, dx, rows, inputs, outputs, passed_state, rates)
    np.testing.assert_allclose(floats[dx:].reshape(x.shape), dy @ w.T, rtol=1e-4, atol=1e-4)
    stored, gradient, zeros = w.ravel().copy(), np.empty_like(w).ravel(), np.zeros(outputs, np.float32)
    matmul(
        x.ravel(), 0, 1, inputs, dy.ravel(), 0, outputs, zeros, 0, gradient, 0, outputs, inputs, outputs, rows
    )
    updates.update(rule, stored, 0, gradient, 0, state, rates, w.size)
    np.testing.assert_array_equal(passed, stored)
    np.testing.assert_array_equal(passed_state, state)


@vector_kernel
def apply_functions(e: Emitter, a: Address, b: Address, power: Address, ratio: Address, units: Count) -> None:
    """power = exp(a), ratio = a / b."""
    for at, lanes in e.over_units(units):
        x, y = e.load(e.at(a, at), lanes), e.load(e.at(b, at), lanes)
        e.store(e.exponential(x), e.at(power, at))
        e.store(e.divide(x, y), e.at(ratio, at))


@jit
def functions(a, b, power, ratio):  # type: ignore[no-untyped-def]
    apply_functions(a, 0, b, 0, power, 0, ratio, 0, len(a) // 8)


def test_exponential_and_quotient_are_exact_to_two_units_in_the_last_place() -> None:
    random = np.random.default_rng(0)
    a = -np.concatenate([random.uniform(0, 80, 40_000), random.exponential(1e-3, 40_000)]).astype(np.float32)
    b = np.exp(random.uniform(np.log(1e-8), np.log(1e20), a.size)).astype(np.float32)
    power, ratio = np.empty_like(a), np.empty_like(a)
    functions(a, b, power, ratio)
    for got, exact in ((power, np.exp(a.astype(float))), (ratio, a.astype(float) / b)):
        normal = np.abs(exact) > np.finfo(np.float32).tiny
        error = np.abs(got - exact)[normal] / np.spacing(np.abs(exact[normal]).astype(np.float32))
        assert error.max() < 2
    nan, inf = np.float32(np.nan), np.float32(np.inf)
    edge = np.array([0, -inf, nan, -87.5, -1, -1, -1, -1], np.float32)
    below = np.array([1, 1, 1, 1, nan, inf, 1e38, 1e-8], np.float32)
    power, ratio = np.empty_like(edge), np.empty_like(edge)
    functions(edge, below, power, ratio)
    np.testing.assert_array_equal(power[:4], np.array([1, 0, nan, 0], np.float32))
    assert np.isnan(ratio[4])
    np.testing.assert_allclose(ratio[5:], [0, -1e-38, -1e8], rtol=1e-6, atol=3e-38)


def test_logarithm_is_exact_to_one_unit_in_the_last_place() -> None:
    values = np.random.default_rng(0).uniform(1, 10, 5_000).astype(np.float32)
    got = np.array([epoch.logarithm(value) for value in values])
    exact = np.log(values.astype(float))
    assert (np.abs(got - exact) <= np.spacing(exact.astype(np.float32))).all()
    assert epoch.logarithm(np.float32(1)) == 0
    assert np.isnan(epoch.logarithm(np.float32(np.nan)))


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e4])
def test_cross_entropy_and_its_gradient_agree_with_pytorch(scale: float) -> None:
    logits = (scale * torch.randn(10, generator=torch.Generator().manual_seed(0))).requires_grad_()
    padded = np.pad(logits.detach().numpy(), (0, 6))
    expected = functional.cross_entropy(logits, torch.tensor(3))
    expected.backward()
    gradient = np.full(16, np.nan, np.float32)
    got = epoch.cross_entropy(padded, 0, 10, 3, gradient, 0, np.float32(1))
    assert got == pytest.approx(float(expected.detach()), rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(gradient[:10], logits.grad.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(gradient[10:], 0)


def test_labels_that_the_kernels_could_not_index_are_refused() -> None:
    member = make_member(0)
    pairs = member.train
    bad = Pairs(pairs.images, pairs.target, pairs.classes + 1)
    job = make_job(members=(replace(member, train=bad),))
    with pytest.raises(ValueError, match=r"^classes: expected values 0 to 9, got \d+ to 10$"):
        compiled.train(job)


@pytest.mark.parametrize(
    "change",
    [
        lambda pairs: pairs._replace(images=pairs.images.double()),
        lambda pairs: pairs._replace(images=pairs.images[:, :, 1:]),
        lambda pairs: pairs._replace(target=pairs.target[1:]),
        lambda pairs: pairs._replace(classes=pairs.classes[:, :1]),
        lambda pairs: Pairs(*(values[1:] for values in pairs)),
    ],
)
def test_sets_of_other_types_and_shapes_are_refused_before_a_kernel_reads_them(
    change: Callable[[Pairs], Pairs],
) -> None:
    other = make_member(1)
    with pytest.raises(
        ValueError, match=r"^member 1: train: expected float32 images, targets and classes of the"
    ):
        make_job(members=(make_member(0), replace(other, train=change(other.train))))


def test_whole_numbers_as_rates_train_like_floats() -> None:
    as_floats = make_job("b1", epochs=1, members=(make_member(0, weight_decay=0.0, aux_loss_weight=1.0),))
    as_integers = make_job("b1", epochs=1, members=(make_member(0, weight_decay=0, aux_loss_weight=1),))
    one, other = (history_of(compiled.train, job) for job in (as_floats, as_integers))
    np.testing.assert_array_equal(one.train_loss, other.train_loss)
