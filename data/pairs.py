"""Draws pairs of 14×14 digit images from a source by a seeded generator.

The target is 1 where the first digit is <= the second, else 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pairsearch.data.errors import DataError
from pairsearch.data.sources import Source, Split

SIDE = 14
"""Height and width of an image in a pair, in pixels."""


@dataclass(frozen=True, eq=False)
class PairSet:
    """N pairs of images.

    Args:
        images: (N, 2, 14, 14) float32, raw intensities 0 to 255 unless standardised.
        target: (N,) int64, 1 where `classes[:, 0] <= classes[:, 1]`, else 0.
        classes: (N, 2) int64, the digits 0 to 9.
        indices: (N, 2) int64, the position of each image in its split of the source, different within a pair.
    """

    images: Tensor
    target: Tensor
    classes: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def subset(self, index: Tensor | Sequence[int] | npt.NDArray[np.int64]) -> PairSet:
        """Return copies of the pairs at the positions `index`, 0 to N − 1, in that order."""
        rows = torch.as_tensor(index, dtype=torch.int64)
        return PairSet(self.images[rows], self.target[rows], self.classes[rows], self.indices[rows])


def draw(source: Source, split: Split, count: int, seed: int, field: str = "sample_size") -> PairSet:
    """Draw `count` pairs of images: a random permutation of the images, paired up in its order.

    Where the count needs more images than there are and `source.repeats`, further permutations follow, so that an
    image is used again only when all others have been used (but one, where their number is odd).

    Args:
        split: `train` or `test`; the other split is not read.
        count: number of pairs, >= 1.
        seed: 0 to 2**63 − 1; equal seeds give equal bytes.
        field: the name of the setting that gives the count, for messages.

    Raises:
        DataError: too few images.
    """
    pool = torch.arange(len(source.pool(split)[0]))
    random = torch.Generator().manual_seed(seed)
    return gather(source, split, draw_indices(source, split, pool, count, random, field))


def draw_indices(
    source: Source,
    split: Split,
    pool: Tensor,
    count: int,
    random: torch.Generator,
    field: str = "sample_size",
) -> Tensor:
    """Draw `count` pairs from the distinct positions `pool`, (P,) int64, and return them as (count, 2) int64.

    `draw` describes the other arguments and the errors.
    """
    needed = 2 * count
    if not source.repeats and needed > len(pool):
        images = {"train": "training", "test": "test"}[split]
        raise DataError(
            f"{count} pairs need {needed} distinct images; {source.name} has {len(pool)} {images} images: "
            f"lower {field}"
        )
    usable = len(pool) - len(pool) % 2  # no pair may span two permutations
    if usable == 0:
        raise DataError(
            f"{field}: {count} pairs asked of {len(pool)} {source.name} images; expected 2 or more images"
        )
    passes = math.ceil(needed / usable)
    order = torch.cat([torch.randperm(len(pool), generator=random)[:usable] for _ in range(passes)])
    return pool[order[:needed]].reshape(count, 2)


def gather(source: Source, split: Split, indices: Tensor) -> PairSet:
    """Return the pairs whose images stand at `indices`, (N, 2) int64, in a split of the source."""
    images, labels = source.pool(split)
    classes = labels[indices]
    pixels = shrink(images[indices.flatten()]).reshape(len(indices), 2, SIDE, SIDE)
    target = (classes[:, 0] <= classes[:, 1]).long()
    return PairSet(pixels, target, classes, indices)


def shrink(images: Tensor) -> Tensor:
    """Return images as float32 at 14×14: (N, 28, 28) uint8 by 2×2 average pooling, (N, 14, 14) uint8 unchanged.

    The mean of four integers up to 255 is exact in float32 in any order, so they are summed as 16-bit integers, which
    take less memory.
    """
    if images.shape[-1] == SIDE:
        return images.float()
    rows = images[:, ::2].short() + images[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]).float() / 4


def standardise(train: PairSet, other: PairSet) -> tuple[PairSet, PairSet]:
    """Return two sets, shifted and scaled by mean and deviation (`scale_of`) of the first one's raw images."""
    scale = scale_of(train)
    one, two = (replace(pairs, images=scale.apply(pairs.images)) for pairs in (train, other))
    return one, two


class Scale(BaseModel):
    """The mean and the (population) standard deviation by which raw intensities, 0 to 255, are standardised."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: Annotated[float, Field(allow_inf_nan=False)]
    deviation: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    def apply(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation


def scale_of(train: PairSet) -> Scale:
    """Compute mean and deviation over all pixels of raw training images; raises a DataError where all are equal."""
    # Raw intensities are whole quarters, so these float64 sums are exact and do not depend on the number of threads.
    pixels = train.images.double()
    mean = pixels.sum().item() / pixels.numel()
    variance = pixels.square().sum().item() / pixels.numel() - mean**2
    if not variance > 0:
        raise DataError(f"standardise: every training pixel is {mean:g}; expected images that differ")
    return Scale(mean=mean, deviation=math.sqrt(variance))
