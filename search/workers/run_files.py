"""Files of runs in a folder that workers share: large checkpoints, and large models that wait to be stored.

Each is written once, under a name that no other has. The name says by a digest which run it belongs to, so that whoever
holds or has stored the run finds all of its files, also those that a crash has left.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path

from pairsearch.search.common.errors import InputError, WorkError
from pairsearch.search.common.files import made_folder, usable_folder, whole_file
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.studies import StoredStudy

log = logging.getLogger(__name__)

LONGEST_NAME = 200
OURS = re.compile(r"\.*([0-9a-f]{32})-")
CHECKPOINT = re.compile(r"([0-9a-f]{32})-[0-9]+-[0-9a-f]{16}\.checkpoint")


def file_name(study: StoredStudy, key: str, index: int) -> str:
    """Return a unique file name for the model of a round, of letters, digits and `-_=.+` only."""
    key = key.replace(" ", "-")
    if not re.fullmatch(r"[\w=.+-]+", key, re.ASCII) or len(key) > LONGEST_NAME:
        key = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{study.name}-{key}-round={index}.safetensors"


class RunFiles:
    """The files of a study's runs in a folder.

    Args:
        folder: made with the first file; None for a worker without one, which finds no files and may write none.

    Raises:
        InputError: the folder is not writable or cannot be created.
    """

    def __init__(self, folder: Path | None, study: StoredStudy) -> None:
        # A problem may change the working directory.
        self.folder = None if folder is None else usable_folder(folder).absolute()
        self._study = study

    def of(self, claim: Claim, runs: Collection[int]) -> list[Path]:
        """List the files of some runs of a claim's configuration; raises OSError where the folder cannot be read."""
        if self.folder is None or not runs or not self.folder.exists():
            return []
        digests = {self._digest(claim, run) for run in runs}
        return [
            file
            for file in self.folder.iterdir()
            if (found := OURS.match(file.name)) is not None and found[1] in digests
        ]

    def clear(self, claim: Claim, runs: Collection[int]) -> None:
        """Remove all files of some runs of a claim's configuration, which nobody will train any more.

        A worker that is killed between storing a run and this leaves them.
        """
        try:
            remove(self.of(claim, runs))
        except OSError as error:
            log.warning("folder %s cannot be read: %s", self.folder, error)

    def write_checkpoint(self, claim: Claim, run: int, epoch: int, content: bytes) -> Path:
        """Write the content of a checkpoint to a new file; raises what `_write` raises."""
        return self._write(f"{self._digest(claim, run)}-{epoch}-{secrets.token_hex(8)}.checkpoint", content)

    def read_checkpoint(self, claim: Claim, run: int, name: str) -> bytes:
        """Read the content of a checkpoint.

        Args:
            name: of its file, as the database has it: it may name any file, but only one of the run is read.

        Raises:
            OSError: there is no such file here, or it cannot be read.
        """
        named = CHECKPOINT.fullmatch(name)
        if self.folder is None or named is None or named[1] != self._digest(claim, run):
            raise FileNotFoundError(name)
        return (self.folder / name).read_bytes()

    def write_aside(self, claim: Claim, run: int, content: bytes) -> Path:
        """Write what may become another file to a hidden one; raises what `_write` raises."""
        return self._write(f".{self._digest(claim, run)}-{secrets.token_hex(8)}.aside", content)

    def _write(self, name: str, content: bytes) -> Path:
        """Write a new file; raises WorkError where the folder cannot be made, or writing failed."""
        assert self.folder is not None, "callers look"  # noqa: S101
        path = self.folder / name
        try:
            made_folder(self.folder)
            with whole_file(path) as file:
                file.write(content)
        except InputError as error:
            raise WorkError(str(error)) from None
        return path

    def _digest(self, claim: Claim, run: int) -> str:
        """Return what tells a run from all others, also from those of other databases, as 32 hexadecimal digits."""
        of = (self._study.name, self._study.created_at, claim.configuration.key, claim.kind, run)
        return hashlib.sha256(repr(of).encode()).hexdigest()[:32]


def remove(files: Iterable[Path]) -> None:
    """Remove files, as far as that is possible; others may have done so already."""
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("file %s cannot be removed: %s", file, error)
