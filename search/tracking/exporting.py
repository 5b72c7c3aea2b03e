"""Exports studies to trackers: what a tracker lacks is written, and nothing else is changed."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from pairsearch.search.common.errors import InputError, WorkError
from pairsearch.search.common.files import usable_folder
from pairsearch.search.common.redaction import conceal_places, learn
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.tracking.contract import Run, Tracker, run_id
from pairsearch.search.tracking.reading import States, read_runs, states_of

CLASSES = {"mlflow": "MLflow", "tensorboard": "TensorBoard", "wandb": "Wandb"}
"""Trackers by name, which is that of their package, too; `to_NAME` has the class."""
CHUNK = 10
"""Configurations whose runs are in memory at a time."""
REASON = 200
"""Characters of what a tracker says that a message has."""


class TrackerError(WorkError):
    """A tracker is away, refuses something, or cannot be written to."""


class Exported(NamedTuple):
    """What an export of a study did."""

    study: str
    to: str
    """The tracker, without a password."""
    written: int
    there: int
    """Runs that were written, and those that were there before; the study's own is not counted."""


@dataclass(frozen=True, slots=True)
class Target:
    """A tracker that was named: its name, and the folder or URI of it."""

    name: str
    place: str

    @classmethod
    def of(cls, text: str) -> Target:
        """Read `mlflow=URI`, `tensorboard=FOLDER` or `wandb=FOLDER`.

        Raises:
            InputError: it is none of these, the package is not installed, or the folder cannot be written to.
        """
        name, _, place = text.partition("=")
        if name not in CLASSES or not place:
            shown = conceal_places(text)
            raise InputError(f"--to {shown}: expected mlflow=URI, tensorboard=FOLDER or wandb=FOLDER")
        if find_spec(name) is None:
            raise InputError(f"--to {name}: its client is missing: pip install 'pairsearch[{name}]'")
        if name == "mlflow":
            learn(re.findall("://[^:@/]*:(.+)@", unquote(place)))
            place = _settled(place)
        else:
            # A problem may change the working directory.
            place = str(usable_folder(Path(place)).absolute())
        return cls(name, place)

    @classmethod
    def all_of(cls, texts: Sequence[str]) -> list[Target]:
        """Read several; one that is named twice counts once, since two exports to it would write runs twice."""
        return list(dict.fromkeys(map(cls.of, texts)))

    @property
    def label(self) -> str:
        """It as an option's value, without a password."""
        return conceal_places(f"{self.name}={self.place}")

    def tracker(self) -> type[Tracker]:
        """Import what opens it."""
        found: type[Tracker] = getattr(import_module(f"{__package__}.to_{self.name}"), CLASSES[self.name])
        return found


def _settled(uri: str) -> str:
    """Return a URI of MLflow's with the absolute path of a file or a folder: it is opened later, maybe elsewhere."""
    scheme, colon, path = uri.rpartition("file:")
    if uri.startswith("sqlite:///") and not uri.endswith(":memory:"):
        scheme, colon, path = uri.partition(":///")
    if scheme in ("", "sqlite") and not path.startswith("/") and ":" not in path and path != "databricks":
        return f"{scheme}{colon}{Path(path).absolute()}"
    return uri


def export(
    database: Database,
    study: StoredStudy,
    target: Target,
    states: States | None = None,
    *,
    report: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write the runs of configurations that have ended to a tracker, those that it lacks or has in another state.

    Args:
        states: what there is to export, where it was read before.
        report: whether the study's own run is written too, with its report; it is if anything is new.

    Raises:
        TrackerError: the tracker is away, refuses something, or cannot be written to.
    """
    states = states_of(database, study) if states is None else states
    every = {name: state for of_key in states.values() for name, state in of_key.items()}
    kind, written, left = target.tracker(), 0, len(every)
    try:
        with closing(kind(target.place)) as tracker:
            known = tracker.known(study)
            lacks = [key for key, of_key in states.items() if not of_key.items() <= known.items()]
            left = sum(known.get(name) != state for name, state in every.items())
            for start in range(0, len(lacks), CHUNK):
                # Trackers take their time, for which no transaction waits.
                with database.snapshot() as connection:
                    runs = list(read_runs(connection, study, lacks[start : start + CHUNK]))
                # What has come since is for the next export.
                for run in [run for run in runs if run.id in every and known.get(run.id) != run.state]:
                    tell(f"{study.name}: {left} runs to write to {target.label}")
                    tracker.write(run)
                    written, left = written + 1, left - 1
            whole = _study_run(study, states)
            if report and known.get(whole.id) != whole.state:
                # It takes half a second to import.
                from pairsearch.search.report.document import compose_stored  # noqa: PLC0415
                from pairsearch.search.report.page import write  # noqa: PLC0415

                with tempfile.TemporaryDirectory() as folder:
                    page = write(compose_stored(database, [study], tell), Path(folder) / "report.html")
                    tracker.write(replace(whole, report=page))
    except kind.errors as error:
        said = " ".join(str(error).split()) or type(error).__name__
        # Clients of servers repeat all that was asked before they say what was wrong.
        reason = re.search(r"\[Errno -?\d+\] ([^'\")]+)", said)
        raise TrackerError(
            f"{left} runs of study {study.name} are not in {target.label}: {reason[1] if reason else said[:REASON]}: "
            f"{again([study.name], target)} exports them"
        ) from None
    return Exported(study.name, target.label, written, len(every) - written)


def again(studies: Sequence[str], target: Target) -> str:
    """Return the command that exports studies, as messages show it."""
    return f"`pairsearch export {' '.join(studies)} --to {target.label}`"


def _study_run(study: StoredStudy, states: States) -> Run:
    """Return the run of a study, in which all others are nested; its state is that of all of them."""
    name = run_id(study, "study")
    digest = hashlib.sha256(repr(sorted(states.items())).encode()).hexdigest()[:12]
    counts = Counter(of_key[run_id(study, "configuration", key)] for key, of_key in states.items())
    tags = {"study": study.name, "title": study.definition.title, "metric": study.definition.metric}
    tags |= {state: str(count) for state, count in counts.items()}
    now = time.time()
    since = max(0.0, now - study.created_at)
    return Run(name, study.name, "study", study.name, digest, tags=tags, ended=now, seconds=since)
