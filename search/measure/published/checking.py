"""Trains a random sample of published results again, and compares them bit for bit."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairsearch.search.database.states import State
from pairsearch.search.errors import InputError, WorkError
from pairsearch.search.evaluation.rounds import Request, train_rounds
from pairsearch.search.measure.published.reading import final_figures, fold_figures, mean_curves
from pairsearch.search.provenance import processor
from pairsearch.search.results.published import Published, Rows, load
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.studies import loading
from pairsearch.studies.definition import read, shipped
from pairsearch.studies.loading import Loaded

ROUNDS = 2
"""Number of rounds of the final evaluation that a check trains again."""


@dataclass(frozen=True, slots=True)
class Task:
    """A published configuration to train again, or one of its rounds."""

    study: str
    key: str
    round: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of training again: a line for people, and whether the bits are the published ones."""

    line: str
    same: bool


def draw(published: Published, count: int, seed: int) -> list[Task]:
    """Draw a random sample: equally many configurations of each study, those with long training first, and two rounds.

    Args:
        published: the published results.
        count: the number of configurations in all; failed and pruned ones are not drawn.
        seed: of the sample.
    """
    random = np.random.default_rng(seed)
    by_study = {
        study: [
            Task(study, key)
            for (owner, key), rows in published.folds.items()
            if owner == study and rows[0]["state"] in (State.FINISHED, State.DIVERGED)
        ]
        for study in random.permutation(list(published.definitions))
    }
    shuffled = [[tasks[index] for index in random.permutation(len(tasks))] for tasks in by_study.values()]
    # One configuration of each study in turn, until there are enough or none is left.
    in_turn = [
        tasks[place] for place in range(max(map(len, shuffled))) for tasks in shuffled if place < len(tasks)
    ]
    configurations = sorted(
        in_turn[:count], key=lambda task: -published.folds[task.study, task.key][0]["seconds"]
    )
    stored = [
        Task(*of, row["round"])
        for of, rows in published.rounds.items()
        if of in published.folds
        for row in rows
    ]
    chosen = random.permutation(len(stored))[: min(ROUNDS, count)]
    return configurations + [stored[index] for index in chosen]


class Checker:
    """Trains published results again.

    Args:
        published: the published results.
        loaded: definitions and problems by the study's name.
        threads: how many threads a problem may use.
    """

    def __init__(self, published: Published, loaded: Mapping[str, Loaded], threads: int = 1) -> None:
        self.published = published
        self._loaded = loaded
        self._objectives = {name: CrossValidation(one, threads=threads) for name, one in loaded.items()}

    def __call__(self, task: Task) -> Finding:
        """Train a task again and compare the figures."""
        rows = self.published.folds[task.study, task.key]
        if task.round is None:
            what, origin = f"{task.study} {task.key}", rows[0]["processor"]
            differences = self._configuration(task, rows)
        else:
            what = f"{task.study} {task.key}, round {task.round}"
            (row,) = [
                row for row in self.published.rounds[task.study, task.key] if row["round"] == task.round
            ]
            origin, differences = row["processor"], self._round(task, row)
        if not differences:
            return Finding(f"{what}: the same bits", same=True)
        where = f"trained here on {processor()}, published from {origin}"
        return Finding(f"{what}: OTHER BITS: {'; '.join(differences)}; {where}", same=False)

    def _configuration(self, task: Task, rows: Rows) -> list[str]:
        tables = self.published.layout
        outcome = self._objectives[task.study](self.published.points[task.study][task.key])
        if outcome is None:
            raise WorkError(f"{task.study} {task.key}: the training ended without a result")
        differences = []
        if outcome.state != rows[0]["state"]:
            differences.append(f"{outcome.state} here, {rows[0]['state']} published")
        differences += _compared("fold", tables.folds.compared, fold_figures(outcome, tables.folds), rows)
        curves = self.published.curves[task.study, task.key]
        means = mean_curves(outcome, tables.curves)
        # After the first epoch that differs most others do too, so one is enough.
        differences += _compared("means of epoch", tables.curves.compared, means, curves)[:1]
        return differences

    def _round(self, task: Task, row: dict[str, object]) -> list[str]:
        assert task.round is not None, "a task of a round"  # noqa: S101
        columns, loaded = self.published.layout.rounds, self._loaded[task.study]
        configuration = self.published.points[task.study][task.key]
        request = Request(configuration, (task.round,), loaded.definition.evaluation.rounds)
        (trained,) = train_rounds(loaded, request)
        ours = {"round": task.round} | final_figures(trained.result, columns)
        return _compared("round", columns.compared, [ours], [row])


def _compared(what: str, names: Sequence[str], ours: Rows, published: Rows) -> list[str]:
    """Describe each row that differs, by its first figure that differs.

    Args:
        what: description of a row, whose last word is the column that numbers the rows.
        names: the columns to compare.
        ours: rows that were trained here.
        published: published rows.
    """
    if len(ours) != len(published):
        return [f"{what}: {len(ours)} here, {len(published)} published"]
    differences = []
    for mine, theirs in zip(ours, published, strict=True):
        number = what.rpartition(" ")[2]
        for name in (number, *names):
            if _bits(mine[name]) != _bits(theirs[name]):
                differences.append(
                    f"{what} {theirs[number]} ({name} {mine[name]!r} here, {theirs[name]!r} published)"
                )
                break
    return differences


def _bits(figure: object) -> object:
    return struct.pack("<d", figure) if isinstance(figure, float) else figure


def checker(folder: Path, options: Mapping[str, str], threads: int = 1) -> Checker:
    """Load the results of a folder, and the problems and data that they name, to check them.

    Args:
        folder: a folder of published results.
        options: settings of this machine for the problems.
        threads: how many threads a problem may use.

    Raises:
        InputError: results are missing or damaged, or were published with other definitions, problems or data.
        DefinitionError: a problem or its data cannot be loaded.
    """
    published = load(folder)
    # Definitions are compared before data are loaded, or even downloaded.
    _refuse(folder, _other_definitions(published))
    loaded, known = {}, shipped()
    for study, definition in published.definitions.items():
        place = known[study].parent if study in known else None
        there = published.traits[study]
        loaded[study] = loading.load(definition, place, options, there.remember)
        here = loaded[study].traits
        if there.version != here.version:
            differs = f"the version of problem {definition.problem} is {there.version} there and {here.version} here"
            _refuse(folder, [differs])
        if there.fingerprint != here.fingerprint:
            _refuse(folder, [f"their data are {there.data} and those here are {here.data}"])
    return Checker(published, loaded, threads)


def _other_definitions(published: Published) -> list[str]:
    """Describe how the published definitions differ from the shipped ones in what results depend on."""
    differences = []
    known = shipped()
    for study, definition in published.definitions.items():
        there = definition.results_depend_on
        here = read(known[study]).results_depend_on if study in known else there
        differences += [
            f"{name} of study {study} is {there.get(name)!r} there and {here.get(name)!r} in the shipped definition"
            for name in sorted(there.keys() | here.keys())
            if there.get(name) != here.get(name)
        ]
    return differences


def _refuse(folder: Path, differences: Sequence[str]) -> None:
    if differences:
        raise InputError(f"the results in {folder} cannot be checked here: {'; '.join(differences)}")


def check(
    folder: Path, options: Mapping[str, str], count: int, seed: int, threads: int = 1
) -> Iterator[Finding]:
    """Train a random sample of published results again, and yield a finding for each, in the order of `draw`.

    Args:
        folder: a folder of published results.
        options: settings of this machine for the problems.
        count: the number of configurations in the sample.
        seed: of the sample.
        threads: how many threads a problem may use; the figures do not depend on it.

    Raises:
        InputError: see `checker`; raised before anything is trained.
        DefinitionError: see `checker`.
    """
    check_one = checker(folder, options, threads)
    yield from map(check_one, draw(check_one.published, count, seed))
