"""Workers that are forked from a command."""

from __future__ import annotations

from collections.abc import Sequence

from pairsearch.search.cli.app import obey
from pairsearch.search.cli.streams import abandon
from pairsearch.search.setup import opening
from pairsearch.search.workers.forking import Zygote
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
