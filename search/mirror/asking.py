"""Asks Optuna's samplers and pruners on behalf of a worker, in memory, about a study filled from the ledger."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import ColumnElement, Connection, Row, func, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.rows import read_configuration, read_outcomes
from pairsearch.search.ledger.studies import StoredStudy, read_choices
from pairsearch.search.mirror.contents import report_steps, reports_of, state_of
from pairsearch.search.mirror.space import Space
from pairsearch.studies.configuration import Configuration, Params
from pairsearch.studies.definition import Definition

# How many proposals a worker asks for at most: a sampler may go on proposing configurations that are done or claimed.
PROPOSALS = 20
CHUNK = 200

SAMPLERS: dict[str, Callable[[int | None], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}
"""Makes a sampler by its name in a definition; the argument is its seed, None for a random one."""

columns = configurations.c


def make_pruner(kind: str, last_step: int) -> optuna.pruners.BasePruner:
    """Make Optuna's pruner by its name in a definition.

    Args:
        kind: the name.
        last_step: the last step that is reported.
    """
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=last_step),
        "wilcoxon": optuna.pruners.WilcoxonPruner,
    }
    with warnings.catch_warnings():
        # Optuna warns that the constructor may change, which is no concern of a study's user.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return pruners[kind]()


def draw_table(definition: Definition, generator: random.Random) -> Params:
    """Draw a table of the grid, with probability proportional to its number of points, for its parameters.

    The sampler is then asked for values of these parameters.
    """
    tables = definition.grid.root
    (chosen,) = generator.choices(tables, [table.size for table in tables])
    return {name: values[0] for name, values in chosen.root.items()}


class _Storage(InMemoryStorage):
    """Optuna's storage in memory, with what others train at this moment among its trials."""

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[FrozenTrial] = []

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials in some states."""
        others = [trial for trial in self.elsewhere if states is None or trial.state in states]
        return [*super().get_all_trials(study_id, deepcopy, states), *others]


class Adviser:
    """A study in memory with the results that the ledger has so far, and Optuna's sampler and pruner for it."""

    def __init__(self, database: Database, study: StoredStudy) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._database = database
        self._study = study
        self._random = random.Random()  # noqa: S311 - not a secret, and no result depends on it
        kind = study.definition.pruner
        self.prunes = kind not in ("none", "race")
        self._pruner = make_pruner(kind if self.prunes else "none", report_steps(study)[-1])
        # The configuration that this worker trains, and its trial in memory.
        self._own: tuple[str, int] | None = None
        self._ask_anew(Space(study.choices))

    def _ask_anew(self, space: Space) -> None:
        definition = self._study.definition
        self._space, self._storage, self._known, self._own = space, _Storage(), set[str](), None
        self._optuna = optuna.create_study(
            study_name=self._study.name,
            storage=self._storage,
            direction="maximize" if self._study.metric.maximise else "minimize",
            sampler=None if definition.sampler == "grid" else SAMPLERS[definition.sampler](None),
            pruner=self._pruner,
        )

    def propose(self) -> Configuration:
        """Return the configuration that the sampler would train next, which may be trained or claimed already."""
        self._fill(elsewhere=True)
        trial = self._optuna.ask(self._space.of(draw_table(self._study.definition, self._random)))
        configuration = Configuration(self._space.values(trial.params))
        stored = self._value(configuration.key)
        if stored is None:
            self._optuna.tell(trial, state=TrialState.FAIL)
        else:
            # Asked for again, it gives what it gave.
            self._optuna.tell(trial, stored)
        return configuration

    def trials(self) -> list[FrozenTrial]:
        """Return the trials that sampler and pruner see, with those that others train at this moment."""
        return self._storage.get_all_trials(self._optuna._study_id)

    def _value(self, key: str) -> float | None:
        with self._database.read() as connection:
            mine = select(columns.value).where(columns.study_id == self._study.id, columns.key == key)
            value: float | None = connection.execute(mine).scalar()
            return value

    def should_prune(self, configuration: Configuration, reports: Mapping[int, float]) -> bool:
        """Whether the pruner stops a configuration after the last of its reports.

        Args:
            reports: the metric of this attempt by step; with the first one a new attempt begins.
        """
        self._fill()
        step, value = list(reports.items())[-1]
        if len(reports) == 1 or self._own is None:
            if self._own is not None:
                self._storage.set_trial_state_values(self._own[1], TrialState.FAIL)
            trial_id = self._storage.create_new_trial(self._optuna._study_id, self._running(configuration))
            self._own = (configuration.key, trial_id)
        _, trial_id = self._own
        self._storage.set_trial_intermediate_value(trial_id, step, value)
        return optuna.trial.Trial(self._optuna, trial_id).should_prune()

    def _running(self, configuration: Configuration) -> FrozenTrial:
        return create_trial(
            state=TrialState.RUNNING,
            params=self._space.categories(configuration.params),
            distributions=self._space.of(configuration.params),
        )

    def _fill(self, *, elsewhere: bool = False) -> None:
        """Add the results that have come since the last call, and what others train if a sampler asks."""
        with self._database.snapshot() as connection:
            choices = read_choices(connection, self._study.id)
            if choices != self._space.choices:
                self._ask_anew(Space(choices))  # the grid has grown
            mine = columns.study_id == self._study.id
            for row, outcome in self._new(connection, mine):
                if self._own is not None and self._own[0] == row.key:
                    values = None if outcome.value is None else [outcome.value]
                    self._storage.set_trial_state_values(self._own[1], state_of(outcome), values)
                    self._own = None
                else:
                    self._add(read_configuration(row.key, row.params), outcome)
                self._known.add(row.key)
            if elsewhere:
                running = select(configurations).where(mine, columns.state == State.RUNNING)
                self._storage.elsewhere = [
                    self._running(read_configuration(row.key, row.params))
                    for row in connection.execute(running)
                ]

    def _new(self, connection: Connection, mine: ColumnElement[bool]) -> Iterator[tuple[Row[Any], Outcome]]:
        """Yield the results that are not known yet, in the order in which they came."""
        ended = (mine, columns.state.in_(COVERED))
        # Counting is much quicker than reading, and mostly there is nothing new.
        count = connection.execute(select(func.count()).where(*ended)).scalar_one()
        if count == len(self._known):
            return
        keys = connection.execute(select(columns.key).where(*ended).order_by(columns.finished_at)).scalars()
        new = [key for key in keys if key not in self._known]
        for start in range(0, len(new), CHUNK):
            some = select(configurations).where(mine, columns.key.in_(new[start : start + CHUNK]))
            rows = connection.execute(some.order_by(columns.finished_at)).all()
            for row, outcome in zip(rows, read_outcomes(connection, rows), strict=True):
                if outcome is not None:
                    yield row, outcome

    def _add(self, configuration: Configuration, outcome: Outcome) -> None:
        reports, running = reports_of(self._study, outcome), self._running(configuration)
        if not isinstance(self._pruner, optuna.pruners.HyperbandPruner):
            ended = create_trial(
                state=state_of(outcome),
                value=outcome.value,
                params=running.params,
                distributions=running.distributions,
                intermediate_values=reports,
            )
            self._optuna.add_trial(ended)
            return
        # Hyperband notes at each report who competes with whom, so it has to hear them one by one.
        trial_id = self._storage.create_new_trial(self._optuna._study_id, running)
        for step, value in sorted(reports.items()):
            self._storage.set_trial_intermediate_value(trial_id, step, value)
            optuna.trial.Trial(self._optuna, trial_id).should_prune()
        values = None if outcome.value is None else [outcome.value]
        self._storage.set_trial_state_values(trial_id, state_of(outcome), values)
