"""Writes runs as offline runs of Weights & Biases, which `wandb sync` sends; each appears whole or not at all."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import wandb
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined] # its stub is incomplete

from pairsearch.search.common.files import made_folder
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.tracking.contract import Run, Tracker

STATE = "pairsearch-state"
"""The file in the folder of a run that has its state."""
PARTS = ".pairsearch-"
"""Begins the name of the folder in which an export writes runs until they are whole."""
LONGEST_TAG = 64
LONGEST_GROUP = 128
LONGEST_SECONDS = 5.0
"""Seconds that the client may take for a run's last records."""


class Wandb(Tracker):
    """A folder of offline runs: projects are studies, groups are configurations; ids are those of runs."""

    errors = (wandb.Error, OSError)

    def __init__(self, place: str) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        # Its log is not kept. Where it cannot be written, each line of it would be a traceback on standard error.
        logging.getLogger("wandb").setLevel(logging.CRITICAL)
        self._runs = made_folder(made_folder(Path(place)) / "wandb")
        for old in Path(place).glob(f"{PARTS}*"):
            with suppress(OSError), _lock(old):  # else it is another's, who works in it
                shutil.rmtree(old)
        # On the same file system; `wandb sync` reads nothing there.
        self._parts = Path(tempfile.mkdtemp(prefix=PARTS, dir=place))
        self._lock: IO[bytes] | None = None
        with suppress(OSError):  # not all file systems have locks
            self._lock = _lock(self._parts)

    def known(self, study: StoredStudy) -> dict[str, str]:
        found: dict[str, str] = {}
        for file in self._runs.glob(f"offline-run-*/{STATE}"):
            name = file.parent.name.rpartition("-")[-1]
            # Of a run that two exporters wrote at the same time neither is taken for whole.
            found[name] = "" if name in found else file.read_text(encoding="utf-8")
        return found

    def write(self, run: Run) -> None:
        settings = wandb.Settings(
            mode="offline",
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            # What is known of this machine says nothing about that of the workers.
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        open_run = wandb.init(
            dir=str(self._parts), id=run.id, project=run.study, name=run.name, group=run.group[:LONGEST_GROUP] or None,
            job_type=run.kind, tags=[tag[:LONGEST_TAG] for tag in (run.study, run.kind, run.state)],
            config={**run.params, "pairsearch": dict(run.tags)}, settings=settings,
        )  # fmt: skip
        for epoch, figures in run.points.items():
            open_run.log(figures, step=epoch)
        if run.report is not None:
            open_run.log({"report": wandb.Html(str(run.report))})
        open_run.finish()
        (made,) = (self._parts / "wandb").glob(f"offline-run-*-{run.id}")
        # The client writes the last records in the background, and on a full disk never, of which it says nothing.
        until = time.monotonic() + LONGEST_SECONDS
        while not _has_ended((made / f"run-{run.id}.wandb").read_bytes()):
            if time.monotonic() > until:
                raise OSError("the client wrote a run in part: is there room on the disk?")
            time.sleep(0.005)
        for name in ("logs", "tmp"):
            shutil.rmtree(made / name, ignore_errors=True)
        (made / STATE).write_text(run.state, encoding="utf-8")
        for number, old in enumerate(self._runs.glob(f"offline-run-*-{run.id}")):
            old.rename(self._parts / f"{run.id}-{number}")
        made.rename(self._runs / made.name)

    def close(self) -> None:
        wandb.teardown()
        shutil.rmtree(self._parts, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


def _lock(folder: Path) -> IO[bytes]:
    """Lock a folder of parts as long as the returned file is open, and its process lives: else it is nobody's.

    Raises:
        OSError: another process has locked it.
    """
    file = (folder / "lock").open("wb")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def _has_ended(log: bytes) -> bool:
    """Whether a run's file has the record of its end, which is the last."""
    *_, last = (b"", *records(log))
    return bool(Record.FromString(last).HasField("exit"))


def records(log: bytes) -> Iterator[bytes]:
    """Yield the records of a run's file, LevelDB's format of logs after 7 bytes; the client has no reader of it."""
    block, place, parts = 32768, 7, b""
    while place + 7 <= len(log):
        if block - place % block < 7:
            place += block - place % block
            continue
        _, length, kind = struct.unpack_from("<IHB", log, place)
        place += 7 + length
        if place > len(log):
            return
        parts += log[place - length : place]
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
