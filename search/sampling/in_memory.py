"""A study of Optuna's in memory, with its sampler and its pruner; what is trained elsewhere is added to it."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from types import MappingProxyType

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from pairsearch.search.sampling.space import Space
from pairsearch.studies.configuration import Configuration, Params, Value
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
    """Make Optuna's pruner by its name in a definition; `last_step` is the last that is reported."""
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        # A race is run by `studies.racing`.
        "race": optuna.pruners.NopPruner,
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
        others = [trial for trial in self.elsewhere if states is None or trial.state in states]
        return [*super().get_all_trials(study_id, deepcopy, states), *others]


class StudyInMemory:
    """A study in memory, and what its sampler and its pruner say about it.

    Args:
        choices: the values of each parameter, in the order in which they came into the grid.
        last_step: the last step that is reported.
    """

    def __init__(
        self,
        definition: Definition,
        choices: Mapping[str, Sequence[Value]],
        *,
        maximise: bool,
        last_step: int,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._definition = definition
        self._random = random.Random()  # noqa: S311 - not a secret, and no result depends on it
        self._storage = _Storage()
        self._pruner = make_pruner(definition.pruner, last_step)
        self.space = Space(choices)
        # The configuration that this process trains, and its trial.
        self._own: tuple[Configuration, int] | None = None
        self._study = optuna.create_study(
            study_name=definition.name,
            storage=self._storage,
            direction="maximize" if maximise else "minimize",
            sampler=None if definition.sampler == "grid" else SAMPLERS[definition.sampler](None),
            pruner=self._pruner,
        )

    def trials(self) -> list[FrozenTrial]:
        """Return the trials that sampler and pruner see, with those that others train at this moment."""
        return self._storage.get_all_trials(self._study._study_id)

    def propose(self, value_of: Callable[[str], float | None]) -> Configuration:
        """Return the configuration that the sampler would train next, which may be trained or claimed already.

        Args:
            value_of: returns the value of the configuration of a key, None if it has none. A sampler that proposes a
                configuration again is answered with it at once.
        """
        trial = self._study.ask(self.space.of(draw_table(self._definition, self._random)))
        configuration = Configuration(self.space.values(trial.params))
        value = value_of(configuration.key)
        if value is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, value)
        return configuration

    def should_prune(self, configuration: Configuration, reports: Mapping[int, float]) -> bool:
        """Whether the pruner stops a configuration that this process trains after the last of its reports.

        Args:
            reports: the metric of this attempt by step; with the first one a new attempt begins.
        """
        step, value = list(reports.items())[-1]
        if len(reports) == 1 or self._own is None:
            if self._own is not None:
                self._storage.set_trial_state_values(self._own[1], TrialState.FAIL)
            self._own = (configuration, self._begin(configuration))
        return self._report(self._own[1], step, value)

    def set_elsewhere(self, configurations: Sequence[Configuration]) -> None:
        """Say which configurations others train at this moment."""
        self._storage.elsewhere = [self._trial(configuration) for configuration in configurations]

    def add(self, configuration: Configuration, value: float | None, reports: Mapping[int, float]) -> None:
        """Add a result; this ends the trial of the configuration that this process has trained.

        Args:
            value: None where the configuration diverged or was pruned.
            reports: the metric by step.
        """
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        if self._own is not None and self._own[0] == configuration:
            trial_id, self._own = self._own[1], None
        elif isinstance(self._pruner, optuna.pruners.HyperbandPruner):
            # It notes at each report who competes with whom, so it has to hear them one by one.
            trial_id = self._begin(configuration)
            for step, report in sorted(reports.items()):
                self._report(trial_id, step, report)
        else:
            self._study.add_trial(self._trial(configuration, state, value, reports))
            return
        self._storage.set_trial_state_values(trial_id, state, None if value is None else [value])

    def _begin(self, configuration: Configuration) -> int:
        return self._storage.create_new_trial(self._study._study_id, self._trial(configuration))

    def _report(self, trial_id: int, step: int, value: float) -> bool:
        self._storage.set_trial_intermediate_value(trial_id, step, value)
        return optuna.trial.Trial(self._study, trial_id).should_prune()

    def _trial(
        self,
        configuration: Configuration,
        state: TrialState = TrialState.RUNNING,
        value: float | None = None,
        reports: Mapping[int, float] = MappingProxyType({}),
    ) -> FrozenTrial:
        return create_trial(
            state=state,
            value=value,
            params=self.space.categories(configuration.params),
            distributions=self.space.of(configuration.params),
            intermediate_values=dict(reports),
        )
