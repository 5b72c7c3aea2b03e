"""Trains a random sample of the shipped results again, and demands the same bits.

    python benchmarks/check_published.py --check 20

It exits with 0 where it gets them, with 1 where it does not, and with 2 where version, data or definitions differ.
"""

from __future__ import annotations

import argparse
import secrets
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pairsearch.search.common import threads

threads.limit()

import numpy as np

from pairsearch.search.common.errors import PairsearchError, WorkError
from pairsearch.search.common.machine import Machine
from pairsearch.search.common.provenance import processor
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.evaluations import rounds_within
from pairsearch.search.results.study_table import mean_curve
from pairsearch.search.setup.arguments import look_up
from pairsearch.search.setup.load import load
from pairsearch.search.setup.opening import existing
from pairsearch.search.setup.opening import load as load_problem
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.search.workers.rounds import Rounds
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.loading import Loaded
from pairsearch.studies.reproduction import study_names

ROUNDS = 2
"""Number of rounds of the final evaluation that a check trains again."""
Task = tuple[str, Configuration, int | None]
"""A study's name, a configuration of its grid, and the number of a round, or None for its folds."""


class Checker:
    """Trains shipped results again.

    Args:
        database: a database into which they were loaded.
        machine: how to train.
        names: the studies to draw from.

    Raises:
        StudyError: they have another definition, problem or data than there are here.
    """

    def __init__(self, database: Database, machine: Machine, names: Sequence[str]) -> None:
        self.database, self.machine = database, machine
        self.loaded: dict[str, Loaded] = {}
        self.studies: dict[str, StoredStudy] = {}
        for name in names:
            # The shipped definition, not the loaded one: the two are compared.
            self.loaded[name] = load_problem(database, look_up(name, database), machine)
            self.studies[name] = existing(database, self.loaded[name])

    def draw(self, count: int, seed: int) -> list[Task]:
        """Draw equally many configurations of each study, those with long training first, and two rounds."""
        random = np.random.default_rng(seed)
        drawn: list[list[tuple[float, Task]]] = []
        stored: list[Task] = []
        for name in random.permutation(list(self.studies)).tolist():
            outcomes: list[tuple[float, Task]] = []
            points = self.studies[name].definition.grid.configurations()
            for place in random.permutation(len(points))[:count]:
                outcome = self._outcome(name, points[place])
                if outcome is not None and outcome.state != State.PRUNED:
                    outcomes.append((outcome.seconds, (name, points[place], None)))
            drawn.append(outcomes)
            by_key = {one.key: one for one in points}
            with self.database.read() as connection:
                found = rounds_within(connection, self.studies[name])
            stored += [(name, by_key[one.key], one.index) for one in found if one.key in by_key]
        in_turn = [of[place] for place in range(count) for of in drawn if place < len(of)]
        tasks = [task for _, task in sorted(in_turn[:count], key=lambda entry: -entry[0])]
        chosen = random.permutation(len(stored))[: min(ROUNDS, count)]
        return tasks + [stored[index] for index in chosen]

    def _outcome(self, name: str, configuration: Configuration) -> Outcome | None:
        return Ledger(self.database, self.studies[name]).outcome(configuration.key)

    def differences(self, task: Task) -> list[str]:
        """Train a task again; return what differs from the stored result."""
        name, configuration, index = task
        if index is not None:
            return self._round(name, configuration, index)
        stored = self._outcome(name, configuration)
        ours = CrossValidation(self.loaded[name], threads=self.machine.threads)(configuration)
        if stored is None or ours is None:
            raise WorkError(f"{name} {configuration.key}: the training ended without a result")
        found = [] if ours.state == stored.state else [f"{ours.state} here, {stored.state} published"]
        for mine, theirs in zip(ours.folds, stored.folds, strict=True):
            found += _different(f"fold {mine.index}", mine.final, theirs.final)
            found += [] if mine.diverged == theirs.diverged else [f"fold {mine.index}: epoch of divergence"]
        for figure, points in (stored.mean.curves if stored.mean is not None else {}).items():
            means = mean_curve([fold.curves.get(figure, ()) for fold in ours.folds])
            pairs = zip(means, points, strict=True)
            epochs = (
                _different(f"means of epoch {epoch}", {figure: mine}, {figure: theirs})
                for epoch, (mine, theirs) in enumerate(pairs, start=1)
            )
            # After the first epoch that differs most others do too.
            found += next(filter(None, epochs), [])
        return found

    def _round(self, name: str, configuration: Configuration, index: int) -> list[str]:
        loaded = self.loaded[name]
        (trained,) = Rounds(loaded, self.machine)(configuration, [index])
        with self.database.read() as connection:
            rounds = rounds_within(connection, self.studies[name], configuration.key)
        (stored,) = (one for one in rounds if one.index == index)
        return _different(f"round {index}", trained.result.final, stored.figures)


def _different(what: str, ours: Mapping[str, float | None], theirs: Mapping[str, float | None]) -> list[str]:
    return [
        f"{what} ({name} {ours.get(name)!r} here, {theirs.get(name)!r} published)"
        for name in sorted(ours.keys() | theirs.keys())
        if _bits(ours.get(name)) != _bits(theirs.get(name))
    ][:1]


def _bits(figure: float | None) -> bytes:
    return b"" if figure is None or figure != figure else struct.pack("<d", figure)  # noqa: PLR0124 - NaN


def lines(check: Checker, tasks: Sequence[Task]) -> Iterator[tuple[str, bool]]:
    """Train tasks again; yield a line for each, and whether the bits are the same."""
    for name, configuration, index in tasks:
        what = f"{name} {configuration.key}" + ("" if index is None else f", round {index}")
        found = check.differences((name, configuration, index))
        here = f"; trained here on {processor()}"
        yield (
            f"{what}: OTHER BITS: {'; '.join(found)}{here}" if found else f"{what}: the same bits",
            not found,
        )


def main() -> int:
    """Check a sample and print a line for each; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", type=int, default=20, help="how many configurations to train again")
    parser.add_argument(
        "--seed", type=int, default=None, help="seed of the sample; another each time without it"
    )
    parser.add_argument(
        "--results", default="paper", help="a folder that `pairsearch export` wrote, or paper"
    )
    parser.add_argument("--study", nargs="+", default=study_names(), help="studies to draw from")
    parser.add_argument("--data-dir", type=Path, default=None, help="torchvision root of MNIST")
    options = parser.parse_args()
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    settings = {} if options.data_dir is None else {"data_dir": str(options.data_dir)}
    others = count = 0
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/published.db"
        try:
            load(url, options.results, options.study)
            check = Checker(open_database(url), Machine(settings=settings), options.study)
        except (PairsearchError, DefinitionError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        for line, same in lines(check, check.draw(options.check, seed)):
            print(line, flush=True)
            count, others = count + 1, others + (not same)
        check.database.close()
    print(f"seed {seed}: {count} trained again, {others or 'none'} with other bits")
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
