"""Synthetic training jobs: seeded images in which digits can be learnt, without any data set."""

from __future__ import annotations

from dataclasses import replace

import torch

from pairsearch.models.trainer import Member, Pairs, TrainingJob


def make_pairs(count: int, seed: int) -> Pairs:
    """Make pairs in which each digit is a random 14×14 pattern with noise; intensities 0 to 255 as in MNIST."""
    patterns = torch.rand(10, 14, 14, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 10, (count, 2), generator=generator)
    noise = torch.rand(count, 2, 14, 14, generator=generator)
    images = 255 * (0.7 * patterns[classes] + 0.3 * noise)
    return Pairs(images, (classes[:, 0] <= classes[:, 1]).long(), classes)


def make_member(number: int, pairs: int = 33, **rates: float) -> Member:
    """The member with a number, always the same; its random streams differ from those of all other numbers."""
    return Member(
        train=make_pairs(pairs, number),
        evaluation={"validation": make_pairs(21, 100 + number), "test": make_pairs(5, 200 + number)},
        init_seed=number,
        order_seed=1000 + number,
        **{"learning_rate": 1e-4, "weight_decay": 0.01, "aux_loss_weight": 2.0, **rates},
    )


def make_job(
    architecture: str = "wsal",
    *,
    batch_size: int = 10,
    epochs: int = 3,
    hidden_units: int | None = None,
    frozen: str | None = None,
    optimiser: str = "adam",
    members: tuple[Member, ...] | None = None,
) -> TrainingJob:
    """Make a job, by default of two members with different rates."""
    if members is None:
        members = (make_member(0), make_member(1, learning_rate=3e-4, weight_decay=0.0, aux_loss_weight=0.5))
    given = {"hidden_units": hidden_units, "frozen": frozen}
    arguments = {name: value for name, value in given.items() if value is not None}
    return TrainingJob(architecture, members, batch_size, epochs, arguments, optimiser)


def alone(job: TrainingJob, member: int) -> TrainingJob:
    """The same job with one of its members only."""
    return replace(job, members=(job.members[member],))
