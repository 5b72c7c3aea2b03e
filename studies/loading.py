"""Loads the problem that a definition names: a shipped one, a user's file beside the definition, or a module."""

from __future__ import annotations

import copy
import importlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pairsearch.studies.configuration import Params, describe
from pairsearch.studies.definition import EXPECTED, Definition, parse
from pairsearch.studies.errors import CodeError, DefinitionError, ProblemError, own_code
from pairsearch.studies.place import Place
from pairsearch.studies.problem import Metric, OneByOne, Problem, Report, Run, RunReport, Traits, Weights
from pairsearch.studies.seeds import global_generators
from pairsearch.studies.signatures import check_arguments, check_taken, takes_trial
from pairsearch.studies.trial_function import TrialFunction, check_guarded
from pairsearch.studies.validation import first_error

SHIPPED = {
    "pairs": "pairsearch.studies.pairs.problem:Pairs",
    "estimator": "pairsearch.studies.estimator.problem:Estimator",
    "command": "pairsearch.studies.command.problem:Command",
}
"""Module and class of each shipped problem."""
OF_PROGRAMS = ("command",)
"""Shipped problems that run programs of the user's."""
LOADED = "loaded"
"""The problem of a study whose results were made by another program and loaded."""
BY_THE_DATA = "auto"
"""The value that leaves a remembered setting to the study, or to the problem where there is no study yet."""


Container = dict[str, Any] | list[Any]
Made = TypeVar("Made")


def _containers(value: object) -> Iterator[Container]:
    """Yield every list and dictionary inside a value of JSON, itself included."""
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _containers(inner)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A definition with its problem and traits, ready for training."""

    definition: Definition
    problem: Problem
    traits: Traits
    containers: tuple[tuple[Container, Container], ...] = ()
    """Each list and dictionary of the settings that the problem was given, and a copy of what it contained then."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """What another process needs to load the same (`load_source`), as JSON."""
    files: frozenset[Path] = frozenset()
    """The user's files of which the problem consists, and those that its definition names."""
    trainer: Any = None
    """What trains and describes in the problem's place, in other processes (`search.workers.isolation`); None for the
    problem itself."""

    @property
    def isolated(self) -> bool:
        """Whether each call of `train` is to have a process of its own."""
        for asked in (self.definition.isolate, self.problem.isolated):
            if asked is not None:
                return asked
        return self.definition.time_limit is not None

    def restored(self) -> Problem:
        """Return the problem, after undoing what an earlier training has changed inside of its settings."""
        for container, before in self.containers:
            container.clear()
            if isinstance(container, dict):
                container.update(before)
            else:
                container.extend(before)
        return self.problem

    def describe(self, params: Params) -> Mapping[str, str]:
        """Return facts about a configuration."""
        facts: Mapping[str, str] = (self.trainer or self.restored()).describe(dict(params))
        return facts

    def train(self, params: Params, runs: Sequence[Run], report: Report) -> Sequence[Weights | None]:
        """Call the problem's `train`, for which no earlier training has changed parameters, settings or generators."""
        if self.trainer is not None:
            return self.trainer(params, runs, report)  # type: ignore[no-any-return]
        with global_generators(runs[0].stream("global generators"), runs[0].device):
            return self.restored().train(dict(params), list(runs), report)


class Function(OneByOne):
    """The problem of a plain function `fit(params, run, report, **settings)`."""

    def __init__(self, function: Callable[..., Weights | None], settings: Mapping[str, Any]) -> None:
        self._function = function
        self._settings = dict(settings)

    def fit(self, params: Params, run: Run, report: RunReport) -> Weights | None:
        """Call the function."""
        return self._function(params, run, report, **self._settings)


def load(
    definition: Definition,
    folder: Path | None,
    options: Mapping[str, str] | None = None,
    remembered: Mapping[str, str] | None = None,
) -> Loaded:
    """Load the problem of a definition and construct it with its settings.

    Args:
        folder: the folder of its file; None for a definition from a database.
        options: settings of this machine, as from `--set`.
        remembered: settings of this machine that the study was created with; `options` go before them.

    Raises:
        ProblemError: there is no such problem, it refuses its settings or the data, or the definition does not fit it.
        CodeError: a user's own code raised another exception.
    """
    where, here = f"study {definition.name}", os.path.realpath(".")
    options, remembered = dict(options or {}), dict(remembered or {})
    for name, value in list(options.items()):
        if name in definition.settings:
            raise ProblemError(
                f"{where}: {name} is given beside the definition, which states it under [settings]: change it there"
            )
        if name in remembered:
            if _files(value, remembered[name]):
                continue
            if value not in (remembered[name], BY_THE_DATA):
                raise ProblemError(
                    f"{where} in the database differs: its {name} is {remembered[name]} and that given is {value}. Use "
                    "what it was created with, another study name or another database"
                )
            del options[name]
    place = Place(folder, beside=remembered.keys() | options.keys())
    # The problem may change what it is given.
    settings = copy.deepcopy(definition.settings) | remembered | options
    try:
        with own_code(f"{where}: problem {definition.problem}"):
            problem = _made(definition, place, settings)
            traits = _declared(definition, problem, place.files)
    except CodeError:
        raise
    except ProblemError as error:
        raise ProblemError(f"{where}: problem {definition.problem}: {error}") from None
    for fault in _misfits(definition, problem, traits):
        raise ProblemError(f"{where}: {fault}")
    containers = tuple((one, copy.copy(one)) for value in settings.values() for one in _containers(value))
    source = {
        "definition": definition.model_dump(mode="json", exclude_none=True),
        "folder": None if folder is None else str(folder.absolute()),
        "options": options,
        "remembered": remembered,
        "here": str(here),
    }
    return Loaded(definition, problem, traits, containers, source, frozenset(place.paths))


def load_source(source: Mapping[str, Any]) -> Loaded:
    """Load the problem that another process has loaded, from its `Loaded.source`; raises what `load` raises."""
    folder = source["folder"]
    definition = parse(source["definition"], "the study", stored=True)
    return load(definition, None if folder is None else Path(folder), source["options"], source["remembered"])


def _files(*values: str) -> bool:
    """Whether all are names of files, which may differ between machines, as the data's fingerprint is compared."""
    return all(Path(value).suffix[1:].isidentifier() for value in values)


def _made(definition: Definition, place: Place, settings: Mapping[str, Any]) -> Problem:
    """Construct the problem with its settings."""
    if definition.problem == LOADED:
        raise ProblemError(
            "its results were trained by another program and loaded, so that nothing can be trained here: "
            "`pairsearch best`, `report`, `claims --stored` and `replay` read them"
        )
    if definition.problem in SHIPPED:
        # Shipped problems get the place too, as their settings may name a user's code or files.
        return _constructed(_shipped(definition.problem), settings, place=place, definition=definition)
    if ":" not in definition.problem:
        raise ProblemError(f"unknown: expected {', '.join(SHIPPED)}, FILE.py:NAME or MODULE:NAME")
    check_guarded(definition.problem, place)
    found = place.find(definition.problem)
    if not inspect.isclass(found):
        if not callable(found):
            raise ProblemError(f"expected a class or a function, got {type(found).__name__}")
        return _of_function(definition, found, settings)
    if not issubclass(found, Problem):
        if not hasattr(found, "fit") and "__call__" in dir(found):
            objective: Any = _constructed(found, settings)
            return _of_function(definition, objective, {})
        found = _one_by_one(found)  # type: ignore[arg-type] # every class is hashable
    if found.train is Problem.train or (issubclass(found, OneByOne) and found.fit is OneByOne.fit):
        raise ProblemError("the class has no method fit(params, run, report)")
    problem: Problem = _constructed(found, settings)
    check_taken(problem.fit if isinstance(problem, OneByOne) else problem.train)
    return problem


def _of_function(
    definition: Definition, function: Callable[..., Any], settings: Mapping[str, Any]
) -> Problem:
    """Make the problem of a function, which is an objective of Optuna's where it takes a trial alone."""
    if takes_trial(function, settings):
        check_arguments(function, (None,), settings)
        epochs = {"fold": definition.epochs, "round": definition.evaluation_epochs}
        return TrialFunction(function, settings, definition.metric, definition.values, epochs)
    check_taken(function)
    check_arguments(function, (None, None, None), settings)
    return Function(function, settings)


def _shipped(problem: str) -> type[Problem]:
    module, _, name = SHIPPED[problem].partition(":")
    found: type[Problem] = getattr(importlib.import_module(module), name)
    return found


@cache
def _one_by_one(own: type[Any]) -> type[Problem]:
    """Make a problem of a class that has nothing but a method `fit`."""

    # Other processes that get an instance know the user's class alone.
    def reduce(problem: Problem) -> tuple[Callable[[type], Problem], tuple[type], dict[str, Any]]:
        return _bare, (own,), vars(problem)

    return type(own.__name__, (own, OneByOne), {"__reduce__": reduce})


def _bare(own: type) -> Problem:
    made = _one_by_one(own)
    return made.__new__(made)


def _declared(definition: Definition, problem: Problem, files: Mapping[str, str]) -> Traits:
    """Return what a problem declares; raises a ProblemError where a declaration breaks the contract."""
    given = problem.metrics
    if not isinstance(given, Mapping):
        raise ProblemError(f"metrics: expected pairsearch.Metric by name of the figure, got {given!r}")
    metrics = (dict(given) or {definition.metric: Metric()}) | definition.metrics
    try:
        return Traits(
            version=problem.version,
            fingerprint=problem.fingerprint(),
            metrics=metrics,
            files=files,
            validated=problem.validated,  # type: ignore[arg-type] # made a tuple
            evaluated=problem.evaluated,  # type: ignore[arg-type]
            overlap=problem.overlap(definition.folds),
            together=problem.together,
            remember={
                name: value for name, value in problem.remember.items() if name not in definition.settings
            },
            worker_bytes=problem.worker_bytes,
        )
    except ValidationError as error:
        location, message = first_error(error, EXPECTED)
        raise ProblemError(": ".join([*map(str, location), message])) from None


def _constructed(made: Callable[..., Made], settings: Mapping[str, Any], **ours: Any) -> Made:
    if both := sorted(settings.keys() & ours.keys()):
        raise ProblemError(f"settings.{both[0]}: unknown setting: remove it or mend its spelling")
    check_arguments(made, (), {**settings, **ours})
    try:
        return made(**settings, **ours)
    except ValueError as error:
        raise ProblemError(str(error)) from error


LEAST_FOLDS_OF_A_RACE = 4
"""With fewer folds a race could stop nothing before the last one."""


def _misfits(definition: Definition, problem: Problem, traits: Traits) -> Iterator[str]:
    """Say where a definition does not fit its problem."""
    name, pruner = definition.problem, definition.pruner
    if definition.values and not isinstance(problem, TrialFunction):
        yield (
            f"values: problem {name} reports its figures by name: only what an objective of Optuna's returns needs "
            "names"
        )
    if definition.metric not in traits.of_folds:
        known = ", ".join(traits.of_folds)
        yield f"metric: problem {name} reports no {definition.metric!r}: expected one of {known}"
    if pruner in ("wilcoxon", "race") and traits.together:
        yield (
            f"pruner: {pruner} compares folds that are trained in turn, and problem {name} trains them together: "
            "expected none, median or hyperband"
        )
    if pruner == "race" and definition.folds < LEAST_FOLDS_OF_A_RACE:
        yield (
            f"pruner: race first compares after three folds: expected at least {LEAST_FOLDS_OF_A_RACE} folds, got "
            f"{definition.folds}"
        )
    if definition.paper is not None and (others := definition.paper.figures.keys() - traits.metrics.keys()):
        yield f"paper.figures: the problem reports no {', '.join(sorted(others))}"


def check_points(loaded: Loaded) -> None:
    """Let the problem check every point of the grid; raises what `check_point` raises for the first that is refused."""
    for point in loaded.definition.grid.points():
        check_point(loaded, point.params)


def check_point(loaded: Loaded, params: Params) -> None:
    """Let the problem check a point; raises ProblemError with the point and the reason if it is refused."""
    where = f"study {loaded.definition.name}"
    with own_code(f"{where}: check of {describe(params)}"):
        try:
            loaded.restored().check(dict(params))
        except ValueError as error:
            raise ProblemError(f"{where}: {error} ({describe(params)})") from error


def check_trainable(loaded: Loaded) -> None:
    """Check that a definition can be trained, before anything is written; raises a DefinitionError if it cannot."""
    definition, problem = loaded.definition, loaded.problem
    check_points(loaded)
    try:
        for runs in (definition.runs("fold"), definition.runs("round", [0])):
            problem.prepare(runs)
    except DefinitionError:
        raise
    except ValueError as error:
        raise ProblemError(f"study {definition.name}: {error}") from error


def predict(model: Path, files: Sequence[Path], invert: bool | None) -> tuple[list[str], dict[str, Any]]:
    """Ask a kept model about files, as `Problem.answer`; raises a ProblemError for what cannot be asked."""
    from pairsearch.studies.model_card import read_card  # noqa: PLC0415

    card = read_card(model)
    # A user's own problem is not asked: its code is not run because a model's file names it.
    asked = _shipped(card.problem) if card.problem in SHIPPED else Problem
    try:
        return asked.answer(model, files, invert)
    except NotImplementedError:
        raise ProblemError(
            f"{model} is a model of problem {card.problem!a}, which answers no questions here: read its tensors with "
            "safetensors, and what it is with pairsearch.read_card"
        ) from None
    except DefinitionError:
        raise
    except ValueError as error:
        raise ProblemError(str(error)) from error
