"""Which GPU each worker of this machine has to itself, or shares, by the variable that CUDA reads when it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pairsearch.search.common.errors import InputError

VARIABLE = "CUDA_VISIBLE_DEVICES"
# How UUIDs and names of MIG devices begin, of which CUDA alone knows whether they exist.
NAMED = ("GPU-", "MIG-")
# Numbers are those that `nvidia-smi` shows.
ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def places(device: str, given: Sequence[str] | None, per_gpu: int | None) -> tuple[str, ...]:
    """Return the GPU of each worker that there is room for, each GPU in turn; none on another device than `cuda`.

    Args:
        given: numbers, UUIDs or names of MIG devices; None for all that are visible to this process.
        per_gpu: how many workers share a GPU; None for one.

    Raises:
        InputError: a GPU does not exist or is named twice, or the device is another one.
    """
    if device != "cuda":
        if given is not None or per_gpu is not None:
            raise InputError(f"--gpus and --per-gpu: the device is {device}: give --device cuda")
        return ()
    visible = _visible()
    wanted = visible if given is None else list(given)
    for one in wanted:
        if one and one not in visible and not one.startswith(NAMED):
            some = f"expected some of {', '.join(visible)}, or UUIDs" if visible else "CUDA finds none"
            raise InputError(f"--gpus {one}: there is no such GPU here: {some}")
        if not one or wanted.count(one) > 1:
            raise InputError(
                f"--gpus {','.join(wanted)}: expected each GPU once; --per-gpu N has N workers share it"
            )
    return (*wanted,) * (per_gpu or 1)


def variables(gpu: str) -> dict[str, str]:
    """Return the environment variables of a worker that has a GPU."""
    return {name: os.environ.get(name, value) for name, value in ORDER.items()} | {VARIABLE: gpu}


_before: list[str] = []
"""The GPUs that were visible before this process took one of them."""


def take_first(gpus: Sequence[str]) -> None:
    """Have this process use the first of some GPUs, if there are any, from now on: CUDA looks once, when it starts.

    Raises:
        InputError: CUDA has started in this process, with other GPUs.
    """
    if not gpus or os.environ.get(VARIABLE) == gpus[0]:
        return
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise InputError(
            f"--gpus {gpus[0]}: CUDA has started in this process with other GPUs: do this first, or in a new process"
        )
    _before[:] = _visible()
    os.environ.update(variables(gpus[0]))


def _visible() -> list[str]:
    """Return the GPUs that this process could use at first, by their numbers or as the environment names them."""
    if _before:
        return _before
    if (named := os.environ.get(VARIABLE)) is not None:
        return [one.strip() for one in named.split(",") if one.strip() not in ("", "-1")]
    import torch  # noqa: PLC0415 - slow to import

    # It asks the driver, and does not start CUDA.
    return [str(number) for number in range(torch.cuda.device_count())]
