"""Checking a definition, and the contract of its problem, before it is searched."""

from __future__ import annotations

from pathlib import Path

from pairsearch.search.common.errors import PairsearchError
from pairsearch.search.interface.study import machine_with
from pairsearch.search.workers.rehearsal import rehearse
from pairsearch.studies.checks import Check
from pairsearch.studies.errors import DefinitionError


def check(
    study: str | Path, *, points: int = 8, workers: int | None = None, device: str = "cpu", **settings: object
) -> list[Check]:
    """Check a definition before it is searched: are its results reproducible, and what will the grid cost?

    A few points are trained for two epochs in a new process; their time and memory give the estimate for the whole
    grid. The first point is trained in this process too, and its figures are compared bit for bit.

    Args:
        study: the name of a shipped definition, or the path of a `.toml` file.
        points: how many points are trained.
        workers: the number of workers that the estimate assumes; None for as many as `Study.run` starts.
        device: the device to train on, as PyTorch names it.
        **settings: settings of this machine for the problem, as for `create`.

    Returns:
        One `Check` for each line that `pairsearch check` prints, with `name`, `good` (None for a fact that is neither
        good nor bad) and `finding`, a sentence.

    Raises:
        Error: the device or the study cannot be used.
        DefinitionError: the definition cannot be trained.
    """
    return list(rehearse(None, str(study), machine_with(settings, device), points, workers))


def check_contract(study: str | Path, *, points: int = 1, device: str = "cpu", **settings: object) -> None:
    """Check that the problem of a study keeps its contract (`pairsearch.Problem`), inside a test of your own.

    A point has to give the same bits twice: whatever the state of the global random numbers is, alone and beside other
    points, and in another process. The problem has to report the figures that it declares, and to end when it is
    stopped.

    Args:
        study: the name of a shipped definition, or the path of a `.toml` file.
        points: how many points are trained.
        device: the device to train on, as PyTorch names it.
        **settings: settings of this machine for the problem, as for `create`.

    Raises:
        AssertionError: the contract is broken; the message has a line for each failed check.

    Example::

        def test_wine_keeps_the_contract():
            pairsearch.check_contract("wine.toml")
    """
    try:
        checks = check(study, points=points, workers=1, device=device, **settings)
    except (PairsearchError, DefinitionError) as error:
        raise AssertionError(str(error)) from error
    # The memory of this machine says nothing about the problem.
    broken = [one.finding for one in checks if one.good is False and one.name != "memory"]
    if broken:
        raise AssertionError("\n".join(broken))
