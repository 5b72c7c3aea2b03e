"""Reads the examples that an estimator learns from: a data set of scikit-learn's, or a file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet
from sklearn import datasets

from pairsearch.studies.estimator.settings import Settings

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
"""Data sets that come with scikit-learn. It would download others, which may change from day to day."""
SUFFIXES = (".csv", ".parquet", ".npz")
INDEX = re.compile(r"__index_level_\d+__")
"""Names of columns that pandas adds to a Parquet file, with the number of the row."""
NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
"""Kinds of columns that are read as floats. In a column of the last kind all values are missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Features, targets and groups, with a row for each of N examples.

    Args:
        X: features, (N, ...): numbers, or objects where a column holds text.
        y: targets, (N,) or (N, outputs).
        groups: (N,), equal for examples that belong together; None without groups.
        columns: names of the features; empty where they have none.
    """

    X: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    groups: np.ndarray[Any, Any] | None = None
    columns: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return the SHA-256 (hexadecimal) over all values, their types and the names of the columns."""
        found = hashlib.sha256(json.dumps(self.columns).encode())
        for array in (self.X, self.y, self.groups):
            if array is None:
                continue
            text = array.dtype == object
            found.update(f"{array.dtype.str} {array.shape}".encode())
            found.update(json.dumps(array.tolist()).encode() if text else array.tobytes())
        return found.hexdigest()


def read(settings: Settings, file: Callable[[str], Path]) -> Examples:
    """Read a data set of scikit-learn's, or a CSV, Parquet or .npz file, of which columns or arrays are named.

    A ValueError names the setting whose column or array is absent or cannot be learnt from.
    """
    suffix = Path(settings.data).suffix.lower()
    if suffix not in SUFFIXES:
        return _bundled(settings)
    path = file(settings.data)
    try:
        found = _arrays(path, settings) if suffix == ".npz" else _columns(_table(path, suffix), settings)
    except (OSError, pa.ArrowException) as error:
        lines = str(getattr(error, "strerror", None) or error).splitlines() or [type(error).__name__]
        raise ValueError(f"settings.data: {path} cannot be read ({lines[0]})") from None
    if not len(found.y):
        raise ValueError(f"settings.data: {path} holds no examples")
    return found


def _bundled(settings: Settings) -> Examples:
    name = settings.data
    if name not in BUNDLED:
        raise ValueError(
            f"settings.data: expected one of scikit-learn's data sets ({', '.join(BUNDLED)}) or a file "
            f"({', '.join(SUFFIXES)}), got {name!r}"
        )
    if any(column is not None for column in (settings.features, settings.target, settings.groups)):
        raise ValueError(
            f"settings.data: {name} has its own features and target: leave out features, target, groups"
        )
    bunch = getattr(datasets, f"load_{name}")()
    return Examples(bunch.data, bunch.target, columns=tuple(bunch.feature_names))


def _arrays(path: Path, settings: Settings) -> Examples:
    features = settings.features
    if not isinstance(features, str | None):
        raise ValueError(
            f"settings.features: expected the name of one array of {path.name}, got {features!r}"
        )
    wanted = {"features": features or "X", "target": settings.target or "y", "groups": settings.groups}
    found: dict[str, Any] = {}
    try:
        # Arrays of objects are pickles, which can run any code.
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            found = {setting: archive[name] for setting, name in wanted.items() if name in names}
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"settings.data: {path} is no .npz file of numbers and texts as numpy.savez writes it ({error})"
        ) from None
    for setting, name in wanted.items():
        if name is not None and setting not in found:
            raise _absent(setting, name, path.name, names)
    X, y, of_groups = found["features"], found["target"], found.get("groups")
    if X.ndim == 0 or any(
        array is not None and len(array) != len(X) for array in (np.atleast_1d(y), of_groups)
    ):
        shapes = ", ".join(f"{wanted[setting]} {array.shape}" for setting, array in found.items())
        raise ValueError(f"settings.data: {path.name}: expected as many targets as examples, got {shapes}")
    return Examples(np.ascontiguousarray(X), _complete("target", y), of_groups)


def _table(path: Path, suffix: str) -> pa.Table:
    # A file that cannot be opened gives the same message whatever its format, so it is opened here.
    with path.open("rb") as stream:
        if suffix == ".parquet":
            table = parquet.read_table(stream)
        else:
            table = csv.read_csv(stream, convert_options=csv.ConvertOptions(strings_can_be_null=True))
    return table.select([name for name in table.column_names if not INDEX.fullmatch(name)])


def _columns(table: pa.Table, settings: Settings) -> Examples:
    features, target, groups = settings.features, settings.target, settings.groups
    names = table.column_names
    if target is None:
        raise ValueError(
            f"settings.target: missing: name the column that is to be predicted: {', '.join(names)}"
        )
    others = [name for name in names if name not in (target, groups)]
    chosen = [features] if isinstance(features, str) else others if features is None else list(features)
    for setting, name in (("target", target), ("groups", groups), *(("features", name) for name in chosen)):
        if name is not None and names.count(name) != 1:
            raise _absent(setting, name, "the table", names)
    if not chosen or not set(chosen) <= set(others):
        raise ValueError(
            f"settings.features: expected some of {', '.join(others)}, got {', '.join(chosen) or 'none'}"
        )
    values = [_column(table, name) for name in chosen]
    # A text vectoriser takes a one-dimensional array.
    X = np.ascontiguousarray(values[0] if isinstance(features, str) else np.column_stack(values))
    of_groups = None if groups is None else _complete("groups", _column(table, groups, labels=True))
    return Examples(X, _complete("target", _column(table, target, labels=True)), of_groups, tuple(chosen))


def _absent(setting: str, name: str, where: str, known: Sequence[str]) -> ValueError:
    problem = f"holds {name!r} twice" if name in known else f"holds no {name!r}"
    return ValueError(f"settings.{setting}: {where} {problem}: it has {', '.join(known)}")


def _column(table: pa.Table, name: str, *, labels: bool = False) -> np.ndarray[Any, Any]:
    """Return a column of features as floats with NaN, or as texts with None, for missing values.

    Labels, which are targets or groups, keep their own type.
    """
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(column.to_pylist(), dtype=str if labels and not column.null_count else object)
    if labels:
        return np.asarray(column.to_numpy())
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not any(is_kind(kind) for is_kind in NUMBERS):
        raise ValueError(
            f"settings.features: column {name} holds {kind}: expected numbers, booleans or texts: leave it out by "
            "naming the others as features"
        )
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _complete(setting: str, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    missing = sum(label is None or label != label for label in labels.ravel().tolist())  # noqa: PLR0124 - NaN
    if missing:
        raise ValueError(
            f"settings.{setting}: {missing} of {len(labels)} examples have none: remove them from the data"
        )
    return labels
