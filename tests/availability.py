"""What a test needs and the machine may lack: a reason to skip on a laptop, and to fail where everything has to be."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import NoReturn

import pytest


def needed(module: str) -> ModuleType:
    """A module of the extra packages that the tests need; `unavailable` where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        unavailable(f"{module} is not installed")


def unavailable(reason: str) -> NoReturn:
    """Skip a test whose real part is not here, or fail it where `CI=true` says that it has to be."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: not a reason to skip)", pytrace=False)
    pytest.skip(reason)
