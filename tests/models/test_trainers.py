"""Every trainer keeps the contract, and the fast ones agree with the reference loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import reference
import torch
from histories import History, Trainer, history_of
from jobs import alone, make_job, make_member
from torch import Tensor

from pairsearch.models import compiled
from pairsearch.models.nets import Phase, Pretrained, build, build_seeded, split_logits
from pairsearch.models.single import evaluate
from pairsearch.models.trainer import Pairs, TrainingJob

# Two trainers add the same numbers in different orders, which moves a float32 sum by about 1e-7 of its size.
# Adam divides a gradient by its own size, so that a gradient near zero may turn such a difference into a
# whole step of the learning rate; at 1e-4 and after a few dozen steps the losses then agree to about 1e-5,
# and to 2e-3 with room for other processors' kernels.
TOLERANCE = 2e-3

CLENET = {f"clenet.{name}" for name in ("conv1", "conv2", "fc1", "fc2", "fc3")}
HEAD = {"head.fc1", "head.fc2"}


def assert_agree(got: History, expected: History, tolerance: float = TOLERANCE) -> None:
    """Equal losses epoch by epoch, and errors equal up to a pair on the edge."""
    assert got.diverged == expected.diverged
    np.testing.assert_allclose(got.train_loss, expected.train_loss, rtol=tolerance)
    assert got.evaluation.keys() == expected.evaluation.keys()
    for name, curves in expected.evaluation.items():
        np.testing.assert_allclose(got.evaluation[name].loss, curves.loss, rtol=tolerance)
        np.testing.assert_allclose(
            got.evaluation[name].error, curves.error, atol=0.21 if name == "test" else 0.06
        )


def assert_identical(got: History, expected: History, members: list[int]) -> None:
    """Assert that member n of `got` equals member members[n] of `expected`, bit for bit."""
    np.testing.assert_array_equal(got.train_loss, expected.train_loss[members])
    for name, curves in expected.evaluation.items():
        np.testing.assert_array_equal(got.evaluation[name].loss, curves.loss[members])
        np.testing.assert_array_equal(got.evaluation[name].error, curves.error[members])
    assert got.diverged == tuple(expected.diverged[k] for k in members)
    for parameters, k in zip(got.parameters, members, strict=True):
        for name, value in expected.parameters[k].items():
            assert torch.equal(parameters[name], value), name


@cache
def of_the_reference(architecture: str, **changes: Any) -> tuple[TrainingJob, History]:
    """A job, and what the reference loop gives for it: once for all trainers that are held to it."""
    job = make_job(architecture, **changes)
    return job, history_of(reference.train, job)


# Long trainings, of the reference and of the one that trains the most; steps of the others are held to the reference.
LEARNING = pytest.mark.parametrize("trainer", ["reference", "compiled"], indirect=True)


@pytest.mark.parametrize("architecture", ["b1", "b2", "ws", "wsal", "pretrained"])
@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_agrees_with_the_reference_on_every_architecture_and_batch_size(
    fast_trainer: Trainer, architecture: str, batch_size: int
) -> None:
    # 33 pairs leave a partial last batch at 7, and a single partial batch at 50.
    job, expected = of_the_reference(architecture, batch_size=batch_size, epochs=2)
    assert_agree(fast_trainer(job), expected)


@pytest.mark.parametrize("architecture", ["b2", "ws", "wsal"])
@pytest.mark.parametrize("hidden_units", [1, 10, 100])
def test_agrees_with_the_reference_on_every_hidden_size(
    fast_trainer: Trainer, architecture: str, hidden_units: int
) -> None:
    job, expected = of_the_reference(architecture, hidden_units=hidden_units, epochs=2)
    assert_agree(fast_trainer(job), expected)


@pytest.mark.parametrize("architecture", ["b1", "wsal"])
def test_agrees_with_the_reference_under_sgd(fast_trainer: Trainer, architecture: str) -> None:
    members = (make_member(0, learning_rate=1e-6), make_member(1, learning_rate=1e-5, weight_decay=0.1))
    job = make_job(architecture, optimiser="sgd", members=members)
    # Without Adam's division, errors of rounding stay small.
    assert_agree(fast_trainer(job), history_of(reference.train, job), tolerance=1e-5)


def test_agrees_with_the_reference_on_the_final_parameters(fast_trainer: Trainer) -> None:
    job = make_job("wsal", batch_size=25, optimiser="sgd", members=(make_member(0, learning_rate=1e-6),))
    got, expected = fast_trainer(job).parameters[0], history_of(reference.train, job).parameters[0]
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("frozen", "batch_size"), [("convolutions", 7), ("all", 1)])
def test_agrees_with_the_reference_on_what_is_frozen(
    fast_trainer: Trainer, frozen: str, batch_size: int
) -> None:
    members = (make_member(0, learning_rate=1e-6), make_member(1, learning_rate=1e-5, weight_decay=0.1))
    job = make_job(
        "pretrained", batch_size=batch_size, frozen=frozen, optimiser="sgd", members=members, epochs=2
    )
    got, expected = fast_trainer(job), history_of(reference.train, job)
    assert_agree(got, expected, tolerance=1e-5)
    for one, other in zip(got.parameters, expected.parameters, strict=True):
        for name, value in other.items():
            torch.testing.assert_close(one[name], value, rtol=1e-4, atol=1e-6)


def changed(before: Sequence[Mapping[str, Tensor]], after: Sequence[Mapping[str, Tensor]]) -> set[str]:
    """The beginnings of the names of all parameters that differ in some member."""
    pairs = list(zip(before, after, strict=True))
    names = [name for one, other in pairs for name in one if not torch.equal(one[name], other[name])]
    return {name.rsplit(".", 1)[0] for name in names}


def pre_trained(trainer: Trainer, job: TrainingJob) -> Sequence[Mapping[str, Tensor]]:
    """The parameters of a job of two epochs after the first one, which trains on the digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretrained, "phases", lambda *_: (Phase(1, digits_only=True, frozen=("head.",)),))
        return trainer(replace(job, epochs=1)).parameters


@pytest.mark.parametrize(
    ("optimiser", "batch_size", "frozen", "compared"),
    [
        ("adam", 10, "convolutions", {*CLENET, *HEAD} - {"clenet.conv1", "clenet.conv2"}),
        ("sgd", 1, "all", HEAD),
    ],
)
def test_each_phase_of_a_pre_trained_model_changes_its_own_parameters_only(
    trainer: Trainer, optimiser: str, batch_size: int, frozen: str, compared: set[str]
) -> None:
    rate = 1e-3 if optimiser == "adam" else 1e-6
    members = tuple(make_member(n, learning_rate=rate, weight_decay=0.1) for n in range(2))
    job = make_job(
        "pretrained", batch_size=batch_size, frozen=frozen, optimiser=optimiser, members=members, epochs=2
    )
    initial = [build_seeded("pretrained", job.arguments, member.init_seed).state_dict() for member in members]
    between = pre_trained(trainer, job)
    assert changed(initial, between) == CLENET
    assert changed(between, trainer(job).parameters) == compared


def test_pre_training_sees_the_digits_and_not_which_is_larger(trainer: Trainer) -> None:
    job = make_job("pretrained", epochs=2)
    others = tuple(
        replace(one, train=Pairs(one.train.images, 1 - one.train.target, one.train.classes))
        for one in job.members
    )
    assert not changed(pre_trained(trainer, job), pre_trained(trainer, replace(job, members=others)))


@LEARNING
def test_pre_training_teaches_the_digits_and_the_comparison_follows(trainer: Trainer) -> None:
    member = make_member(0, pairs=80, learning_rate=1e-3)
    job = make_job("pretrained", batch_size=5, epochs=16, frozen="all", members=(member,))
    history = trainer(job)
    net = build("pretrained", frozen="all")
    net.load_state_dict(dict(history.parameters[0]))
    _, digits = split_logits(net(member.train.images))
    assert digits is not None
    assert (digits.argmax(-1) == member.train.classes).double().mean() > 0.9
    assert history.train_loss[0, -1] < 0.8 * history.train_loss[0, 8]


def test_agrees_with_the_reference_where_maxima_tie(fast_trainer: Trainer) -> None:
    # In images of one shade the four places of most windows tie: the gradient must go to the same one.
    job = make_job(optimiser="sgd", members=(make_member(0, learning_rate=1e-6),))
    flat = job.members[0].train.images.round(decimals=-2).amax((2, 3), keepdim=True).expand(-1, -1, 14, 14)
    pairs = Pairs(flat.contiguous(), job.members[0].train.target, job.members[0].train.classes)
    job = replace(job, members=(replace(job.members[0], train=pairs),))
    assert_agree(fast_trainer(job), history_of(reference.train, job), tolerance=1e-5)


@pytest.mark.parametrize("architecture", ["b1", "wsal"])
def test_agrees_with_the_reference_where_images_are_black(fast_trainer: Trainer, architecture: str) -> None:
    # Black windows are not computed, so the images have different black margins; one is black, one has a single pixel.
    job = make_job(architecture, optimiser="sgd", members=(make_member(0, learning_rate=1e-6),))
    images = job.members[0].train.images.clone()
    images[:, 0, :5] = 0
    images[:, 1, 8:] = 0
    images[:, :, :, 11:] = 0
    images[3, 1] = 0
    images[4] = 0
    images[4, 0, 7, 6] = 200
    pairs = Pairs(images, job.members[0].train.target, job.members[0].train.classes)
    job = replace(job, members=(replace(job.members[0], train=pairs),))
    assert_agree(fast_trainer(job), history_of(reference.train, job), tolerance=1e-5)


@LEARNING
def test_learns(trainer: Trainer) -> None:
    history = trainer(
        make_job("wsal", batch_size=5, epochs=8, members=(make_member(0, pairs=80, learning_rate=1e-3),))
    )
    assert history.train_loss[0, -1] < 0.8 * history.train_loss[0, 0]


def test_curves_have_a_row_per_member_and_a_column_per_epoch(trainer: Trainer) -> None:
    history = trainer(make_job("b1", batch_size=50, epochs=4))
    assert history.train_loss.shape == (2, 4)
    assert set(history.evaluation) == {"validation", "test"}
    for curves in history.evaluation.values():
        assert curves.loss.shape == curves.error.shape == (2, 4)
        assert curves.loss.dtype == curves.error.dtype == np.float64
        assert ((curves.error >= 0) & (curves.error <= 1)).all()
    assert history.diverged == (None, None)


def test_training_is_deterministic(trainer: Trainer) -> None:
    job = make_job("ws", batch_size=7)
    assert_identical(trainer(job), trainer(job), [0, 1])


def test_final_parameters_load_into_the_plain_module_and_give_its_last_evaluation(trainer: Trainer) -> None:
    job = make_job("wsal", hidden_units=10)
    history = trainer(job)
    for k, member in enumerate(job.members):
        net = build("wsal", hidden_units=10)
        net.load_state_dict(dict(history.parameters[k]))
        result = evaluate(net, member.evaluation["validation"], None)
        assert result.main == pytest.approx(history.evaluation["validation"].loss[k, -1], rel=1e-4)
        assert result.error == pytest.approx(history.evaluation["validation"].error[k, -1], abs=0.05)


def test_a_callback_sees_every_epoch_and_ends_the_job_by_an_exception(trainer: Trainer) -> None:
    seen: list[int] = []

    def end(epoch: int, *_: object) -> None:
        seen.append(epoch)
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(make_job("b2", epochs=5), on_epoch=end)
    assert seen == [1, 2]


def test_the_auxiliary_weight_changes_wsal_alone(trainer: Trainer) -> None:
    def final_loss(architecture: str, weight: float) -> float:
        job = make_job(architecture, epochs=1, members=(make_member(0, aux_loss_weight=weight),))
        return float(trainer(job).train_loss[0, -1])

    assert final_loss("wsal", 0.0) != final_loss("wsal", 5.0)
    assert final_loss("ws", 0.0) == final_loss("ws", 5.0)


def test_a_diverging_member_is_recorded_in_its_epoch_and_leaves_the_others_alone(trainer: Trainer) -> None:
    # Steps of 1e30 overflow float32 within the first epochs.
    sane = make_member(0)
    wild = make_member(1, learning_rate=1e30)
    job = make_job("wsal", batch_size=10, epochs=4, members=(sane, wild))
    history, expected = trainer(job), history_of(reference.train, job)
    assert history.diverged == expected.diverged
    assert history.diverged[0] is None
    epoch = history.diverged[1]
    assert epoch is not None
    losses = [history.train_loss[1], *(curves.loss[1] for curves in history.evaluation.values())]
    assert not all(np.isfinite(loss[epoch - 1]) for loss in losses)
    assert all(np.isnan(loss[epoch:]).all() for loss in losses)
    undisturbed = trainer(alone(job, 0))
    np.testing.assert_allclose(history.train_loss[:1], undisturbed.train_loss, rtol=TOLERANCE)


@pytest.mark.parametrize(
    ("architecture", "value"),
    [("b1", float("nan")), ("wsal", float("inf")), ("pretrained", float("nan"))],
)
def test_a_bad_pixel_is_noticed_in_the_first_epoch(trainer: Trainer, architecture: str, value: float) -> None:
    member = make_member(0)
    images = member.train.images.clone()
    images[17, 1, 6, 7] = value
    pairs = Pairs(images, member.train.target, member.train.classes)
    job = make_job(architecture, members=(replace(member, train=pairs), make_member(1)))
    assert trainer(job).diverged == (1, None)


def test_a_bad_evaluation_set_counts_as_diverged(trainer: Trainer) -> None:
    member = make_member(0)
    images = member.evaluation["test"].images.clone()
    images[4] = float("nan")
    bad = Pairs(images, member.evaluation["test"].target, member.evaluation["test"].classes)
    job = make_job("ws", members=(replace(member, evaluation={**member.evaluation, "test": bad}),))
    history = trainer(job)
    assert history.diverged == (1,)
    assert np.isfinite(history.train_loss[0, 0])
    assert np.isnan(history.evaluation["test"].loss[0, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "lenet"},
            r"^unknown architecture 'lenet': expected one of b1, b2, ws, wsal, pretrained$",
        ),
        ({"optimiser": "lion"}, r"^unknown optimiser 'lion': expected one of adam, sgd$"),
        (
            {"architecture": "b1", "arguments": {"hidden_units": 50}},
            r"^architecture 'b1' takes no hidden_units",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(
    trainer: Trainer, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(replace(make_job(), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ["b1", "wsal", "pretrained"])
@pytest.mark.parametrize("batch_size", [1, 10])
def test_compiled_results_are_the_same_bits_whatever_is_beside_them(
    architecture: str, batch_size: int
) -> None:
    members = tuple(make_member(n, learning_rate=10.0 ** (-5 + n)) for n in range(4))
    job = make_job(architecture, batch_size=batch_size, epochs=2, members=members)
    together = history_of(compiled.train, job)
    for k in range(len(members)):
        assert_identical(history_of(compiled.train, alone(job, k)), together, [k])
    backwards = replace(job, members=members[::-1])
    for threads in (2, 3):
        assert_identical(history_of(compiled.train, job, threads=threads), together, [0, 1, 2, 3])
        assert_identical(history_of(compiled.train, backwards, threads=threads), together, [3, 2, 1, 0])


def test_compiled_members_that_diverge_leave_other_threads_alone() -> None:
    members = (make_member(0), make_member(1, learning_rate=1e30), make_member(2))
    job = make_job("wsal", epochs=4, members=members)
    together = history_of(compiled.train, job, threads=2)
    assert [epoch is None for epoch in together.diverged] == [True, False, True]
    for k in (0, 2):
        assert_identical(history_of(compiled.train, alone(job, k)), together, [k])


def test_torch_results_on_the_cpu_are_the_same_bits_whatever_is_beside_them(
    trainer: Trainer, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["trainer"] == "torch-stacked":
        pytest.skip("stacked CPU operations choose their kernels by the stack's size")
    job = make_job("wsal", members=tuple(make_member(n) for n in range(3)), epochs=2)
    together = trainer(job)
    for k in range(3):
        assert_identical(trainer(alone(job, k)), together, [k])


def test_results_do_not_depend_on_pytorch_threads(trainer: Trainer) -> None:
    job = make_job("wsal", batch_size=25, epochs=2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = trainer(job)
        torch.set_num_threads(2)
        assert_identical(trainer(job), one, [0, 1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
