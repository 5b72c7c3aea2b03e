"""Checks for `doctor` whether this installation can train the paper's networks: data, subnormals, compiled kernels.

Each check imports the libraries that it needs, so that a missing or broken one is a finding.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pairsearch.models.nets import Maker


def checks(data: str | None, data_dir: str | None) -> Mapping[str, Callable[[], str]]:
    """Return the checks by name; each returns its finding as a line, or raises an exception.

    Args:
        data: the images, as `data.sources.load` takes them, or `auto`; None for `mnist`.
        data_dir: torchvision root; None for PAIRSEARCH_DATA, or else a folder of the user's.
    """
    return {"data": lambda: _data(data, data_dir), "subnormals": _subnormals, "kernels": _kernels}


def train_a_little(architecture: str | Maker, optimiser: str = "adam", device: str = "cpu") -> str:
    """Train a model of an architecture, with default arguments, for an epoch on two pairs; returns the backend.

    Raises:
        Exception: whatever fails, such as a library, a driver or the compiler.
    """
    import torch  # noqa: PLC0415 - slow to import, and may be broken

    from pairsearch.models import fused  # noqa: PLC0415
    from pairsearch.models.trainer import Member, TrainingJob  # noqa: PLC0415

    class Pairs:
        images = torch.zeros(2, 2, 14, 14)
        target = torch.zeros(2, dtype=torch.int64)
        classes = torch.zeros(2, 2, dtype=torch.int64)

    member = Member(Pairs, {"validation": Pairs}, init_seed=0, order_seed=0, learning_rate=1e-3)
    job = TrainingJob(architecture, (member,), 1, 1, optimiser=optimiser)
    fused.train(job, device=device)
    return fused.choose_backend(job, device)


def _data(kind: str | None, given: str | None) -> str:
    import os  # noqa: PLC0415

    from pairsearch.data.mnist import missing  # noqa: PLC0415
    from pairsearch.data.sources import ARRAYS, default_root, load  # noqa: PLC0415

    chosen = given or os.environ.get("PAIRSEARCH_DATA")
    folder = default_root() if chosen is None else Path(chosen)
    kind = kind or "mnist"
    if kind == "auto":
        kind = "digits" if missing(folder) else "mnist"
    source = load(kind, folder, download=False)
    where = "" if kind == "digits" or kind.endswith(ARRAYS) else f" in {folder}"
    return (
        f"{source.name}{where}, {len(source.train_images):,} training and "
        f"{len(source.test_images):,} test images, fingerprint {source.fingerprint}"
    )


def _subnormals() -> str:
    from pairsearch.models.subnormals import supported  # noqa: PLC0415

    if not supported():
        raise OSError("PyTorch cannot flush them on this processor; training with weight decay may be slow")
    return "flushed to zero while training"


def _kernels() -> str:
    from pairsearch.models import nets  # noqa: PLC0415

    start, said = time.perf_counter(), _Said()
    log = logging.getLogger("pairsearch.jit")
    log.addHandler(said)
    try:
        backends = [f"{name} {train_a_little(name)}" for name in nets.ARCHITECTURES]
    finally:
        log.removeHandler(said)
    seconds = time.perf_counter() - start
    notes = "".join(f"; {line}" for line in dict.fromkeys(said.lines))
    return f"{', '.join(backends)}: loaded and run in {seconds:.1f} s (compiled where not cached){notes}"


class _Said(logging.Handler):
    """Keeps log messages for a finding."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
