"""Makes the folds of a search from training images, by one of two protocols.

Within a fold, training and
validation pairs never share an image. That is so by itself where a sample takes each image once. Where it repeats
images (the digits, at more than 648 pairs), an image could end on both sides, so the images are divided first and pairs
are drawn within each part:

* `resample`: the training images are divided at random in the proportion of training to validation pairs (at
  least two images on either side), and each set is drawn from its side;
* `kfold`: the training images are divided at random into as many groups as there are folds, and each group
  gives an equal share of the sample's pairs. Fold k validates on the pairs of group k and trains on all others. As
  pairs are drawn within groups, the target is not stratified there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pairsearch.data.errors import DataError
from pairsearch.data.pairs import PairSet, draw, draw_indices, gather
from pairsearch.data.sources import Source
from pairsearch.data.splits import Index, groups, hold_out, stratified_groups


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
