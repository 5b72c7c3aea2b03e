"""Trains a random sample of published results again and demands the same bits."""

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
"""Rounds of the final evaluation that a check trains again."""


@dataclass(frozen=True, slots=True)
class Task:
    """A published configuration, or one of its rounds, to be trained again."""

    study: str
    key: str
    round: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What training again gave: one line, and whether the bits are the published ones."""

    line: str
    same: bool


def draw(published: Published, count: int, seed: int) -> list[Task]:
    """A random sample: as many configurations of each study as of another, and two rounds; the longest first.

    Args:
        count: configurations in all; those that failed or were pruned are not drawn.
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
    # One of each study in turn, until there are enough or none is left.
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
    """Trains published results again by the problems that they name, with so many threads."""

    def __init__(self, published: Published, loaded: Mapping[str, Loaded], threads: int = 1) -> None:
        self.published = published
        self._loaded = loaded
        self._objectives = {name: CrossValidation(one, threads=threads) for name, one in loaded.items()}

    def __call__(self, task: Task) -> Finding:
        """Train again what a task names, and compare."""
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
        # From the first epoch that differs on, most do.
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
    """A text for each row that differs, with the first figure that does.

    Args:
        what: its last word is the column that numbers the rows.
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
    """What checks the results of a folder, by the problems and with the data that they name.

    Args:
        options: settings of this machine.

    Raises:
        InputError, DefinitionError: results or data are missing or damaged, or would not give the published bits.
    """
    published = load(folder)
    # First, before anybody downloads data in vain.
    _refuse(folder, _other_definitions(published))
    loaded, known = {}, shipped()
    for study, definition in published.definitions.items():
        place = known[study].parent if study in known else None
        held = published.traits[study]
        loaded[study] = loading.load(definition, place, options, held.remember)
        given = loaded[study].traits
        if held.version != given.version:
            differs = f"the version of problem {definition.problem} is {held.version} there and {given.version} here"
            _refuse(folder, [differs])
        if held.fingerprint != given.fingerprint:
            _refuse(folder, [f"their data are {held.data} and those here are {given.data}"])
    return Checker(published, loaded, threads)


def _other_definitions(published: Published) -> list[str]:
    """What the published bits depend on and is otherwise in the definitions of this program."""
    found = []
    known = shipped()
    for study, definition in published.definitions.items():
        held = definition.results_depend_on
        given = read(known[study]).results_depend_on if study in known else held
        found += [
            f"{name} of study {study} is {held.get(name)!r} there and {given.get(name)!r} in the shipped definition"
            for name in sorted(held.keys() | given.keys())
            if held.get(name) != given.get(name)
        ]
    return found


def _refuse(folder: Path, differences: Sequence[str]) -> None:
    if differences:
        raise InputError(f"the results in {folder} cannot be checked here: {'; '.join(differences)}")


def check(
    folder: Path, options: Mapping[str, str], count: int, seed: int, threads: int = 1
) -> Iterator[Finding]:
    """Train a random sample again, as `draw` gives it; findings in its order.

    Args:
        options: settings of this machine.
        threads: folds trained at a time; the figures do not depend on it.

    Raises:
        InputError, DefinitionError: as for `checker`; before anything is trained.
    """
    check_one = checker(folder, options, threads)
    yield from map(check_one, draw(check_one.published, count, seed))
