"""Writes runs as folders of TensorBoard's event files, each of which appears whole or not at all."""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.scalar import summary_v2 as scalars
from tensorboard.plugins.text import summary_v2 as texts
from tensorboard.summary.writer.record_writer import RecordWriter

from pairsearch.search.common.files import made_folder, whole_file
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.tracking.contract import Run, Tracker

EVENTS = "events.out.tfevents"
"""Begins the name of every file that TensorBoard reads; the run's id and state follow."""


class TensorBoard(Tracker):
    """A folder of logs, with a folder for each study, in which are those of configurations, and in these of runs."""

    errors = (OSError,)

    def __init__(self, place: str) -> None:
        self._folder = made_folder(Path(place))

    def known(self, study: StoredStudy) -> dict[str, str]:
        files = (self._folder / study.name).rglob(f"{EVENTS}.*")
        return {(parts := file.name.split("."))[-2]: parts[-1] for file in files}

    def write(self, run: Run) -> None:
        folder = made_folder(self._folder / run.study)
        if run.kind != "study":
            folder = made_folder(folder / _plain(run.group))
        if run.nested:
            folder = made_folder(folder / _plain(run.name))
        if run.report is not None:
            with run.report.open("rb") as page, whole_file(folder / f"report-{run.id}.html") as file:
                shutil.copyfileobj(page, file)
        # Until it is whole it has a name that TensorBoard does not read.
        part = folder / f"{run.id}.{secrets.token_hex(4)}.part"
        with whole_file(part) as file:
            writer = RecordWriter(file)
            begin = Event(wall_time=run.ended - run.seconds, file_version="brain.Event:2")
            writer.write(begin.SerializeToString())
            for step, summary in _summaries(run):
                writer.write(Event(wall_time=run.ended, step=step, summary=summary).SerializeToString())
        for old in folder.glob(f"{EVENTS}.*.{run.id}.*"):
            old.unlink(missing_ok=True)
        part.replace(folder / f"{EVENTS}.{run.ended:.0f}.{run.id}.{run.state}")


def _summaries(run: Run) -> list[tuple[int, Summary]]:
    found = [(0, texts.text_pb(f"tags/{name}", text)) for name, text in run.tags.items()]
    if run.params:
        began = run.ended - run.seconds
        found.append((0, hparams.hparams_pb(dict(run.params), trial_id=run.id, start_time_secs=began)))
    for epoch, figures in run.points.items():
        found += [(epoch, scalars.scalar_pb(name, figure)) for name, figure in figures.items()]
    return found


def _plain(name: str) -> str:
    """Return a name for a folder on any system."""
    return re.sub(r"[^\w=.,+() -]", "_", name, flags=re.ASCII)
