"""A whole search on Dask, through all that may befall it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from gathered import Started
from whole import Whole, in_peace, through_it_all

pytestmark = pytest.mark.soak


def test_it_comes_through_it_all(
    started: Started, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, postgresql_url: str
) -> None:
    whole = Whole(tmp_path, postgresql_url, started("dask")(), rest=0.25)

    def lose_the_nanny_s_child(worker: psutil.Process) -> None:
        child = worker.parent()
        assert child is not None
        child.kill()

    through_it_all(whole, lose_the_nanny_s_child)
    whole.assert_whole(in_peace())
    whole.assert_hidden([tmp_path_factory.getbasetemp() / "dask0", tmp_path])
