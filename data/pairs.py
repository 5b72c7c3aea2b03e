"""Draws pairs of 14×14 digit images from a source by a seeded generator, and makes the folds of a search from them.

The target is 1 where the first digit is <= the second, else 0.

Folds are made from training images alone, by one of two protocols. Within a fold, training and validation pairs never
share an image. That is so by itself where a sample takes each image once. Where it repeats images (the digits, at more
than 648 pairs), an image could end on both sides, so the images are divided first and pairs are drawn within each part:

* `resample`: the training images are divided at random in the proportion of training to validation pairs (at
  least two images on either side), and each set is drawn from its side;
* `kfold`: the training images are divided at random into as many groups as there are folds, and each group
  gives an equal share of the sample's pairs. Fold k validates on the pairs of group k and trains on all others. As
  pairs are drawn within groups, the target is not stratified there.
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
from pairsearch.data.splits import Index, groups, hold_out, stratified_groups

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


@dataclass(frozen=True, eq=False)
class Fold:
    """A training set and a validation set that share no image."""

    train: PairSet
    validation: PairSet


def make_folds(
    source: Source,
    *,
    folds: int,
    sample_size: int,
    validation_size: int | None,
    sample_seeds: Sequence[int],
    split_seeds: Sequence[int],
) -> list[Fold]:
    """Make the folds of a search, with raw intensities; of the source only the training images are read.

    Args:
        folds: number of folds, >= 1 for `resample`, >= 2 for `kfold`.
        sample_size: pairs in a sample, training and validation together; at least 2.
        validation_size: pairs that `resample` holds out of each sample, 1 to sample_size − 1; None for `kfold`, which
            divides one sample into the folds, shuffled and stratified on the target.
        sample_seeds: a seed for each sample, so `folds` of them for `resample` and one for `kfold`; more are not read.
        split_seeds: a seed for the split of each sample, as many as `sample_seeds`.

    Returns:
        `folds` folds. Equal arguments give equal bytes, and fold k of `resample` depends on no other seeds than its
        own two.

    Raises:
        DataError: there are too few images or folds; names the field, what was given and what was expected.
    """
    if validation_size is not None:
        return [
            _resampled(source, sample_size, validation_size, sample_seed, split_seed)
            for sample_seed, split_seed in zip(sample_seeds[:folds], split_seeds[:folds], strict=True)
        ]
    if folds < 2:
        raise DataError(f"folds: {folds} given; kfold needs at least 2")
    make = _grouped_sample if _images_recur(source, sample_size) else _stratified_sample
    sample, parts = make(source, folds, sample_size, sample_seeds[0], split_seeds[0])
    return [
        Fold(sample.subset(np.setdiff1d(np.arange(sample_size), part)), sample.subset(part)) for part in parts
    ]


def _resampled(
    source: Source, sample_size: int, validation_size: int, sample_seed: int, split_seed: int
) -> Fold:
    images = len(source.train_images)
    if not _images_recur(source, sample_size):
        sample = draw(source, "train", sample_size, sample_seed)
        train, validation = map(sample.subset, hold_out(sample_size, validation_size, split_seed))
        return Fold(train, validation)
    if images < 4:
        raise DataError(f"sample_size: {source.name} has {images} training images; expected at least 4")
    share = round(images * validation_size / sample_size)
    sides = hold_out(images, min(max(share, 2), images - 2), split_seed)
    random = torch.Generator().manual_seed(sample_seed)
    train, validation = (
        gather(source, "train", draw_indices(source, "train", torch.from_numpy(side), count, random))
        for side, count in zip(sides, (sample_size - validation_size, validation_size), strict=True)
    )
    return Fold(train, validation)


def _stratified_sample(
    source: Source, folds: int, sample_size: int, sample_seed: int, split_seed: int
) -> tuple[PairSet, list[Index]]:
    """Draw a sample, and divide it into parts that are stratified on the target."""
    sample = draw(source, "train", sample_size, sample_seed)
    target = sample.target.numpy()
    scarcest = int(np.bincount(target, minlength=2).min())
    if folds > scarcest:
        raise DataError(
            f"folds: {folds} given; stratified on the target, this sample of {len(sample)} pairs allows "
            f"at most {scarcest}: lower folds or raise sample_size"
        )
    return sample, stratified_groups(target, folds, split_seed)


def _grouped_sample(
    source: Source, folds: int, sample_size: int, sample_seed: int, split_seed: int
) -> tuple[PairSet, list[Index]]:
    """Draw a sample whose part k uses only images of group k; returns it and the positions of each part."""
    images = len(source.train_images)
    most = min(sample_size, images // 2)
    if folds > most:
        raise DataError(
            f"folds: {folds} given; {sample_size} pairs of {images} {source.name} images allow at most {most}"
        )
    parts = np.array_split(np.arange(sample_size), folds)
    random = torch.Generator().manual_seed(sample_seed)
    indices = [
        draw_indices(source, "train", torch.from_numpy(group), len(part), random)
        for part, group in zip(parts, groups(images, folds, split_seed), strict=True)
    ]
    return gather(source, "train", torch.cat(indices)), parts


def _images_recur(source: Source, sample_size: int) -> bool:
    return source.repeats and 2 * sample_size > len(source.train_images)
