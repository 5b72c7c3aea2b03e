"""Keeps the checkpoints of a claim for its worker, and hands the claim back where an error ends the worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pairsearch.search.common.errors import WorkError
from pairsearch.search.ledger.checkpoints import Kept
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.workers.run_files import RunFiles, remove
from pairsearch.studies.errors import ReportError

log = logging.getLogger(__name__)

LARGE_CHECKPOINT = 1_000_000
"""Bytes of a checkpoint's content above which it goes into a file, where the worker has a folder for that."""
LARGEST_CHECKPOINT = 64_000_000
"""Bytes of a checkpoint's content that the database takes."""

Calls = Callable[[Callable[[], Any]], Any]


def runs_of(claim: Claim) -> str:
    """Name the folds of a claim, for a line."""
    first, last = claim.numbers[0], claim.numbers[-1]
    return f"fold {first}" if first == last else f"folds {first} to {last}"


class ClaimKeeper:
    """Keeps the checkpoints of the runs of a claim: small ones in the ledger, large ones in files that it names.

    A file is complete before the ledger names it, and goes after another has taken its place. So the ledger never names
    one that is not whole, whenever a worker is killed.

    Args:
        once: makes a call.
        patiently: makes a call, and repeats it while the database is away.
    """

    def __init__(self, ledger: Ledger, claim: Claim, files: RunFiles, once: Calls, patiently: Calls) -> None:
        self._ledger = ledger
        self._claim = claim
        self._files = files
        self._once = once
        self._patiently = patiently

    def find(self, run: int) -> Kept | None:
        """Return the checkpoint of a run, None if it has none, or one in a file that is not here."""
        found: Kept | None = self._patiently(lambda: self._ledger.find_checkpoint(self._claim, run))
        if found is None or found.file is None:
            return found
        try:
            content = self._files.read_checkpoint(self._claim, run, found.file)
        except OSError:
            where = self._files.folder or "any folder of this worker's"
            log.warning(
                "checkpoint of %s %d of %s: its file %a is not in %s: give --checkpoints FOLDER, one that all workers "
                "share: the run begins again",
                *(self._claim.kind, run, self._claim.configuration.key, found.file, where),
            )
            return None
        return replace(found, content=content)

    def keep(self, run: int, kept: Kept) -> bool:
        """Store a checkpoint as `Keeper.keep`, unless the database or the folder is away."""
        large = self._files.folder is not None and len(kept.content) > LARGE_CHECKPOINT
        if not large and len(kept.content) > LARGEST_CHECKPOINT:
            size, most = (round(size / 1e6) for size in (len(kept.content), LARGEST_CHECKPOINT))
            raise ReportError(
                f"checkpoint: the state has {size} MB, expected at most {most}: give --checkpoints FOLDER, one that "
                "all workers share, for larger ones"
            )
        written: list[Path] = []
        try:
            # Listed before the ledger says that the claim is held: nobody who gets it later has written any of them.
            before = self._files.of(self._claim, [run])
            if large:
                # While the database is away, files would pile up.
                if not self._once(lambda: self._ledger.renew(self._claim)):
                    return False
                file = self._files.write_checkpoint(self._claim, run, kept.epoch, kept.content)
                written, kept = [file], replace(kept, file=file.name)
            held: bool = self._once(lambda: self._ledger.save_checkpoint(self._claim, run, kept))
        except (WorkError, OSError) as error:
            # A new file stays: where only the answer was lost, the ledger names it.
            log.warning("checkpoint of epoch %d put off: %s", kept.epoch, error)
            return True
        remove(before if held else written)
        return held


@contextmanager
def handed_back_on_error(ledger: Ledger, claim: Claim) -> Iterator[None]:
    """Hand a claim back where the block raises."""
    try:
        yield
    except Exception:
        # This write may fail too, for example if the disk is full; the lease then runs out by itself.
        try:
            ledger.hand_back(claim)
        except Exception as error:
            log.warning("could not hand back %s: %s", claim.configuration.key, error)
        raise
