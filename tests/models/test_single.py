"""What the fallback on the CPU does beyond the contract: memory formats, oneDNN, modules of any kind."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from histories import history_of
from jobs import alone, make_job, make_member
from test_trainers import assert_agree, assert_identical
from torch import Tensor, nn
from torch.backends import mkldnn
from torch.nn import functional

from pairsearch.models import nets, single
from pairsearch.models.single import SMALL_BATCH, SingleModel, evaluate

BATCH_SIZES = [1, SMALL_BATCH, SMALL_BATCH + 1, 25]


class Normalised(nets.Architecture):
    """A user's convolutional network with buffers; it flattens with `reshape`, which takes every memory format."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.convolution = nn.Conv2d(2, 4, 3)
        self.layer = nn.Linear(4 * 6 * 6, 2)
        self.unused = nn.Linear(3, 3)

    def flat(self, pictures: Tensor) -> Tensor:
        return pictures.reshape(len(pictures), -1)

    def forward(self, images: Tensor) -> Tensor:
        pictures = functional.avg_pool2d(functional.relu(self.convolution(self.norm(images))), 2)
        logits: Tensor = self.layer(self.flat(pictures))
        return logits


class Viewing(Normalised):
    """The same with `view`, which refuses images in channels-last format."""

    def flat(self, pictures: Tensor) -> Tensor:
        return pictures.view(len(pictures), -1)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are known by name."""
    monkeypatch.setattr(
        nets, "ARCHITECTURES", {**nets.ARCHITECTURES, "normalised": Normalised, "viewing": Viewing}
    )


@pytest.mark.parametrize("architecture", ["normalised", "viewing"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_any_module_trains_as_in_the_plain_loop(architecture: str, optimiser: str, batch_size: int) -> None:
    job = make_job(architecture, batch_size=batch_size, epochs=2, optimiser=optimiser)
    history, expected = history_of(single.train, job), history_of(reference.train, job)
    assert_agree(history, expected)
    for got, plain in zip(history.parameters, expected.parameters, strict=True):
        assert got.keys() == plain.keys()
        assert torch.equal(got["norm.num_batches_tracked"], plain["norm.num_batches_tracked"])
        assert torch.equal(got["unused.weight"], plain["unused.weight"])
        torch.testing.assert_close(got["norm.running_var"], plain["norm.running_var"], rtol=1e-4, atol=0)


@pytest.mark.parametrize("architecture", ["wsal", "normalised"])
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_bits_are_the_same_alone_and_beside_others(architecture: str, batch_size: int) -> None:
    members = tuple(make_member(n) for n in range(3))
    job = make_job(architecture, batch_size=batch_size, epochs=2, members=members)
    together = history_of(single.train, job)
    for k in range(3):
        assert_identical(history_of(single.train, alone(job, k)), together, [k])


@pytest.mark.parametrize(("architecture", "channels_last"), [("normalised", True), ("viewing", False)])
def test_larger_batches_run_channels_last_where_the_module_lets_them(
    architecture: str, channels_last: bool
) -> None:
    job = make_job(architecture, batch_size=25)
    model = SingleModel(job, job.members[0])
    model.train_epoch(0)
    weights = dict(model._net.named_parameters())["convolution.weight"]
    assert weights.is_contiguous(memory_format=torch.channels_last) == channels_last
    # Files of models need parameters in PyTorch's usual memory format.
    assert all(value.is_contiguous() for value in model.state_dict().values())


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_onednn_is_afterwards_as_it_was_before(before: bool, batch_size: int) -> None:
    job = make_job("b1", batch_size=batch_size, epochs=1)
    mkldnn.enabled = before
    try:
        history_of(single.train, job)
        assert mkldnn.enabled == before
        with pytest.raises(RuntimeError), single._onednn(enabled=False):
            raise RuntimeError
        assert mkldnn.enabled == before
    finally:
        mkldnn.enabled = True


def test_losses_are_means_over_all_pairs_also_of_a_partial_batch() -> None:
    # Steps of size zero do not change the weights, so the running mean equals an evaluation of the same pairs.
    member = make_member(0, learning_rate=1e-30, weight_decay=0.0)
    job = make_job("b1", batch_size=7, epochs=1, members=(member,))
    model = SingleModel(job, member)
    main, _ = model.train_epoch(0)
    expected = evaluate(model._net, member.train, None).main
    np.testing.assert_allclose(main, expected, rtol=1e-6)
