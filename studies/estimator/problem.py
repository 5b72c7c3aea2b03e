"""The problem `estimator`: scikit-learn's estimators on the folds of GridSearchCV, and rounds on data that none saw."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn import model_selection
from sklearn.base import clone, is_classifier
from sklearn.metrics import get_scorer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.multiclass import type_of_target

from pairsearch.studies.configuration import Params
from pairsearch.studies.definition import Definition
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.estimator.examples import BUNDLED, read
from pairsearch.studies.estimator.settings import Settings, suggestion
from pairsearch.studies.place import Place
from pairsearch.studies.problem import Impossible, Metric, OneByOne, Run, RunReport
from pairsearch.studies.validation import read_settings

log = logging.getLogger(__name__)

TRUSTED = "sklearn"
"""The package whose modules are imported even for a definition from a database."""
EXPECTED = "expected an estimator, with methods fit and get_params"
PERCENT = ("accuracy", "balanced_accuracy", "top_k_accuracy")
STATES = 2**32
"""scikit-learn takes a `random_state` below this."""


class Estimator(OneByOne):
    """An estimator or a pipeline of scikit-learn's, with the score on each fold that GridSearchCV gives.

    The study's seed is the `random_state` of every split, so that scikit-learn alone can repeat them: the data of the
    search are the training data of `train_test_split(X, y, test_size=final_share, stratify=y, random_state=seed)`, with
    `stratify` for a stratified splitter only.

    A round of the final evaluation learns from all data of the search, and is scored on one of the `final_parts` parts
    of the kept data. Rounds are therefore independent samples of the score of the estimator that one would deploy,
    given its training data. If rounds resampled the kept data instead, intervals would shrink with their number.

    Parameters called `random_state` that are not set get a seed from the run, the same for all configurations.
    """

    # A fitted estimator can be saved only as a pickle, which could carry code.
    gives_weights = False

    def __init__(
        self, *, place: Place | None = None, definition: Definition | None = None, **settings: Any
    ) -> None:
        self._place = place or Place(Path.cwd())
        scoring = "accuracy" if definition is None else definition.metric
        self.settings = chosen = read_settings(Settings, {"scoring": scoring} | settings)
        self._base = clone(self._assembled(chosen.estimator))
        self._set(self._base, chosen.arguments, "settings.arguments")
        file = partial(self._place.file_of, "data")
        self.examples = read(chosen, file)
        self.remember = {"data": chosen.data if chosen.data in BUNDLED else str(file(chosen.data))}
        # GridSearchCV takes these where it is given a number.
        self.splitter_name: str = chosen.splitter or ("StratifiedKFold" if self._classifies() else "KFold")
        self.metrics = {name: Metric(percent=name in PERCENT, maximise=True) for name in chosen.scoring}
        if chosen.train_scores:
            self.metrics |= {f"train_{name}": replace(m, training=True) for name, m in self.metrics.items()}
        self._cuts: dict[tuple[int, int], list[tuple[Any, Any]]] = {}
        self._parts: dict[int, tuple[Any, list[Any]]] = {}
        self._warned: set[str] = set()

    def fingerprint(self) -> str:
        """Return the SHA-256 over the examples."""
        return self.examples.fingerprint()

    def overlap(self, folds: int) -> float:
        """Return tested over training examples of a fold."""
        size = self.settings.test_size
        if size is not None:
            return size / (1 - size)
        return super().overlap(folds // (self.settings.repeats or 1))

    def check(self, params: Params) -> None:
        """Refuse parameters that the estimator does not have, and values and scorers that it declares invalid."""
        for name in params:
            if name in self.settings.arguments:
                raise ValueError(f"grid.{name}: fixed by settings.arguments too: leave out one of both")
        model = self.model(params)
        for part in [model, *model.get_params().values()]:
            if type(part).__module__.startswith(f"{TRUSTED}.") and hasattr(part, "_parameter_constraints"):
                try:
                    part._validate_params()
                except ValueError as error:
                    raise ValueError(f"grid: {error}") from None
        for name in self.settings.scoring:
            methods = getattr(get_scorer(name), "_response_method", "predict")
            wanted = [methods] if isinstance(methods, str) else methods
            if not any(hasattr(model, method) for method in wanted):
                raise ValueError(
                    f"settings.scoring: {name} needs {' or '.join(wanted)}, which {_title(model)} does not have here"
                )

    def prepare(self, runs: Sequence[Run]) -> None:
        """Refuse folds for which there are too few examples, and more rounds than there are parts."""
        first = runs[0]
        if first.kind == "fold":
            self.splits(first.count, first.seed)
        elif self.settings.final_share:
            self._round(first.count - 1, first.seed)

    def describe(self, params: Params) -> Mapping[str, str]:
        """Return the names of the estimators' classes."""
        return {"estimator": _title(self.model(params))}

    def backend(self, device: str) -> str:
        """Return scikit-learn and its version; it computes on the processor."""
        return f"scikit-learn {sklearn.__version__}"

    def fit(self, params: Params, run: Run, report: RunReport) -> None:
        """Fit the estimator on the training examples, and score it on the others."""
        model = self.model(params)
        seeds = {
            name: run.stream(name)
            for name, value in model.get_params().items()
            if name.split("__")[-1] == "random_state" and value is None
        }
        model.set_params(**seeds)
        search, _ = self.parts(run.seed)
        if run.kind == "fold":
            train, test = (search[rows] for rows in self.splits(run.count, run.seed)[run.index])
        else:
            train, test = search, self._round(run.index, run.seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = self._scores(model, train, test)
            except ValueError as error:
                if run.kind == "fold":
                    if self._is_impossible(model, run, error):
                        raise Impossible(str(error)) from error
                    raise
                # Mostly a class that the part lacks, which the scorer needs.
                raise ValueError(
                    f"{error} (round {run.index} is scored on a part of {len(test)} examples: fewer final_parts make "
                    "larger parts)"
                ) from error
        self._say(caught)
        figures = {
            name: found[name if name.startswith("train_") else f"test_{name}"][0] for name in self.metrics
        }
        report(1, **figures)

    def _scores(self, model: Any, train: Any, test: Any) -> dict[str, Any]:
        """Let scikit-learn fit and score an estimator on some of the examples."""
        scores: dict[str, Any] = model_selection.cross_validate(
            model,
            self.examples.X,
            self.examples.y,
            cv=[(train, test)],
            scoring=self.settings.scoring,
            return_train_score=self.settings.train_scores,
            error_score="raise",
        )
        return scores

    def _is_impossible(self, model: Any, run: Run, error: ValueError) -> bool:
        """Whether an estimator cannot be fitted at all, as it raises a `ValueError` on each of the other folds too."""
        if isinstance(error, InvalidParameterError):
            return True
        search, _ = self.parts(run.seed)
        for index, (train, test) in enumerate(self.splits(run.count, run.seed)):
            if index != run.index:
                try:
                    self._scores(model, search[train], search[test])
                except ValueError:
                    continue
                return False
        return True

    def model(self, params: Params) -> Any:
        """Make the estimator of a configuration, unfitted; raises a ValueError for parameters that it lacks."""
        model = clone(self._base)
        self._set(model, params, "grid")
        return model

    def parts(self, seed: int = 0) -> tuple[Any, list[Any]]:
        """Divide the examples into those of the search and the parts that are kept for rounds of the final evaluation.

        It returns the positions of the examples of the search, and those of each part.
        """
        if seed not in self._parts:
            share, count = self.settings.final_share, self.settings.final_parts
            size = len(self.examples.y)
            try:
                self._parts[seed] = (
                    self._kept(share, count, seed % STATES) if share else (np.arange(size), [])
                )
            except ValueError as error:
                raise ValueError(
                    f"settings.final_share: {share} of {size} examples cannot be kept in {count} parts "
                    f"(final_parts): {error}"
                ) from None
        return self._parts[seed]

    def _kept(self, share: float, count: int, state: int) -> tuple[Any, list[Any]]:
        y, groups = self.examples.y, self.examples.groups
        rows = np.arange(len(y))
        if groups is not None:
            once = model_selection.GroupShuffleSplit(1, test_size=share, random_state=state)
            search, kept = next(once.split(rows, y, groups))
        else:
            stratify = y if "Stratified" in self.splitter_name else None
            search, kept = model_selection.train_test_split(
                rows, test_size=share, stratify=stratify, random_state=state
            )
        if count == 1:
            return search, [kept]
        # Many scorers refuse a part in which a class is absent, so parts are stratified for classifiers.
        name = f"{'Stratified' * self._classifies()}{'Group' * (groups is not None)}KFold"
        splitter = getattr(model_selection, name)(count)
        return search, [kept[test] for _, test in self._cut(splitter, kept)]

    def splits(self, count: int, seed: int = 0) -> list[tuple[Any, Any]]:
        """Make the folds of a study, or return those that were made before; raises a ValueError for too few examples.

        Each has its training and its test examples, as positions among the examples of the search.
        """
        if (count, seed) not in self._cuts:
            search, _ = self.parts(seed)
            y = self.examples.y[search]
            try:
                found = self._cut(self.splitter(count, seed), search)
                if "Stratified" in self.splitter_name and self.settings.test_size is None:
                    classes, members = np.unique(y, return_counts=True)
                    if members.min() < count // (self.settings.repeats or 1):
                        few = members.argmin()
                        raise ValueError(
                            f"class {classes[few]} has only {members[few]}: take fewer folds or another splitter"
                        )
            except ValueError as error:
                raise ValueError(
                    f"folds: {self.splitter_name} cannot make {count} of the {len(y)} examples of the search: {error}"
                ) from None
            self._cuts[count, seed] = found
        return self._cuts[count, seed]

    def splitter(self, count: int, seed: int = 0) -> Any:
        """Make the splitter of the folds, GridSearchCV's `cv`; raises a ValueError if it cannot make so many."""
        kind, chosen, state = getattr(model_selection, self.splitter_name), self.settings, seed % STATES
        if chosen.test_size is not None:
            return kind(count, test_size=chosen.test_size, random_state=state)
        if chosen.repeats is not None:
            if count % chosen.repeats:
                raise ValueError(f"expected a multiple of repeats, which is {chosen.repeats}")
            return kind(n_splits=count // chosen.repeats, n_repeats=chosen.repeats, random_state=state)
        return kind(count, shuffle=True, random_state=state) if chosen.shuffle else kind(count)

    def _cut(self, splitter: Any, rows: Any) -> list[tuple[Any, Any]]:
        """Let a splitter of scikit-learn's divide some of the examples, without its warnings."""
        y, groups = self.examples.y[rows], self.examples.groups
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(splitter.split(rows, y, None if groups is None else groups[rows]))

    def _round(self, index: int, seed: int) -> Any:
        """Return the examples on which a round is scored."""
        _, parts = self.parts(seed)
        if not parts:
            raise ProblemError(
                "settings.final_share: 0 keeps no data for a final evaluation: all are searched on"
            )
        if index >= len(parts):
            raise ProblemError(
                f"evaluation.rounds: expected at most {len(parts)}, one for each part of the data that are kept for "
                f"them (settings.final_parts), got {index + 1}"
            )
        return parts[index]

    def _classifies(self) -> bool:
        return is_classifier(self._base) and type_of_target(self.examples.y) in ("binary", "multiclass")

    def _assembled(self, given: str | list[Any]) -> Any:
        if isinstance(given, str):
            return self._made(given)
        if isinstance(given[0], str):
            return make_pipeline(*map(self._made, given))
        pipeline = Pipeline([(step, self._made(name)) for step, name in given])
        try:
            pipeline._validate_names([step for step, _ in given])
        except ValueError as error:
            raise ValueError(f"settings.estimator: {error}") from None
        return pipeline

    def _made(self, name: str) -> Any:
        """Make the estimator of a name, which may be a class, a function that makes it, or an estimator."""
        if name == "passthrough":
            return name
        found = self._place.find(name, trusted=TRUSTED)
        is_class = inspect.isclass(found)
        if not is_class and _is_estimator(found):
            return found
        # A database may name objects of scikit-learn's: only estimators among them are called.
        if not callable(found) or ((is_class or name.startswith(TRUSTED)) and not _is_estimator(found)):
            raise ValueError(f"{name}: {EXPECTED}")
        try:
            inspect.signature(found).bind()
        except TypeError as error:
            raise ValueError(
                f"{name}: cannot be made without arguments ({error}): write a function that makes it, FILE.py:NAME"
            ) from None
        made = found()
        if not _is_estimator(made):
            raise ValueError(f"{name}: {EXPECTED}, got {type(made).__name__}")
        return made

    def _set(self, model: Any, params: Mapping[str, Any], where: str) -> None:
        """Set parameters, outer ones first: their values may be estimators, whose own parameters follow."""
        known = model.get_params()
        for name in sorted(params, key=lambda name: name.count("__")):
            if name not in known:
                raise ValueError(f"{where}.{name}: {_title(model)} has none: {suggestion(name, known)}")
            value = params[name]
            names_class = isinstance(value, str) and value.startswith(f"{TRUSTED}.")
            model.set_params(**{name: self._made(value) if names_class else value})
            if names_class or _is_estimator(known[name]):
                known = model.get_params()

    def _say(self, caught: Sequence[warnings.WarningMessage]) -> None:
        """Log the first warning of each kind only, as a grid would repeat it thousands of times."""
        for one in caught:
            kind = one.category.__name__
            if kind not in self._warned:
                self._warned.add(kind)
                line = str(one.message).strip().partition("\n")[0]
                log.warning("%s: %s (further ones of this kind are not shown)", kind, line)


def _is_estimator(found: Any) -> bool:
    return callable(getattr(found, "fit", None)) and callable(getattr(found, "get_params", None))


def _title(model: Any) -> str:
    """Return the names of the estimators' classes: `StandardScaler, SVC`."""
    parts = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    return ", ".join(type(part).__name__ for part in parts if not isinstance(part, str | None))
