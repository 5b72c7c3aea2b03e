"""Optuna's samplers and pruners, asked on behalf of a worker."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from contextlib import suppress

import optuna

from pairsearch.search.mirror.contents import report_steps
from pairsearch.search.mirror.study import LostTrialError, Space, watched
from pairsearch.search.mirror.trials import Mirror
from pairsearch.studies.configuration import Configuration, Params
from pairsearch.studies.definition import Definition

# A sampler that keeps proposing what is done or taken would keep a worker from what is left of the grid.
PROPOSALS = 20

SAMPLERS: dict[str, Callable[[int | None], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}
"""By the name in a definition, made with a seed or None for another each time."""


def make_pruner(kind: str, last_step: int) -> optuna.pruners.BasePruner:
    """Optuna's pruner of that name in a definition."""
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=last_step),
        "wilcoxon": optuna.pruners.WilcoxonPruner,
    }
    with warnings.catch_warnings():
        # Optuna may change how it is constructed: not what the user of a study has to hear.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return pruners[kind]()


def a_table(definition: Definition, chance: random.Random) -> Params:
    """A table of the grid by chance, each by how many points it has: what is asked for are its parameters."""
    tables = definition.grid.root
    sizes = [math.prod(map(len, table.values())) for table in tables]
    (chosen,) = chance.choices(tables, sizes)
    return {name: values[0] for name, values in chosen.items()}


class Sampler:
    """Asks Optuna's sampler for the next configuration, where a definition names one other than `grid`."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self._choices = mirror.study.choices
        self._random = random.Random()  # noqa: S311 - which table is asked about decides no result
        mirror.mend()
        self.optuna_study = self._load()

    def _load(self) -> optuna.Study:
        mirror, definition = self.mirror, self.mirror.study.definition
        with watched(mirror.database, mirror.study.name):
            return optuna.load_study(
                study_name=mirror.study.name,
                storage=mirror.storage,
                sampler=SAMPLERS[definition.sampler](None),
                pruner=optuna.pruners.NopPruner(),
            )

    def ask(self) -> tuple[int, Configuration]:
        """A new trial in state RUNNING, and the configuration that it proposes."""
        choices, definition = self.mirror.choices(), self.mirror.study.definition
        self.mirror.mend()
        if choices != self._choices or self.mirror.study.optuna_study_id != self.optuna_study._study_id:
            # The grid has grown, or the study was deleted and is another one now. Optuna remembers what the choices
            # were, in its session and in the study.
            self.mirror.storage.remove_session()
            self.optuna_study, self._choices = self._load(), choices
        with watched(self.mirror.database, self.mirror.study.name):
            space = Space(choices)
            names = a_table(definition, self._random)
            trial = self.optuna_study.ask(space.of(names))
            return trial._trial_id, Configuration(space.values(trial.params))

    def answer(self, trial_id: int, configuration: Configuration) -> None:
        """Close a trial whose configuration is not free: with its result where there is one, else as FAIL."""
        outcome = self.mirror.ledger.outcome(configuration.key)
        mirror = self.mirror
        if not mirror.holds(trial_id):
            return
        with suppress(LostTrialError), watched(mirror.database, mirror.study.name):
            mirror.storage.set_trial_user_attr(trial_id, "configuration", configuration.key)
            mirror.storage.set_trial_user_attr(trial_id, "answered_from_ledger", outcome is not None)
        if outcome is None:
            self.mirror.abandon(trial_id, "its configuration is in another worker's hands, or failed")
        else:
            self.mirror.finish(trial_id, outcome)


class Pruner:
    """Asks Optuna's pruner whether a trial may stop early."""

    def __init__(self, mirror: Mirror) -> None:
        kind = mirror.study.definition.pruner
        self.mirror = mirror
        self.active = kind != "none"
        self._pruner = make_pruner(kind, report_steps(mirror.study)[-1])
        mirror.mend()
        self._load()

    def _load(self) -> None:
        with watched(self.mirror.database, self.mirror.study.name):
            self.optuna_study = optuna.load_study(
                study_name=self.mirror.study.name, storage=self.mirror.storage, pruner=self._pruner
            )

    def should_prune(self, trial_id: int) -> bool:
        """Whether the reports so far are poor enough to stop."""
        # A trial that was deleted has no reports left to be judged by.
        if not self.active or not self.mirror.holds(trial_id):
            return False
        mirror, name = self.mirror, self.mirror.study.name
        with suppress(LostTrialError), watched(mirror.database, name):
            if self.optuna_study._study_id != mirror.storage.get_study_id_from_name(name):
                self._load()
            pruned: bool = optuna.trial.Trial(self.optuna_study, trial_id).should_prune()
            return pruned
        return False
