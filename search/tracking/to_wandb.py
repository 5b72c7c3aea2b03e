"""Writes runs as offline runs of Weights & Biases, which `wandb sync` sends; each appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import wandb

from pairsearch.search.common.files import made_folder
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.tracking.contract import Run, Tracker

STATE = "pairsearch-state"
"""The file in the folder of a run that has its state."""
LONGEST_TAG = 64
LONGEST_GROUP = 128


class Wandb(Tracker):
    """A folder of offline runs: projects are studies, groups are configurations; ids are those of runs."""

    errors = (wandb.Error, OSError)

    def __init__(self, place: str) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        self._runs = made_folder(made_folder(Path(place)) / "wandb")
        # On the same file system; `wandb sync` reads nothing there.
        self._parts = Path(tempfile.mkdtemp(prefix=".pairsearch-", dir=place))

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
        for name in ("logs", "tmp"):
            shutil.rmtree(made / name, ignore_errors=True)
        (made / STATE).write_text(run.state, encoding="utf-8")
        for number, old in enumerate(self._runs.glob(f"offline-run-*-{run.id}")):
            old.rename(self._parts / f"{run.id}-{number}")
        made.rename(self._runs / made.name)

    def close(self) -> None:
        wandb.teardown()
        shutil.rmtree(self._parts, ignore_errors=True)
