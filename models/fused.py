"""The training core: trains the K models of a job in compiled kernels where these know it, else in PyTorch."""

from __future__ import annotations

from typing import Literal

from pairsearch.models import batched, single
from pairsearch.models.nets import Maker, build_seeded
from pairsearch.models.optim import PlainOptimiser, optimiser
from pairsearch.models.trainer import EpochCallback, StateDict, TrainingJob

Backend = Literal["compiled", "torch"]


def backend_of(architecture: str | Maker, rule: str | PlainOptimiser, device: str = "cpu") -> Backend:
    """Return the backend that `train` uses for an architecture with an optimiser; raises a ValueError for unknown ones.

    It is `compiled` (Numba kernels) on the CPU where the kernels know both, else `torch` (PyTorch's operations).
    """
    if not (_on_cpu(device) and isinstance(architecture, str) and isinstance(rule, str)):
        return "torch"
    # Numba is slow to import.
    from pairsearch.models.layout import plannable  # noqa: PLC0415

    # The kernels know the structure of a module, whatever the width of its layers.
    return "compiled" if plannable(build_seeded(architecture, {}, 0), optimiser(rule)) else "torch"


def train(
    job: TrainingJob, *, on_epoch: EpochCallback | None = None, device: str = "cpu", threads: int = 1
) -> list[StateDict]:
    """Train every member of `job` by the backend that `backend_of` says.

    PyTorch trains one member at a time on the CPU, and all side by side on other devices if architecture and optimiser
    are registered.

    Args:
        on_epoch: called after every epoch; an exception that it raises ends the job.
        threads: how many members the compiled backend trains at a time; results do not depend on it.

    Raises:
        ValueError: unknown architecture or optimiser, or a combination that cannot run.
    """
    if backend_of(job.architecture, job.optimiser, device) == "compiled":
        from pairsearch.models import compiled  # noqa: PLC0415

        return compiled.train(job, on_epoch=on_epoch, threads=threads)
    registered = isinstance(job.architecture, str) and isinstance(job.optimiser, str)
    train_in_torch = batched.train if registered and not _on_cpu(device) else single.train
    return train_in_torch(job, on_epoch=on_epoch, device=device)


def _on_cpu(device: str) -> bool:
    return device.split(":", maxsplit=1)[0] == "cpu"
