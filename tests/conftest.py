"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from data.mnist import missing
from data.sources import Source, load


def unavailable(reason: str) -> NoReturn:
    """Skip a test whose real part is not here, or fail it where `CI=true` says that it has to be."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: not a reason to skip)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The torchvision root that the environment variable PAIRSEARCH_DATA names, with MNIST's files in it."""
    folder = os.environ.get("PAIRSEARCH_DATA")
    if not folder:
        unavailable("PAIRSEARCH_DATA is not set; it names the folder that holds MNIST/raw")
    root = Path(folder).resolve()
    if absent := missing(root):
        unavailable(f"PAIRSEARCH_DATA: {root} lacks {', '.join(absent)} in MNIST/raw")
    return root


@pytest.fixture(scope="session")
def mnist_source(mnist_root: Path) -> Source:
    """The real MNIST, read once per session."""
    return load("mnist", mnist_root, download=False)


@pytest.fixture(scope="session")
def digits_source() -> Source:
    """scikit-learn's digits, read once per session."""
    return load("digits")
