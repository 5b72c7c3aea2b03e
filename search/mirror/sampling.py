"""Asks Optuna's samplers and pruners on behalf of a worker."""

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

# How many proposals a worker asks for at most: a sampler may go on proposing configurations that are done or claimed.
PROPOSALS = 20

SAMPLERS: dict[str, Callable[[int | None], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}
"""Makes a sampler by its name in a definition; the argument is its seed, None for a random one."""


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
    sizes = [math.prod(map(len, table.values())) for table in tables]
    (chosen,) = generator.choices(tables, sizes)
    return {name: values[0] for name, values in chosen.items()}


class Sampler:
    """Asks Optuna's sampler for the next configuration, for definitions whose sampler is not `grid`."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self._choices = mirror.study.choices
        self._random = random.Random()  # noqa: S311 - not a secret, and no result depends on it
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
        """Ask for a trial in state RUNNING, and return its id with the configuration that it proposes."""
        choices, definition = self.mirror.choices(), self.mirror.study.definition
        self.mirror.mend()
        if choices != self._choices or self.mirror.study.optuna_study_id != self.optuna_study._study_id:
            # The grid has grown, or the study was deleted and made anew. Optuna caches the old choices in its session
            # and in the study object.
            self.mirror.storage.remove_session()
            self.optuna_study, self._choices = self._load(), choices
        with watched(self.mirror.database, self.mirror.study.name):
            space = Space(choices)
            names = draw_table(definition, self._random)
            trial = self.optuna_study.ask(space.of(names))
            return trial._trial_id, Configuration(space.values(trial.params))

    def answer(self, trial_id: int, configuration: Configuration) -> None:
        """Close a trial whose configuration is not pending: with the stored result if there is one, else as FAIL."""
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
        self._pruner = make_pruner(kind, report_steps(mirror.study)[-1])
        mirror.mend()
        self._load()

    def _load(self) -> None:
        with watched(self.mirror.database, self.mirror.study.name):
            self.optuna_study = optuna.load_study(
                study_name=self.mirror.study.name, storage=self.mirror.storage, pruner=self._pruner
            )

    def should_prune(self, trial_id: int) -> bool:
        """Whether Optuna's pruner would stop the trial after its latest report."""
        # A trial that was deleted has no reports left.
        if not self.mirror.holds(trial_id):
            return False
        mirror, name = self.mirror, self.mirror.study.name
        with suppress(LostTrialError), watched(mirror.database, name):
            if self.optuna_study._study_id != mirror.storage.get_study_id_from_name(name):
                self._load()
            pruned: bool = optuna.trial.Trial(self.optuna_study, trial_id).should_prune()
            return pruned
        return False
