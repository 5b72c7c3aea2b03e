"""The training core: trains the K models of a job in compiled kernels where these know it, else in PyTorch."""

from __future__ import annotations

from typing import Literal

from pairsearch.models import batched, single
from pairsearch.models.nets import Arguments, Maker, build_seeded
from pairsearch.models.optim import PlainOptimiser, optimiser
from pairsearch.models.trainer import EpochCallback, TrainingHistory, TrainingJob


def choose_backend(
    job: TrainingJob, device: str = "cpu", backend: str = "auto"
) -> Literal["compiled", "torch"]:
    """Return the backend that `train` will use.

    Raises:
        ValueError: unknown backend, architecture or optimiser; or compiled kernels are asked for on another device
            than the CPU, or for an architecture or optimiser that they do not know.
    """
    if backend not in ("auto", "compiled", "torch"):
        raise ValueError(f"unknown backend {backend!r}: expected auto, compiled or torch")
    if backend == "torch":
        return "torch"
    if not _on_cpu(device):
        if backend == "compiled":
            raise ValueError(
                f"backend 'compiled' runs on device 'cpu' only, got {device!r}: use backend 'torch'"
            )
        return "torch"
    if _compilable(job.architecture, job.arguments, job.optimiser):
        return "compiled"
    if backend == "compiled":
        raise ValueError(
            f"no compiled kernels for architecture {job.architecture!r} with optimiser {job.optimiser!r}: "
            "use backend 'torch'"
        )
    return "torch"


def usual_backend(
    architecture: str | Maker, rule: str | PlainOptimiser, device: str = "cpu"
) -> Literal["compiled", "torch"]:
    """Return the backend that `train` uses by default for an architecture with an optimiser."""
    return "compiled" if _on_cpu(device) and _compilable(architecture, {}, rule) else "torch"


def _compilable(architecture: str | Maker, arguments: Arguments, rule: str | PlainOptimiser) -> bool:
    if not isinstance(architecture, str) or not isinstance(rule, str):
        return False
    # Numba is slow to import.
    from pairsearch.models.layout import plannable  # noqa: PLC0415

    return plannable(build_seeded(architecture, arguments, 0), optimiser(rule))


def train(
    job: TrainingJob,
    *,
    on_epoch: EpochCallback | None = None,
    device: str = "cpu",
    backend: str = "auto",
    threads: int = 1,
) -> TrainingHistory:
    """Train every member of `job`.

    Args:
        job: what to train.
        on_epoch: called after every epoch; if it returns False, the job ends there.
        device: a PyTorch device.
        backend: `compiled` (Numba kernels, on the CPU), `torch` (PyTorch's operations: one member at a time on the CPU,
            all side by side on other devices if architecture and optimiser are registered), or `auto`: compiled
            where the kernels know the architecture and the optimiser, else torch.
        threads: how many members the compiled backend trains at a time; results do not depend on it.

    Raises:
        ValueError: unknown architecture, optimiser or backend, or a combination that cannot run.
    """
    if choose_backend(job, device, backend) == "torch":
        if _on_cpu(device) or not batched.stackable(job):
            return single.train(job, on_epoch=on_epoch, device=device)
        return batched.train(job, on_epoch=on_epoch, device=device)
    from pairsearch.models import compiled  # noqa: PLC0415

    return compiled.train(job, on_epoch=on_epoch, threads=threads)


def _on_cpu(device: str) -> bool:
    return device.split(":", maxsplit=1)[0] == "cpu"
