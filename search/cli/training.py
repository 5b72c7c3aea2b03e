"""What commands that train share: the workers that are forked from them, and the rounds that they train themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from pairsearch.search.cli.app import obey
from pairsearch.search.cli.streams import abandon
from pairsearch.search.cli.terminal import print_lines
from pairsearch.search.common.machine import Machine
from pairsearch.search.setup import opening
from pairsearch.search.workers.evaluating import Evaluator
from pairsearch.search.workers.forking import Zygote
from pairsearch.search.workers.signals import interrupted_by_signals, signals
from pairsearch.search.workers.working import warm
from pairsearch.studies.loading import Loaded


def zygote(loaded: dict[str, Loaded], device: str) -> Zygote:
    """Return this process as what workers are forked from.

    Args:
        loaded: problems by the name of their study, which may be filled until the first worker is forked.
        device: the device that they train on.
    """

    def forked(words: Sequence[str]) -> None:
        abandon()
        opening.keep(loaded)
        obey(words)

    return Zygote(forked, lambda: warm(list(loaded.values()), device))


@contextmanager
def evaluator_on(machine: Machine, console: Console, **options: Any) -> Iterator[Evaluator]:
    """Yield what trains rounds and shows them, in place on a terminal; signals stop it inside the block.

    Args:
        options: further fields of `Evaluator`.
    """
    stopping = threading.Event()

    @contextmanager
    def watch(label: str) -> Iterator[Callable[[str], None]]:
        # Both have threads, with which no worker can be forked from this process.
        with signals(stopping), console.status(Text(f"{label}: starting")) as status:
            yield lambda line: status.update(Text(line))

    with interrupted_by_signals():
        yield Evaluator(machine, stopping, watch, lambda line: print_lines(console, [line]), **options)
