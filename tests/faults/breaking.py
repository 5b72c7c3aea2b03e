"""What the tests break inside a worker's process before it runs; each is a function of a module, for `prepare`.

Nothing of the program is replaced: a call is made as ever, and the process dies, or stops, right before or after it.
"""

from __future__ import annotations

import os
import pkgutil
import signal
from collections.abc import Callable
from typing import Any

STEPS = [
    (owner, method, when)
    for owner, method in (
        ("pairsearch.search.ledger.jobs:Ledger", "claim"),
        ("pairsearch.search.mirror.trials:Trials", "start"),
        ("pairsearch.search.ledger.jobs:Ledger", "report"),
        ("pairsearch.search.ledger.jobs:Ledger", "finish_and_claim"),
        ("pairsearch.search.mirror.trials:Trials", "finish"),
    )
    for when in ("before", "after")
]
"""Where in its work on a configuration a worker can be: claiming, training, storing; and within the transactions of the
first and the last, at its trial."""


def signal_at(owner: str, method: str, when: str, number: int) -> None:
    """Send this process a signal at the first call of a method."""

    def hurt() -> None:
        _restore()
        os.kill(os.getpid(), number)

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if when == "before":
                hurt()
            answer = original(*args, **kwargs)
            if when == "after":
                hurt()
            return answer

        return call

    _restore = _wrap(owner, method, wrapped)


def killed_at(owner: str, method: str, when: str) -> None:
    """SIGKILL at the first call of a method."""
    signal_at(owner, method, when, signal.SIGKILL)


def stopped_at(owner: str, method: str) -> None:
    """SIGSTOP before the first call of a method; SIGCONT lets it go on."""
    signal_at(owner, method, "before", signal.SIGSTOP)


def frozen_in_a_transaction(statement: str) -> None:
    """SIGSTOP with a transaction open, right after a statement that begins so; PostgreSQL ends it after a second."""
    from sqlalchemy import event  # noqa: PLC0415
    from sqlalchemy.engine import Engine  # noqa: PLC0415

    hit = []

    def freeze(connection: Any, cursor: Any, executed: str, *_: object) -> None:
        if not hit and " ".join(executed.split()).startswith(statement):
            hit.append(executed)
            connection.exec_driver_sql("set local idle_in_transaction_session_timeout = '1s'")
            os.kill(os.getpid(), signal.SIGSTOP)

    event.listen(Engine, "after_cursor_execute", freeze)


def out_of_memory(key: str) -> None:
    """Training a configuration takes more memory than there is: a real failure to allocate, of an exbibyte."""

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, configuration: Any, *args: Any, **kwargs: Any) -> Any:
            if configuration.key == key:
                bytearray(2**60)
            return original(self, configuration, *args, **kwargs)

        return call

    _wrap("pairsearch.search.workers.objective:CrossValidation", "__call__", wrapped)


def of_another_version() -> None:
    """The program's problem is of a version that gives other figures."""
    from pairsearch.models import trainer  # noqa: PLC0415

    trainer.TRAINING_VERSION += 1


def in_a_hurry() -> None:
    """Waiting for the database takes short pauses, so that a test of many breaks ends soon."""
    from pairsearch.search.database import retry  # noqa: PLC0415

    retry.FIRST_PAUSE, retry.CHANCE = 0.01, 0.01


def soon_out_of_patience() -> None:
    """One that is told to stop waits for a second only."""
    from pairsearch.search.database import retry  # noqa: PLC0415

    retry.STOPPING_SECONDS = 1.0


def _wrap(
    owner: str, method: str, wrapped: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[[], None]:
    """Wrap a method; what takes the wrapping off again."""
    found = pkgutil.resolve_name(owner)
    original = getattr(found, method)
    setattr(found, method, wrapped(original))
    return lambda: setattr(found, method, original)
