"""The problem `estimator`: scikit-learn's estimators on the folds of GridSearchCV, and rounds on data that none saw."""

from __future__ import annotations

import difflib
import inspect
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
import sklearn
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator
from sklearn import model_selection
from sklearn.base import clone, is_classifier
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.multiclass import type_of_target

from pairsearch.studies.configuration import Params
from pairsearch.studies.definition import Count
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.estimator.examples import BUNDLED, read
from pairsearch.studies.loading import Place
from pairsearch.studies.problem import Metric, OneByOne, Run, RunReport
from pairsearch.studies.settings import read_settings

log = logging.getLogger(__name__)

TRUSTED = "sklearn"
"""The package whose modules are imported even for a definition from a database."""
REPEATED = ("RepeatedKFold", "RepeatedStratifiedKFold")
SHUFFLED = ("ShuffleSplit", "StratifiedShuffleSplit", "GroupShuffleSplit")
Splitter = Literal[
    "KFold",
    "StratifiedKFold",
    "GroupKFold",
    "StratifiedGroupKFold",
    "RepeatedKFold",
    "RepeatedStratifiedKFold",
    "ShuffleSplit",
    "StratifiedShuffleSplit",
    "GroupShuffleSplit",
]
PERCENT = ("accuracy", "balanced_accuracy", "top_k_accuracy")
STATES = 2**32
"""scikit-learn takes a `random_state` below this."""


def _estimator(given: Any) -> Any:
    if isinstance(given, str):
        return given
    if isinstance(given, list) and given:
        if all(isinstance(step, str) for step in given):
            return given
        if all(isinstance(step, list) and [*map(type, step)] == [str, str] for step in given):
            return given
    raise ValueError(
        'expected a dotted name such as "sklearn.svm.SVC", a list of them, which is a pipeline, or a list of '
        f'["step", "dotted name"], got {given!r}'
    )


def _scoring(given: Any) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected one of scikit-learn's scorers or a list of them, got {given!r}")
    for name in names:
        if name not in get_scorer_names():
            raise ValueError(f"scikit-learn has no scorer {name!r}: {_expected(name, get_scorer_names())}")
        if names.count(name) > 1:
            raise ValueError(f"expected distinct scorers, got {name!r} twice")
    return names


def _features(given: Any) -> str | list[str] | None:
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, list) and given and all(isinstance(name, str) for name in given):
        return given
    raise ValueError(f"expected a list of columns, or one column or array by itself, got {given!r}")


class Settings(BaseModel):
    """The settings of `problem = "estimator"`, any estimator of scikit-learn's, in a definition's `[settings]`.

    The grid has the estimator's own parameters, by the names that `set_params` takes, such as `svc__C`. A text that
    begins with `sklearn.`, in the grid or in `arguments`, stands for an estimator of that class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    estimator: Annotated[Any, PlainValidator(_estimator)]
    """The estimator: a dotted name (`sklearn.svm.SVC`); a list of them for a pipeline with `make_pipeline`'s names; a
    list of `["step", "dotted name"]` for one with names of yours; or `FILE.py:NAME` beside the definition: a class, a
    function without arguments that makes the estimator, or the estimator itself."""
    arguments: dict[str, Any] = {}
    """Fixed parameters of the estimator, by the names that `set_params` takes; none of them may be in the grid. A
    `random_state` that is not fixed here differs between folds and rounds, and is the same for all configurations."""
    data: str
    """The examples: a data set that comes with scikit-learn (`breast_cancer`, `diabetes`, `digits`, `iris`,
    `linnerud`, `wine`), or a `.csv`, `.parquet` or `.npz` file beside the definition. Leave it out where each machine
    names its file by `--set data=FILE`."""
    features: Annotated[Any, PlainValidator(_features)] = None
    """Columns of a table that are learnt from: a list, by default all but `target` and `groups`, or one name for that
    column by itself, as a text vectoriser needs it. Texts stay texts, and missing numbers are NaN. For an `.npz` file
    it is the name of an array, by default `X`."""
    target: str | None = None
    """The column that is to be predicted, which a table needs; for an `.npz` file an array, by default `y`. A data set
    of scikit-learn's brings its own features and target, and takes neither setting."""
    groups: str | None = None
    """The column or array that says which examples belong together. It goes with a splitter for groups, which needs
    it; folds, and the parts of the final evaluation, then never divide a group."""
    scoring: Annotated[Any, PlainValidator(_scoring)] = None
    """One of scikit-learn's scorers, or a list of them, all of which are reported and maximised. By default it is the
    definition's `metric`, which has to be among them."""
    train_scores: bool = False
    """Whether the scores on the training examples are reported too, as `train_` and the scorer's name."""
    splitter: Splitter | None = None
    """The splitter of scikit-learn's that makes the folds. By default it is what GridSearchCV takes for a number:
    StratifiedKFold for a classifier, KFold otherwise."""
    shuffle: bool = False
    """Whether examples are shuffled before they are split, for `KFold`, `StratifiedKFold` and `StratifiedGroupKFold`.
    The study's seed is the splitter's `random_state`."""
    repeats: Annotated[int, Field(ge=2)] | None = None
    """How often `RepeatedKFold` and `RepeatedStratifiedKFold`, which need it, split the data anew, at least twice.
    The definition's `folds` counts the folds of all repeats, so it is a multiple of this."""
    test_size: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of the examples, above 0 and below 1, on which each fold of `ShuffleSplit`, `StratifiedShuffleSplit`
    and `GroupShuffleSplit` is scored. They need it, and no other splitter takes it."""
    final_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """The share of the data that no fold sees, which is kept for the final evaluation: the test set of scikit-learn's
    `train_test_split` with the study's seed, stratified for stratified splitters, or with groups of
    `GroupShuffleSplit`. With 0 nothing is kept, and there is no final evaluation."""
    final_parts: Count = 10
    """How many parts the kept data are cut into. Round r of the final evaluation learns from all other data and is
    scored on part r, so there are at most as many rounds."""

    @model_validator(mode="after")
    def _splitter_fits(self) -> Self:
        name = self.splitter or "the splitter"
        given: list[tuple[str, float | None, tuple[str, ...], str]] = [
            ("repeats", self.repeats, REPEATED, "2"),
            ("test_size", self.test_size, SHUFFLED, "0.2"),
        ]
        for setting, value, kinds, example in given:
            if value is None and self.splitter in kinds:
                raise ValueError(f"settings.{setting}: {name} needs it, for example {example}")
            if value is not None and self.splitter not in kinds:
                raise ValueError(f"settings.{setting}: {name} takes none: only {', '.join(kinds)} do")
        if self.shuffle and self.splitter in (*REPEATED, *SHUFFLED, "GroupKFold"):
            raise ValueError(f"settings.shuffle: {name} takes none: leave it out")
        if (self.groups is not None) != ("Group" in name):
            such = ", ".join(kind for kind in get_args(Splitter) if "Group" in kind)
            if self.groups is None:
                raise ValueError(
                    f"settings.groups: {name} needs it: the column or array that names the groups"
                )
            raise ValueError(f"settings.groups: {name} takes none: set splitter to one of {such}")
        return self


class Estimator(OneByOne):
    """An estimator or a pipeline of scikit-learn's, with the score on each fold that GridSearchCV gives.

    The study's seed is the `random_state` of every split, so that scikit-learn alone can repeat them: the data of the
    search are the training data of `train_test_split(X, y, test_size=final_share, stratify=y, random_state=seed)`, with
    `stratify` for a stratified splitter only.

    A round of the final evaluation learns from all data of the search, and is scored on one of the `final_parts` parts
    of the kept data. Rounds are therefore independent samples of the score of the estimator that one would deploy,
    given its training data. If rounds resampled the kept data instead, intervals would shrink with their number.

    Parameters called `random_state` that are not set get a seed from the run, the same for all configurations.

    Args:
        place: where files and classes of a user's are found.
        metric: the study's metric, which is the scorer by default.
        settings: the fields of `Settings`.
    """

    # A fitted estimator can be saved only as a pickle, which could carry code.
    gives_weights = False

    def __init__(self, *, place: Place | None = None, metric: str = "accuracy", **settings: Any) -> None:
        self._place = place or Place(Path.cwd())
        self.settings = chosen = read_settings(Settings, {"scoring": metric} | settings)
        self._base = clone(self._assembled(chosen.estimator))
        self._set(self._base, chosen.arguments, "settings.arguments")
        self.examples = read(chosen.data, self._file, chosen.features, chosen.target, chosen.groups)
        is_file = chosen.data not in BUNDLED
        self.remember = {"data": str(self._file(chosen.data)) if is_file else chosen.data}
        self.splitter_name: str = chosen.splitter or self._usual_splitter()
        scores = {name: Metric(percent=name in PERCENT, maximise=True) for name in chosen.scoring}
        training = {
            f"train_{name}": Metric(percent=m.percent, maximise=True, training=True)
            for name, m in scores.items()
        }
        self.metrics = scores | (training if chosen.train_scores else {})
        self._cuts: dict[tuple[int, int], list[tuple[Any, Any]]] = {}
        self._parts: dict[int, tuple[Any, list[Any]]] = {}
        self._said: set[str] = set()

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
                found = model_selection.cross_validate(
                    model,
                    self.examples.X,
                    self.examples.y,
                    cv=[(train, test)],
                    scoring=self.settings.scoring,
                    return_train_score=self.settings.train_scores,
                    error_score="raise",
                )
            except ValueError as error:
                if run.kind == "fold":
                    raise
                # Mostly a class that the part lacks, which the scorer needs.
                raise ValueError(
                    f"{error} (round {run.index} is scored on a part of {len(test)} examples: fewer final_parts make "
                    "larger parts)"
                ) from error
        self._say(caught)
        report(
            1,
            **{
                name: found[name if name.startswith("train_") else f"test_{name}"][0] for name in self.metrics
            },
        )

    def model(self, params: Params) -> Any:
        """Make the estimator of a configuration, without fitting it.

        Raises:
            ValueError: the estimator does not have one of the parameters.
        """
        model = clone(self._base)
        self._set(model, params, "grid")
        return model

    def parts(self, seed: int = 0) -> tuple[Any, list[Any]]:
        """Divide the examples into those of the search and the parts that are kept for rounds of the final evaluation.

        Returns:
            the positions of the examples of the search, and those of each part.

        Raises:
            ValueError: there are too few examples.
        """
        if seed not in self._parts:
            share, count = self.settings.final_share, self.settings.final_parts
            y, groups = self.examples.y, self.examples.groups
            rows, state = np.arange(len(y)), seed % STATES
            if not share:
                self._parts[seed] = rows, []
                return self._parts[seed]
            try:
                if groups is not None:
                    once = model_selection.GroupShuffleSplit(1, test_size=share, random_state=state)
                    search, kept = next(once.split(rows, y, groups))
                else:
                    stratified = "Stratified" in self.splitter_name
                    search, kept = model_selection.train_test_split(
                        rows, test_size=share, stratify=y if stratified else None, random_state=state
                    )
                # Many scorers refuse a part in which a class is absent, so parts are stratified for classifiers.
                kinds = {
                    (False, False): model_selection.KFold,
                    (False, True): model_selection.StratifiedKFold,
                    (True, False): model_selection.GroupKFold,
                    (True, True): model_selection.StratifiedGroupKFold,
                }
                kind = kinds[groups is not None, self._classifies()]
                self._parts[seed] = search, _tested(kind(count) if count > 1 else None, kept, y, groups)
            except ValueError as error:
                raise ValueError(
                    f"settings.final_share: {share} of {len(y)} examples cannot be kept in {count} parts "
                    f"(final_parts): {error}"
                ) from None
        return self._parts[seed]

    def splits(self, count: int, seed: int = 0) -> list[tuple[Any, Any]]:
        """Make the folds of a study, or return those that were made before.

        Returns:
            for each fold the training and the test examples, as positions among the examples of the search.

        Raises:
            ValueError: there are too few examples.
        """
        if (count, seed) not in self._cuts:
            search, _ = self.parts(seed)
            y, groups = self.examples.y[search], self.examples.groups
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    of_groups = None if groups is None else groups[search]
                    found = list(self.splitter(count, seed).split(search, y, of_groups))
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
        """Make the splitter of the folds, which GridSearchCV takes as `cv`.

        Raises:
            ValueError: it cannot make so many folds.
        """
        kind, chosen, state = getattr(model_selection, self.splitter_name), self.settings, seed % STATES
        if chosen.test_size is not None:
            return kind(count, test_size=chosen.test_size, random_state=state)
        if chosen.repeats is not None:
            if count % chosen.repeats:
                raise ValueError(f"expected a multiple of repeats, which is {chosen.repeats}")
            return kind(n_splits=count // chosen.repeats, n_repeats=chosen.repeats, random_state=state)
        return kind(count, shuffle=True, random_state=state) if chosen.shuffle else kind(count)

    def _file(self, name: str) -> Path:
        """Return the path of the data: relative to the definition that names them, else to the working directory."""
        if "data" in self._place.beside:
            return Path(name).expanduser().absolute()
        return self._place.file(name)

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

    def _usual_splitter(self) -> str:
        return "StratifiedKFold" if self._classifies() else "KFold"

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
            raise ValueError(f"{name}: expected an estimator, with methods fit and get_params")
        try:
            inspect.signature(found).bind()
        except TypeError as error:
            raise ValueError(
                f"{name}: cannot be made without arguments ({error}): write a function that makes it, FILE.py:NAME"
            ) from None
        made = found()
        if not _is_estimator(made):
            raise ValueError(
                f"{name}: expected an estimator, with methods fit and get_params, got {type(made).__name__}"
            )
        return made

    def _set(self, model: Any, params: Mapping[str, Any], where: str) -> None:
        """Set parameters, outer ones first: their values may be estimators, whose own parameters follow."""
        known = model.get_params()
        for name in sorted(params, key=lambda name: name.count("__")):
            if name not in known:
                raise ValueError(f"{where}.{name}: {_title(model)} has none: {_expected(name, known)}")
            value = params[name]
            names_class = isinstance(value, str) and value.startswith(f"{TRUSTED}.")
            model.set_params(**{name: self._made(value) if names_class else value})
            if names_class or _is_estimator(known[name]):
                known = model.get_params()

    def _say(self, caught: Sequence[warnings.WarningMessage]) -> None:
        """Log the first warning of each kind only, as a grid would repeat it thousands of times."""
        for one in caught:
            kind = one.category.__name__
            if kind not in self._said:
                self._said.add(kind)
                line = (str(one.message).strip().splitlines() or ["no reason given"])[0]
                log.warning("%s: %s (further ones of this kind are not shown)", kind, line)


def _is_estimator(found: Any) -> bool:
    return callable(getattr(found, "fit", None)) and callable(getattr(found, "get_params", None))


def _title(model: Any) -> str:
    """Return the names of the estimators' classes: `StandardScaler, SVC`."""
    parts = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    return ", ".join(type(part).__name__ for part in parts if not isinstance(part, str | None))


def _expected(name: str, known: Iterable[str]) -> str:
    """Suggest names that are close to a wrong one, or list all names if none is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    return f"did you mean {', '.join(close)}?" if close else f"expected one of {', '.join(names)}"


def _tested(cutter: Any, kept: Any, y: Any, groups: Any) -> list[Any]:
    if cutter is None:
        return [kept]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cuts = list(cutter.split(kept, y[kept], None if groups is None else groups[kept]))
    return [kept[test] for _, test in cuts]
