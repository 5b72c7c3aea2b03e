"""Trains a few points of a grid for two epochs, to check that results are reproducible and to estimate the costs.

A new process trains them, and its time and memory are measured. This process trains the first point for comparison.
"""

from __future__ import annotations

import base64
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from time import monotonic

from pairsearch.search.common.errors import WorkError
from pairsearch.search.common.machine import Machine, available_memory
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.checkpoints import Kept
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.setup.arguments import StudyArgument, look_up
from pairsearch.search.setup.opening import load
from pairsearch.search.workers import contract, program
from pairsearch.search.workers.contract import digest
from pairsearch.search.workers.failure import failure
from pairsearch.search.workers.isolation import Isolation, isolated
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.search.workers.recorder import Keeper, train
from pairsearch.search.workers.searching import usual_workers
from pairsearch.studies.checkpoint_file import pack, unpack
from pairsearch.studies.checks import Check
from pairsearch.studies.configuration import Configuration, describe, shown
from pairsearch.studies.grid import WHERE, Grid
from pairsearch.studies.intervals import Interval, total_interval
from pairsearch.studies.loading import Loaded, check_trainable
from pairsearch.studies.problem import Impossible, Kind
from pairsearch.studies.seeds import layout_order

EPOCHS = 2
PATIENCE_SECONDS = 600.0
WHOLE_SECONDS = 30.0
"""How long one run may train that shows how many epochs a problem has."""
UNITS = {"hours": 3600, "minutes": 60}
"""Units of time with their seconds; shorter times are given in seconds."""
# Measured on the SQLite file of the paper's grid.
BYTES_PER_NUMBER = 22
BYTES_PER_RUN = 400
BYTES_PER_CONFIGURATION = 4000


@dataclass(frozen=True, slots=True)
class Measured:
    """What a new process measured.

    Args:
        digest: SHA-256 (hex) of the figures of the first point that can be trained.
        seconds: of the training of each such point, all folds together, for `Rehearsal.epochs` epochs.
        memory: peak memory in bytes, of the process or the largest one that it has started.
        checkpoint: of the first fold of the first point, which was interrupted in its middle (base64 of a
            `studies.checkpoint_file` of `Kept`); None if the problem saves none.
        first: the place of the first point that can be trained.
        impossible: a line about each point that the problem found impossible.
    """

    digest: str
    seconds: list[float]
    memory: int
    checkpoint: str | None = None
    first: int = 0
    impossible: Sequence[str] = ()


class Held:
    """Keeps the checkpoint of one run in memory (`recorder.Keeper`)."""

    def __init__(self, kept: Kept | None = None) -> None:
        self.kept = kept
        self.used = False

    def find(self, _run: int) -> Kept | None:
        """Return it."""
        self.used = True
        return self.kept

    def keep(self, _run: int, kept: Kept) -> bool:
        """Put it in place of an earlier one."""
        self.kept, self.used = kept, True
        return True


class Rehearsal:
    """Trains points of a study for a few epochs.

    Args:
        points: how many points to train: the first of the study's order, which is random except for the paper's point.
    """

    def __init__(self, loaded: Loaded, points: int, device: str = "cpu") -> None:
        self.definition = loaded.definition
        self.epochs = min(EPOCHS, loaded.definition.epochs)
        self.points = layout_order(loaded.definition)[:points]
        self._objective = CrossValidation(loaded, device, epochs=self.epochs)
        # What an optimiser that begins anew changes in a step shows in the figures of the step after the next.
        self._longer = CrossValidation(loaded, device, epochs=min(2 * EPOCHS, loaded.definition.epochs))
        self._loaded, self._device = loaded, device

    def train(self, point: Configuration, folds: int | None = None, keeper: Keeper | None = None) -> Outcome:
        """Train a point on the first `folds` folds, on all for None, and return the outcome.

        Raises:
            Impossible: the problem finds that it cannot be trained.
            WorkError: the training raised another exception; the message names the point.
        """
        try:
            outcome = self._objective.on(range(folds or self.definition.folds), keeper)(point)
        except Impossible:
            raise
        except Exception as error:
            raise WorkError(f"{describe(point.params)}: {failure(error)}") from error
        assert outcome is not None, "nobody asked to hand it back"  # noqa: S101
        return outcome

    def measure(self) -> Measured:
        """Train every point and measure; to be called in a new process."""
        held, outcomes, impossible = Held(), dict[int, Outcome](), list[str]()
        for place, point in enumerate(self.points):
            try:
                if not outcomes:
                    # The first training loads or compiles kernels, so it is not measured.
                    self.train(point, 1, held)
                outcomes[place] = self.train(point)
            except Impossible as error:
                impossible.append(f"{describe(point.params)}: {failure(error)}")
        if not outcomes:
            raise WorkError(f"none of {len(self.points)} points can be trained; {impossible[0]}")
        first = min(outcomes)
        # Not the sum: Linux counts what a process had before it became another program.
        peak = max(
            resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        memory = peak if sys.platform == "darwin" else peak * 1024
        if isinstance(self._loaded.trainer, Isolation):
            # What a run's process shares with this one is counted in both.
            memory = max(memory, self._loaded.trainer.memory)
        return Measured(
            digest(outcomes[first]),
            [outcome.seconds for outcome in outcomes.values()],
            memory,
            self._interrupted(self.points[first]) if held.used else None,
            first,
            impossible,
        )

    def _interrupted(self, point: Configuration) -> str | None:
        """Interrupt the first fold of a point in its middle; return its checkpoint for `Measured`."""
        held, reports = Held(), count(1)
        middle = self._longer.runs[0].epochs // 2
        self._longer.on([0], held)(
            point,
            lambda step: None if step.polled or next(reports) < middle else State.PENDING,
        )
        return None if held.kept is None else base64.b64encode(pack(asdict(held.kept))).decode()

    def promises(self, elsewhere: Measured) -> Iterator[Check]:
        """Compare the figures of a new process with those of this one, and check the problem's contract."""
        first = self.points[elsewhere.first]
        try:
            same = contract.same_bits(self._objective, first, elsewhere.digest)
            resumed = None
            if elsewhere.checkpoint is not None:
                kept = Kept(**unpack(base64.b64decode(elsewhere.checkpoint)))
                resumed = contract.resumed(self._longer.on([0]), first, kept.epoch, Held(kept))
        except Exception as error:
            raise WorkError(f"{describe(first.params)}: {failure(error)}") from error
        yield same
        if resumed is not None:
            yield resumed
        yield from contract.contract(self._loaded, first, self._device, self.epochs)
        if self._loaded.problem.ends_by_itself and self.epochs < self.definition.epochs:
            yield self._whole(first)

    def _whole(self, point: Configuration) -> Check:
        """Train one run to its end, if that takes not long: a fold, or a round where those have fewer epochs."""
        definition, end = self.definition, monotonic() + WHOLE_SECONDS
        kind: Kind = "round" if definition.evaluation_epochs < definition.epochs else "fold"
        runs = definition.runs(kind, [0], None, self._device)
        try:
            trained = train(self._loaded, point.params, runs, lambda _: monotonic() < end)
        except Exception as error:
            return Check("epochs", False, f"{describe(point.params)}: {failure(error)}")
        if trained.stopped:
            return Check(
                "epochs", None, f"a {kind} takes more than {WHOLE_SECONDS:g} s: not trained to its end"
            )
        return Check("epochs", True, f"a {kind}, trained to its end, has no more than {runs[0].epochs}")

    def costs(self, elsewhere: Measured, workers: int) -> Iterator[Check]:
        """Estimate time, memory and storage of the whole study, for workers that each have a core."""
        count, points = len(self.definition.grid), len(self.points)
        # What is impossible takes no time worth mentioning.
        seconds = [*elsewhere.seconds, *(0.0 for _ in elsewhere.impossible)]
        whole = [one * self.definition.epochs / self.epochs for one in seconds]
        # A single point does not show how much points differ, so the interval has no width.
        total = total_interval([count], [whole]) if points > 1 else Interval.around(count * whole[0], 0.0)
        figures = (total.estimate, max(0.0, total.low), total.high)
        each = [f"{figure / count:.2f}" for figure in figures]
        unit, size = _unit(figures[0] / workers)
        shared = [f"{figure / workers / size:.2f}" for figure in figures]
        yield Check(
            "time",
            None,
            f"{each[0]} s a configuration ({each[1]} to {each[2]}, a 95 % interval from {points} points and "
            f"{self.epochs} of {self.definition.epochs} epochs); all {count:,} by {workers} workers, a core each: "
            f"{shared[0]} {unit} ({shared[1]} to {shared[2]})",
        )
        available = available_memory()
        room = "" if available is None else f"; {available / 2**30:.1f} GiB are free here"
        fits = None if available is None else workers * elsewhere.memory <= available
        yield Check("memory", fits, f"{elsewhere.memory / 2**20:,.0f} MiB a worker{room}")
        numbers = len(self._loaded.traits.of_folds) * self.definition.epochs * BYTES_PER_NUMBER
        size = count * (BYTES_PER_CONFIGURATION + self.definition.folds * (BYTES_PER_RUN + numbers))
        yield Check("database", None, f"some {size / 1e6:,.1f} MB when all is done")


def _constraints(grid: Grid) -> Iterator[Check]:
    """Yield how many points the conditions of a grid leave, with one that they drop."""
    if WHERE in grid.choices:
        values = ", ".join(map(shown, grid.choices[WHERE]))
        yield Check(WHERE, None, f"a parameter of the grid, as its values compare nothing: {values}")
    tables = [table for table in grid.root if table.where]
    if tables:
        left, every = (
            sum(counts) for counts in zip(*((t.size, t.combinations) for t in tables), strict=True)
        )
        example = "no condition drops any"
        if dropped := next((one for table in tables for one in table.dropped()), None):
            example = f"dropped is {describe(dropped[0])}, for example, by {dropped[1]}"
        yield Check(WHERE, None, f"{left:,} of {every:,} points remain; {example}")


def _unit(seconds: float) -> tuple[str, int]:
    """Return the unit for a time, and its seconds."""
    return next(((name, size) for name, size in UNITS.items() if seconds >= size), ("seconds", 1))


def measure_here(database: Database | None, text: str, machine: Machine, points: int) -> Measured:
    """Measure points of a study in this process, which is new; arguments and errors are those of `rehearse`."""
    loaded = load(database, look_up(text, database), machine)
    with isolated(loaded, database) as trained:
        return Rehearsal(trained, points, machine.device).measure()


def measure_elsewhere(given: StudyArgument, machine: Machine, points: int) -> Measured:
    """Run `measure_here` in a new process; raises WorkError with the last line that it printed where it failed."""
    words = ["check", given.text, "--points", str(points), "--measure", *machine.words]
    # What a problem prints may be long, so it goes to a file.
    with tempfile.TemporaryFile() as log:
        try:
            ended = subprocess.run(  # noqa: S603 - our own program
                program.command(*words),
                env=program.environment(),
                cwd=given.here,
                stdout=subprocess.PIPE,
                stderr=log,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise WorkError(
                f"{points} points took more than {PATIENCE_SECONDS:.0f} s: try fewer --points"
            ) from None
        if ended.returncode:
            line = program.last_line(log) or f"it ended with exit code {ended.returncode}"
            raise WorkError(f"a fresh process cannot train it: {line.removeprefix('error: ')}")
    return Measured(**json.loads(ended.stdout))


def rehearse(
    database: Database | None,
    text: str,
    machine: Machine,
    points: int,
    workers: int | None,
) -> Iterator[Check]:
    """Run all checks of a study, and yield each as soon as it is done.

    Args:
        database: where the study may be; None if there is no database.
        text: the STUDY argument.
        workers: the number of workers that the estimate assumes; None for the default.

    Raises:
        WorkError: a point cannot be trained.
        DefinitionError: the definition cannot be trained.
    """
    given = look_up(text, database)
    loaded = load(database, given, machine)
    check_trainable(loaded)
    definition = loaded.definition
    data = f", data {loaded.traits.data}" if loaded.traits.data else ""
    yield Check("definition", True, f"{len(definition.grid):,} configurations, {definition.protocol}{data}")
    yield from _constraints(definition.grid)
    with isolated(loaded, database) as trained:
        rehearsed = Rehearsal(trained, points, machine.device)
        settings = dict(machine.settings) | dict(loaded.traits.remember)
        elsewhere = measure_elsewhere(given, replace(machine, settings=settings), points)
        epochs = "" if definition.epochs == 1 else f", {rehearsed.epochs} epochs each"
        found = f"{len(elsewhere.seconds)} points{epochs}"
        if elsewhere.impossible:
            found += f"; {len(elsewhere.impossible)} are impossible, for example {elsewhere.impossible[0]}"
        yield Check("training", True, found)
        yield from rehearsed.promises(elsewhere)
        yield from rehearsed.costs(elsewhere, workers or usual_workers(machine))
