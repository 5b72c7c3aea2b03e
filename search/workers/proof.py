"""Whether this process can train: a job of two pairs, by the backend and on the device that a study would take."""

from __future__ import annotations

from pairsearch.search.errors import WorkError
from pairsearch.studies.definition import Definition


def train_a_little(architecture: str, optimiser: str = "adam", device: str = "cpu") -> str:
    """Train a model of an architecture for one epoch on two pairs; the backend that did it.

    Raises whatever stands in the way: a library, a driver, memory, a compiler.
    """
    import torch  # noqa: PLC0415 - takes a while, and may be what is broken

    from pairsearch.models import fused, nets  # noqa: PLC0415
    from pairsearch.models.training import Member, TrainingJob  # noqa: PLC0415

    class Pairs:
        images = torch.zeros(2, 2, 14, 14)
        target = torch.zeros(2, dtype=torch.int64)
        classes = torch.zeros(2, 2, dtype=torch.int64)

    hidden_units = nets.ARCHITECTURES[architecture].default_hidden_units
    member = Member(Pairs, {"validation": Pairs}, init_seed=0, order_seed=0, learning_rate=1e-3)
    job = TrainingJob(architecture, (member,), 1, 1, hidden_units, optimiser)
    fused.train(job, device=device)
    return fused.choose_backend(job, device)


def prove(definition: Definition, device: str) -> None:
    """Show that this process can train what a study needs, before it takes anything.

    Raises:
        WorkError: it cannot, with the reason in one line.
    """
    try:
        train_a_little(definition.architecture, definition.optimiser, device)
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise WorkError(
            f"this machine cannot train {definition.architecture} on {device} ({type(error).__name__}: {lines[0]}): "
            "nothing was taken; `pairsearch doctor` checks the installation"
        ) from None
