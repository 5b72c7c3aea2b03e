"""What commands that train share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.text import Text

from pairsearch.search.cli import options
from pairsearch.search.cli.app import obey
from pairsearch.search.cli.streams import abandon, teller
from pairsearch.search.cli.terminal import console, print_lines
from pairsearch.search.common.errors import InputError
from pairsearch.search.common.machine import Machine
from pairsearch.search.engines.contract import engine_named
from pairsearch.search.engines.orders import Cluster
from pairsearch.search.setup import opening
from pairsearch.search.workers.evaluating import Evaluator
from pairsearch.search.workers.forking import Zygote
from pairsearch.search.workers.signals import interrupted_by_signals, signals
from pairsearch.search.workers.working import warm
from pairsearch.studies.loading import Loaded


class Training:
    """What a command trains with: a database, machines, problems that are loaded, and where it tells its progress.

    It is made before problems are loaded, as workers are forked from this process. The machine is that of the workers,
    on a cluster if there is one.
    """

    def __init__(
        self, storage: str, machine: Machine, cluster: Cluster | None = None, *, quiet: bool, as_json: bool
    ) -> None:
        self.storage, self.cluster, self.as_json = storage, cluster, as_json
        self.theirs = self.machine = machine
        if cluster is not None:
            # This machine may lack the device of a cluster's workers.
            self.machine = machine = replace(machine, device="cpu", gpus=())
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

    @property
    def detached(self) -> bool:
        """Whether nobody waits for the workers, which are on a cluster."""
        return self.cluster is not None and self.cluster.detach

    def check(self, texts: Sequence[str]) -> opening.Checked:
        """Check that studies can be created or completed, and keep their problems."""
        checked = opening.check(self.storage, texts, self.machine, self.say)
        self.loaded.update(checked.loaded)
        return checked

    @contextmanager
    def evaluator(self, **fields: Any) -> Iterator[Evaluator]:
        """Yield what trains rounds and shows them, in place on a terminal; signals stop it inside the block."""
        stopping = threading.Event()

        @contextmanager
        def watch(label: str) -> Iterator[Callable[[str], None]]:
            # Both have threads, with which no worker can be forked from this process.
            with signals(stopping), self.console.status(Text(f"{label}: starting")) as status:
                yield lambda line: status.update(Text(line))

        def show(line: str) -> None:
            print_lines(self.console, [line])

        with interrupted_by_signals():
            yield Evaluator(self.machine, stopping, watch, show, zygote=self.zygote, **fields)


def cluster_named(
    on: str | None,
    at: str | None,
    texts: Sequence[str] | None,
    workers: int | None,
    *,
    detach: bool,
    gpus: bool,
) -> Cluster | None:
    """Return the cluster that `--on` and its options name, None without `--on`.

    `gpus` is whether GPUs of this machine were named.

    Raises:
        InputError: there is no such engine, or it has no such option.
    """
    if on is None:
        if at is not None or texts or detach:
            raise InputError("--at, --option and --detach belong to --on ENGINE, which was not given")
        return None
    if workers is None:
        raise InputError(f"--on {on}: say how many workers it is to start, by --workers N")
    if gpus:
        raise InputError(
            f"--on {on}: --gpus and --per-gpu are for this machine; an engine places its own workers"
        )
    given = dict(options.pairs("--option", texts))
    also = tuple(filter(None, given.pop("files", "").split(",")))
    return Cluster(engine_named(on, at, given), workers, also, detach)
