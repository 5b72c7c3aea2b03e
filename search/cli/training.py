"""What commands that train share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.text import Text

from pairsearch.search.cli.app import obey
from pairsearch.search.cli.streams import abandon, teller
from pairsearch.search.cli.terminal import console, print_lines
from pairsearch.search.common.machine import Machine
from pairsearch.search.setup import opening
from pairsearch.search.workers.evaluating import Evaluator
from pairsearch.search.workers.forking import Zygote
from pairsearch.search.workers.signals import interrupted_by_signals, signals
from pairsearch.search.workers.working import warm
from pairsearch.studies.loading import Loaded


class Training:
    """What a command trains with: a database, this machine, problems that are loaded, and where it tells its progress.

    It is made before problems are loaded, as workers are forked from this process.
    """

    def __init__(self, storage: str, machine: Machine, *, quiet: bool, as_json: bool) -> None:
        self.storage, self.machine, self.as_json = storage, machine, as_json
        self.say = teller(error=as_json, quiet=quiet)
        self.console = console(error=as_json, quiet=quiet)
        self.loaded = loaded = dict[str, Loaded]()
        """Problems by the name of their study, which may be added until the first worker is forked."""

        # It does not refer to `self`: what refers to itself would never be freed, as a zygote freezes it.
        def forked(words: Sequence[str]) -> None:
            abandon()
            opening.keep(loaded)
            obey(words)

        self.zygote = Zygote(forked, lambda: warm(list(loaded.values()), machine.device))

    def create(self, texts: Sequence[str], check: opening.Check = opening.unchecked) -> opening.Created:
        """Create studies, or complete them, and keep their problems."""
        made = opening.create(self.storage, texts, self.machine, self.say, check)
        self.loaded.update(made.loaded)
        return made

    @contextmanager
    def evaluator(self, **options: Any) -> Iterator[Evaluator]:
        """Yield what trains rounds and shows them, in place on a terminal; signals stop it inside the block.

        Args:
            options: further fields of `Evaluator`.
        """
        stopping = threading.Event()

        @contextmanager
        def watch(label: str) -> Iterator[Callable[[str], None]]:
            # Both have threads, with which no worker can be forked from this process.
            with signals(stopping), self.console.status(Text(f"{label}: starting")) as status:
                yield lambda line: status.update(Text(line))

        def show(line: str) -> None:
            print_lines(self.console, [line])

        with interrupted_by_signals():
            yield Evaluator(self.machine, stopping, watch, show, zygote=self.zygote, **options)
