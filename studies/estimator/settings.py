"""The settings of the problem `estimator`, in a definition's `[settings]`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator
from sklearn.metrics import get_scorer_names

from pairsearch.studies.definition import Count
from pairsearch.studies.validation import demands

REPEATED = ("RepeatedKFold", "RepeatedStratifiedKFold")
SHUFFLED = ("ShuffleSplit", "StratifiedShuffleSplit", "GroupShuffleSplit")
GROUPED = ("GroupKFold", "StratifiedGroupKFold", "GroupShuffleSplit")
Splitter = Literal[
    "KFold", "StratifiedKFold", "GroupKFold", "StratifiedGroupKFold", "RepeatedKFold", "RepeatedStratifiedKFold",
    "ShuffleSplit", "StratifiedShuffleSplit", "GroupShuffleSplit",
]  # fmt: skip


Names = Annotated[list[str], Field(min_length=1)]
Steps = Annotated[list[Annotated[list[str], Field(min_length=2, max_length=2)]], Field(min_length=1)]
ESTIMATOR = 'a dotted name such as "sklearn.svm.SVC", a list of them (a pipeline) or a list of ["step", "dotted name"]'


def _scoring(given: Any) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected one of scikit-learn's scorers or a list of them, got {given!r}")
    for name in names:
        if name not in get_scorer_names():
            raise ValueError(f"scikit-learn has no scorer {name!r}: {suggestion(name, get_scorer_names())}")
        if names.count(name) > 1:
            raise ValueError(f"expected distinct scorers, got {name!r} twice")
    return names


class Settings(BaseModel):
    """The settings of `problem = "estimator"`, any estimator of scikit-learn's, in a definition's `[settings]`.

    The grid has the estimator's own parameters, by the names that `set_params` takes, such as `svc__C`. A text that
    begins with `sklearn.`, in the grid or in `arguments`, stands for an estimator of that class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    estimator: Annotated[Any, demands(str | Names | Steps, ESTIMATOR)]
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
    features: Annotated[
        Any, demands(str | Names | None, "a list of columns, or one column or array by itself")
    ] = None
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
        for setting, value, kinds, example in (
            ("repeats", self.repeats, REPEATED, "2"),
            ("test_size", self.test_size, SHUFFLED, "0.2"),
            ("groups", self.groups, GROUPED, "the name of a column or array"),
        ):
            if value is None and self.splitter in kinds:
                raise ValueError(f"settings.{setting}: {name} needs it, for example {example}")
            if value is not None and self.splitter not in kinds:
                raise ValueError(f"settings.{setting}: {name} takes none: only {', '.join(kinds)} do")
        if self.shuffle and self.splitter in (*REPEATED, *SHUFFLED, "GroupKFold"):
            raise ValueError(f"settings.shuffle: {name} takes none: leave it out")
        return self


def suggestion(name: str, known: Iterable[str]) -> str:
    """Suggest names that are close to a wrong one, or list all names if none is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    return f"did you mean {', '.join(close)}?" if close else f"expected one of {', '.join(names)}"
