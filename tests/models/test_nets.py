"""Architectures have the right parameter counts, shapes and names, and declare themselves rightly."""

from __future__ import annotations

import pytest
import torch

from pairsearch.models import nets
from pairsearch.models.nets import (
    ARCHITECTURES,
    Phase,
    architecture_class,
    build,
    build_seeded,
    schedule,
    split_logits,
    trained,
)


@pytest.mark.parametrize(
    ("architecture", "count"), [("b1", 48_730), ("b2", 51_412), ("ws", 50_454), ("wsal", 51_604)]
)
def test_parameter_counts_are_those_of_table_1(architecture: str, count: int) -> None:
    assert sum(p.numel() for p in build(architecture).parameters()) == count


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("batch", [1, 7])
def test_forward_gives_main_logits_and_digit_logits_of_sharing_models(architecture: str, batch: int) -> None:
    output = build(architecture.upper())(torch.rand(batch, 2, 14, 14))
    main, digits = split_logits(output)
    assert main.shape == (batch, 2)
    if architecture in ("ws", "wsal", "pretrained"):
        assert digits is not None
        assert digits.shape == (batch, 2, 10)
    else:
        assert digits is None


@pytest.mark.parametrize("hidden_units", [1, 10, 100])
def test_hidden_units_set_the_width_of_the_head(hidden_units: int) -> None:
    head = build("b2", hidden_units=hidden_units).head
    assert (head.fc1.in_features, head.fc1.out_features, head.fc2.out_features) == (20, hidden_units, 2)


def test_digit_logits_of_an_image_do_not_depend_on_its_side() -> None:
    net = build("ws")
    images = torch.rand(3, 2, 14, 14)
    _, digits = net(images)
    _, swapped = net(images.flip(1))
    torch.testing.assert_close(digits, swapped.flip(1))


def test_architectures_say_what_they_use() -> None:
    uses = {name: (a.default_hidden_units, a.uses_aux_loss) for name, a in ARCHITECTURES.items()}
    assert uses == {
        "b1": (None, False), "b2": (50, False), "ws": (50, False), "wsal": (100, True), "pretrained": (100, False),
    }  # fmt: skip


def test_seeded_weights_depend_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (build_seeded("b1", {}, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.clenet.conv1.weight, same.clenet.conv1.weight)
    assert not torch.equal(one.clenet.conv1.weight, other.clenet.conv1.weight)


def test_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"^unknown architecture 'lenet': expected one of b1, b2, ws, wsal, pretrained$"
    ):
        architecture_class("lenet")


@pytest.mark.parametrize("hidden_units", [0, -3])
def test_hidden_units_below_one_are_refused(hidden_units: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^hidden_units: expected an integer of 1 to 1000000, got {hidden_units}$"
    ):
        build("ws", hidden_units=hidden_units)


def test_pre_training_starts_from_the_same_weights_as_the_auxiliary_loss() -> None:
    one, other = (build_seeded(name, {}, 3).state_dict() for name in ("pretrained", "wsal"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, [False]), (2, [True, False]), (5, [True, True, False, False, False])]
)
def test_pre_training_takes_half_of_the_epochs(epochs: int, expected: list[bool]) -> None:
    phases = schedule(build("pretrained"), epochs)
    assert [phase.digits_only for phase, _ in phases] == expected
    assert [before for _, before in phases] == [*range(sum(expected)), *range(epochs - sum(expected))]


def test_the_other_architectures_train_all_their_parameters_in_every_epoch() -> None:
    for name in ("b1", "b2", "ws", "wsal"):
        module = build(name)
        assert schedule(module, 2) == [(Phase(2), 0), (Phase(2), 1)]
        assert trained(module, Phase(2)) == list(module.parameters())


@pytest.mark.parametrize(("frozen", "count"), [("convolutions", 51_604 - 3_608), ("all", 2_302)])
def test_what_is_frozen_is_not_trained_on_the_comparison(frozen: str, count: int) -> None:
    module = build("pretrained", frozen=frozen)
    (digits, _), (comparison, _) = schedule(module, 2)
    assert sum(value.numel() for value in trained(module, comparison)) == count
    assert trained(module, digits) == list(module.clenet.parameters())


def test_an_unknown_part_to_freeze_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^frozen: expected 'convolutions' or 'all', got 'some'$"):
        build("pretrained", frozen="some")
    with pytest.raises(ValueError, match=r"^architecture 'ws' takes no frozen$"):
        build("ws", frozen="all")


def test_hidden_units_for_an_architecture_without_any_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^architecture 'b1' takes no hidden_units$"):
        build("b1", hidden_units=50)


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [(nets.Linear, torch.nn.Linear, (288, 120)), (nets.Conv2d, torch.nn.Conv2d, (12, 32, 3))],
)
def test_initial_weights_are_pytorchs_own(
    ours: type[torch.nn.Module], theirs: type[torch.nn.Module], shape: tuple[int, ...]
) -> None:
    """The last bit may differ: a build of PyTorch without fused multiply-add rounds the product first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        got = ours(*shape)
        torch.manual_seed(5)
        expected = theirs(*shape)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(got.state_dict()[name], value, rtol=2e-7, atol=1e-8)
