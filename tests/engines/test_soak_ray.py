"""A whole search on Ray, through all that may befall it."""

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
    whole = Whole(tmp_path, postgresql_url, started("ray")(), rest=0.25)

    def lose_the_supervisor(worker: psutil.Process) -> None:
        supervisor = worker.parent()
        assert supervisor is not None
        supervisor.kill()

    through_it_all(whole, lose_the_supervisor)
    whole.assert_whole(in_peace())
    whole.assert_hidden(
        [tmp_path_factory.getbasetemp() / "ray0" / "ray", tmp_path_factory.getbasetemp() / "ray0", tmp_path]
    )
