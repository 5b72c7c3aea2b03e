"""Asks a sampler, a pruner or the race on behalf of a worker, about what the ledger has so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, func, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations
from pairsearch.search.ledger.outcome import Outcome, reports_of
from pairsearch.search.ledger.rows import read_configuration, read_outcomes
from pairsearch.search.ledger.studies import Choices, StoredStudy, read_choices
from pairsearch.search.results.study_table import finished_folds
from pairsearch.search.sampling.in_memory import StudyInMemory
from pairsearch.studies import racing
from pairsearch.studies.configuration import Configuration

CHUNK = 200
columns = configurations.c


class Adviser:
    """What the sampler and the pruner of a study say, who know the results that the ledger has so far."""

    def __init__(self, database: Database, study: StoredStudy) -> None:
        self._database = database
        self._study = study
        self._mine = columns.study_id == study.id
        self._begin(study.choices)

    def _begin(self, choices: Choices) -> None:
        # What the memory has: the value of each configuration with a result, by its key.
        self._choices, self._known = choices, dict[str, float | None]()
        self.memory = StudyInMemory(
            self._study.definition,
            choices,
            maximise=self._study.metric.maximise,
            last_step=self._study.report_steps[-1],
        )

    def propose(self) -> Configuration:
        """Return the configuration that the sampler would train next, which may be trained or claimed already."""
        self._fill(elsewhere=True)
        return self.memory.propose(self._known.get)

    def should_prune(self, configuration: Configuration, reports: Mapping[int, float]) -> bool:
        """Do what `StudyInMemory.should_prune` does, after the latest results were added."""
        self._fill()
        return self.memory.should_prune(configuration, reports)

    def _fill(self, *, elsewhere: bool = False) -> None:
        """Add the results that have come since the last call, and what others train if a sampler asks."""
        with self._database.snapshot() as connection:
            choices = read_choices(connection, self._study.id)
            if choices != self._choices:
                self._begin(choices)  # the grid has grown
            for row, outcome in self._new(connection):
                configuration = read_configuration(row.key, row.params)
                self.memory.add(configuration, outcome.value, reports_of(self._study, outcome))
                self._known[row.key] = outcome.value
            if elsewhere:
                running = select(configurations).where(self._mine, columns.state == State.RUNNING)
                rows = connection.execute(running)
                self.memory.set_elsewhere([read_configuration(row.key, row.params) for row in rows])

    def _new(self, connection: Connection) -> Iterator[tuple[Row[Any], Outcome]]:
        """Yield the results that are not known yet, in the order in which they came."""
        ended = (self._mine, columns.state.in_(COVERED))
        # Counting is much quicker than reading, and mostly there is nothing new.
        count = connection.execute(select(func.count()).where(*ended)).scalar_one()
        if count == len(self._known):
            return
        keys = connection.execute(select(columns.key).where(*ended).order_by(columns.finished_at)).scalars()
        new = [key for key in keys if key not in self._known]
        for start in range(0, len(new), CHUNK):
            some = new[start : start + CHUNK]
            found = connection.execute(select(configurations).where(self._mine, columns.key.in_(some)))
            rows = sorted(found, key=lambda row: some.index(row.key))
            for row, outcome in zip(rows, read_outcomes(connection, rows), strict=True):
                if outcome is not None:
                    yield row, outcome


class Racer:
    """The race of a stored study, for a worker. It compares with the finished configurations of all workers."""

    def __init__(self, database: Database, study: StoredStudy) -> None:
        self._database = database
        self._study = study
        self._sign = study.metric.sign
        self._race = racing.Race(study.definition.folds, overlap=study.traits.overlap)
        self._known: set[str] = set()

    def should_prune(self, _: Configuration, reports: Mapping[int, float]) -> bool:
        """Whether a configuration is stopped after its first folds, by the study's metric in each of them."""
        if len(reports) not in racing.looks(self._study.definition.folds):
            return False
        with self._database.read() as connection:
            for key, values_K in finished_folds(connection, self._study, self._known).items():
                self._known.add(key)
                if np.isfinite(values_K).all():
                    self._race.add(self._sign * values_K)
        return self._race.stops(self._sign * np.array([*reports.values()]))
