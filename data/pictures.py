"""Reads a digit from an image file and gives it the form that the networks are trained on: white on black, 14×14.

MNIST's digits were scaled to fit 20×20 pixels and placed by their centre of mass in 28×28 (LeCun et al.,
"Gradient-based learning applied to document recognition", 1998, section III A). A digit is treated likewise here, and
then averaged to 14×14.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pairsearch.data.errors import DataError
from pairsearch.data.pairs import SIDE, shrink

MNIST_SIDE, MNIST_BOX = 28, 20
# A photograph of 48 megapixels is accepted; a small file that unpacks to more pixels, a decompression bomb, is not.
MOST_PIXELS = 50_000_000
# Larger images are first reduced to this side, which is still far more than a digit of 20 pixels needs.
WORKING_SIDE = 1024
# Pixels fainter than this share of the contrast between digit and background count as background.
FAINT = 0.2
# EPS is a program, which Pillow would let Ghostscript run.
REFUSED_FORMATS = {"EPS"}


@dataclass(frozen=True, slots=True)
class Picture:
    """One digit in the form that a network sees.

    Args:
        pixels: (14, 14) float32, raw intensities 0 to 255, white on black.
        inverted: whether the digit in the file was dark on light.
        fitted: whether the digit was cut out, scaled and centred; images of 28×28 and 14×14 pixels are not.
    """

    pixels: Tensor
    inverted: bool
    fitted: bool


def read_picture(path: Path, invert: bool | None = None) -> Picture:
    """Read a digit from an image file.

    Args:
        path: a file of any format that Pillow opens, except EPS. Only the first of several frames is read, and
            transparent pixels count as white.
        invert: whether the digit is dark on light; None decides by the median of the edge, which is background.

    Raises:
        DataError: the file is missing, not an image, too large, or all of one shade; or it shows no digit.
    """
    grey = np.asarray(_load(path), np.uint8)
    if grey.min() == grey.max():
        raise DataError(f"image {path}: all its pixels are of one shade; expected a digit")
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    inverted = bool(np.median(edge) > 127) if invert is None else invert
    if inverted:
        grey, edge = 255 - grey, 255 - edge
    fitted = grey.shape not in {(MNIST_SIDE, MNIST_SIDE), (SIDE, SIDE)}
    if fitted:
        grey = _fit(path, grey.astype(np.float64), float(np.median(edge)))
    return Picture(shrink(torch.from_numpy(grey.copy())[None])[0], inverted, fitted)


def _load(path: Path) -> Image.Image:
    """Read an image as 8-bit grey, upright, with its longer side at most `WORKING_SIDE`."""
    # Reading a pipe or a device may never end.
    if not path.is_file():
        raise DataError(f"image {path}: {'it is no file' if path.exists() else 'there is no such file'}")
    Image.init()
    formats = sorted(set(Image.OPEN) - REFUSED_FORMATS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the size is checked below; odd tags of a photograph do not matter
        try:
            with Image.open(path, formats=formats) as image:
                width, height = image.size
                if width * height <= MOST_PIXELS:
                    image.draft("L", (WORKING_SIDE, WORKING_SIDE))
                    return _grey(path, image)
        except DataError:
            raise
        except Exception as error:  # Pillow's readers raise whatever their parsing runs into
            reason = str(error) if isinstance(error, OSError) else type(error).__name__
            raise DataError(f"image {path} cannot be read: {reason}") from None
    raise DataError(f"image {path}: {width}×{height} pixels; expected {MOST_PIXELS:,} at most")


def _grey(path: Path, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"image {path}: pixels of mode {image.mode}; expected 8 or 16 bits: save it as PNG")
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    grey = upright.convert("L")
    grey.thumbnail((WORKING_SIDE, WORKING_SIDE))
    return grey


def _fit(path: Path, light: npt.NDArray[np.float64], background: float) -> npt.NDArray[np.uint8]:
    """Return a light digit on a darker background with MNIST's size, place and contrast, as (28, 28) uint8."""
    contrast = float(light.max()) - background
    if contrast <= 0:
        raise DataError(
            f"image {path}: nothing is lighter than its edge; expected a light digit, or --invert"
        )
    ink = np.clip((light - background) / contrast - FAINT, 0, None) / (1 - FAINT)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = MNIST_BOX / max(cut.shape)
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    small = np.asarray(
        Image.fromarray((255 * cut).round().astype(np.uint8)).resize(size, Image.Resampling.BOX)
    ).astype(np.float64)
    if small.max() == 0:
        raise DataError(f"image {path}: what is light in it is too small to see; expected one digit")
    small *= 255 / small.max()
    # In MNIST's files the centre of mass lies at pixel 14, counted from 0, within half a pixel.
    centres = [
        np.average(range(length), weights=small.sum(1 - axis)) for axis, length in enumerate(small.shape)
    ]
    top, left = (
        int(np.clip(round(MNIST_SIDE / 2 - centre), 0, MNIST_SIDE - length))
        for centre, length in zip(centres, small.shape, strict=True)
    )
    fitted = np.zeros((MNIST_SIDE, MNIST_SIDE), np.uint8)
    fitted[top : top + small.shape[0], left : left + small.shape[1]] = small.round()
    return fitted
