"""Checks for `doctor` whether this machine can train the paper's networks well: subnormal numbers, compiled kernels."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from logging.handlers import BufferingHandler
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pairsearch.models.nets import Maker


def train_a_little(architecture: str | Maker, optimiser: str = "adam", device: str = "cpu") -> str:
    """Train a model of an architecture, with default arguments, for an epoch on two pairs; returns the backend.

    Raises:
        Exception: whatever fails, such as a library, a driver or the compiler.
    """
    import torch  # noqa: PLC0415 - slow to import, and may be broken

    from pairsearch.models import fused  # noqa: PLC0415
    from pairsearch.models.trainer import Member, Pairs, TrainingJob  # noqa: PLC0415

    pairs = Pairs(
        torch.zeros(2, 2, 14, 14), torch.zeros(2, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64)
    )
    member = Member(pairs, {"validation": pairs}, init_seed=0, order_seed=0, learning_rate=1e-3)
    job = TrainingJob(architecture, (member,), 1, 1, optimiser=optimiser)
    fused.train(job, device=device)
    return fused.backend_of(architecture, optimiser, device)


def subnormals() -> str:
    """Return what becomes of subnormal numbers.

    Raises:
        OSError: they stay, and may slow the training.
    """
    from pairsearch.models.arithmetic import supported  # noqa: PLC0415

    if not supported():
        raise OSError("PyTorch cannot flush them on this processor; training with weight decay may be slow")
    return "flushed to zero while training"


def kernels(train: Callable[[], str]) -> str:
    """Call what trains a little and returns its backend; return how long it took, and what the kernels' cache said."""
    start, said = time.perf_counter(), BufferingHandler(1000)
    log = logging.getLogger("pairsearch.jit")
    log.addHandler(said)
    try:
        backend = train()
    finally:
        log.removeHandler(said)
    seconds = time.perf_counter() - start
    notes = "".join(f"; {line}" for line in dict.fromkeys(record.getMessage() for record in said.buffer))
    return f"{backend}: loaded and run in {seconds:.1f} s (compiled where not cached){notes}"
