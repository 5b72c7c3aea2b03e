"""Writes figures as image files, by Plotly's renderer kaleido and an installed Chrome or Chromium."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from pairsearch.search.common.errors import InputError, WorkError
from pairsearch.search.common.files import made_folder, whole_file
from pairsearch.search.report.content import Figure, view_names

WIDTH = 1000
"""Width in CSS pixels; a PNG has twice as many pixels."""


class ImageFormat(StrEnum):
    """Formats of image files."""

    SVG = "svg"
    PNG = "png"


def check_renderer() -> tuple[Any, Any]:
    """Return the modules `kaleido` and `kaleido.errors`; raises InputError where they or a browser are missing."""
    try:
        kaleido = importlib.import_module("kaleido")
        errors = importlib.import_module("kaleido.errors")
        kaleido.Kaleido  # noqa: B018 - kaleido 0.x has none
    except (ImportError, AttributeError):
        raise InputError("--images needs kaleido 1 or newer: pip install 'pairsearch[images]'") from None
    chromium = importlib.import_module("choreographer.browsers.chromium").Chromium
    if not chromium.find_browser(skip_local=False):
        raise InputError(
            "--images needs Chrome or Chromium, and none was found: install one (Debian: apt-get install chromium), "
            "or name it by the environment variable BROWSER_PATH"
        )
    return kaleido, errors


def write(figures: Sequence[Figure], folder: Path, kind: ImageFormat) -> list[Path]:
    """Write every view of every figure into a folder, and return the files.

    Chromium runs without its sandbox, which is not available to root and in most containers; it shows nothing but
    these figures. MathJax, which kaleido would load from the network, is left out.

    Raises:
        InputError: kaleido or the browser is missing, or the folder is not writable.
        WorkError: the browser ended, or a figure could not be drawn.
    """
    kaleido, errors = check_renderer()
    jobs = {}
    with tempfile.TemporaryDirectory() as draft:
        for figure in figures:
            for view, stem in zip(figure.views, view_names(figure), strict=True):
                jobs[f"{stem}.{kind}"] = {
                    "fig": view.spec,
                    "path": str(Path(draft) / f"{stem}.{kind}"),
                    "opts": {
                        "format": kind,
                        "width": max(WIDTH, figure.least_width),
                        "height": figure.height,
                        "scale": 2 if kind is ImageFormat.PNG else 1,
                    },
                }
        try:
            kaleido.write_fig_from_object_sync(
                list(jobs.values()), cancel_on_error=True, kopts={"mathjax": False}
            )
        except errors.ChromeNotFoundError:
            raise InputError("--images: the browser that BROWSER_PATH names is not there") from None
        except (
            errors.BrowserClosedError,
            errors.BrowserFailedError,
            errors.KaleidoError,
            errors.JavascriptError,
            TimeoutError,
        ) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise WorkError(f"the figures could not be drawn: {text}") from None
        made_folder(folder)
        for name in jobs:
            with whole_file(folder / name) as file:
                file.write((Path(draft) / name).read_bytes())
    return [folder / name for name in jobs]
