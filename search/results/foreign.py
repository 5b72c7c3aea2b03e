"""Makes studies of results that others trained: scikit-learn's `cv_results_`, or a table of parameters and folds."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from pairsearch.search.common.errors import InputError
from pairsearch.search.database.states import State
from pairsearch.search.ledger.incoming import (
    LOADED,
    Incoming,
    IncomingRun,
    RunKey,
    run_columns,
)
from pairsearch.search.ledger.outcome import finite, mean_of
from pairsearch.search.ledger.rows import write_figures
from pairsearch.search.ledger.studies import merge_choices, valid_name
from pairsearch.studies import loading
from pairsearch.studies.configuration import Configuration, Params, Value
from pairsearch.studies.definition import parse
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.grid import LARGEST_VALUE
from pairsearch.studies.problem import Metric, Traits

FOLDS = "fold*"
"""How the columns of folds are named in a plain table; `*` stands for the number."""
SECONDS = "seconds"
"""The column of a plain table with the time of training."""
SCORE = "score"
"""The metric of a table that does not name it, as scikit-learn calls it."""
SPLIT = re.compile(r"split(\d+)_test_(.+)")
PARAMETER = "param_"
TABLES = (".csv", ".parquet")

Cells = Mapping[str, Sequence[Any]]
"""The cells of a table by column; None where a cell is empty."""


@dataclass(frozen=True, slots=True)
class Told:
    """What results of another program do not say of themselves.

    Args:
        name: of the study; None for that of the source.
        metric: the figure by which configurations are compared; None for the only one there is.
        minimise: whether a lower score is better. Scores are maximised, as scikit-learn has it.
        folds: how the columns of folds are named in a plain table.
        source: where they come from, for messages and provenance.
    """

    name: str | None = None
    metric: str | None = None
    minimise: bool = False
    folds: str = FOLDS
    source: str = ""


NOTHING = Told()


@dataclass(frozen=True, slots=True)
class Judged:
    """A configuration that somebody trained.

    Args:
        folds: the figures of each fold, by name; as many folds for each name, and NaN where a fold has none.
        seconds: time of the training; 0 if it is not known.
        ended: its state, if it was ended before the last fold.
    """

    params: Params
    folds: Mapping[str, Sequence[float]]
    seconds: float = 0.0
    ended: State | None = None


def value_of(cell: Any) -> Value:
    """Return a value as a definition may have it; a value of another type becomes its text."""
    if type(cell) in (bool, str) or (type(cell) is int and abs(cell) <= LARGEST_VALUE):
        found: Value = cell
    elif type(cell) is float and math.isfinite(cell):
        found = cell
    else:
        found = str(cell)
    return repr(found) if isinstance(found, str) and not found.isprintable() else found


def read_arrow(path: Path) -> pa.Table:
    """Read a CSV or Parquet file; raises InputError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return csv.read_csv(file) if path.suffix == ".csv" else parquet.read_table(file)
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise InputError(f"{path} cannot be read as a table ({reason})") from None


def read_file(path: Path) -> dict[str, list[Any]]:
    """Read the columns of a file that `read_arrow` reads."""
    found = read_arrow(path)
    return {name: found.column(place).to_pylist() for place, name in enumerate(found.column_names)}


def cells_of(given: Any) -> dict[str, list[Any]]:
    """Return the columns of a mapping or a data frame; None where a cell is masked or NaN."""
    try:
        columns = {str(name): [_cell(str(name), cell) for cell in given[name]] for name in given}
    except TypeError:
        raise InputError(
            f"expected a folder, a file, a database URL, or columns by name such as cv_results_, got "
            f"{type(given).__name__}"
        ) from None
    if len(set(map(len, columns.values()))) != 1:
        raise InputError(
            "its columns differ in length, or there are none: expected one cell for each configuration"
        )
    return columns


def _cell(column: str, cell: Any) -> Any:
    if cell is None and column.startswith(PARAMETER):
        return "None"  # scikit-learn masks parameters that a point does not have
    if cell is None or type(cell).__name__ == "MaskedConstant":
        return None
    # NumPy's numbers become Python's.
    plain = cell.item() if hasattr(cell, "item") and getattr(cell, "ndim", 0) == 0 else cell
    return None if isinstance(plain, float) and math.isnan(plain) else plain


def incoming_table(cells: Cells, told: Told) -> Incoming:
    """Make a study of a table, which has the columns of `cv_results_` or is a plain one."""
    scored = any(SPLIT.fullmatch(name) for name in cells)
    metric, judged = _scored(cells, told) if scored else _plain(cells, told)
    return incoming(judged, metric, told)


def _scored(cells: Cells, told: Told) -> tuple[str, list[Judged]]:
    splits: dict[str, dict[int, str]] = {}
    for name in cells:
        if found := SPLIT.fullmatch(name):
            splits.setdefault(found[2], {})[int(found[1])] = name
    names = {SCORE: told.metric or SCORE} if list(splits) == [SCORE] else {name: name for name in splits}
    metric = told.metric or next(iter(names.values()))
    if metric not in names.values() or (told.metric is None and len(names) > 1):
        raise InputError(
            f"{told.source} has several scores: name one of {', '.join(sorted(splits))} as the metric (--metric)"
        )
    folds = {names[scorer]: _in_turn(of, told) for scorer, of in splits.items()}
    times = [name for name in ("mean_fit_time", "mean_score_time") if name in cells]
    params = {name.removeprefix(PARAMETER): name for name in cells if name.startswith(PARAMETER)}
    return metric, _judged(cells, told, params, folds, times, each=len(folds[metric]))


def _plain(cells: Cells, told: Told) -> tuple[str, list[Judged]]:
    before, star, after = told.folds.partition("*")
    pattern = re.compile(re.escape(before) + r"\D?(\d+)" + re.escape(after))
    numbered = {int(found[1]): name for name in cells if star and (found := pattern.fullmatch(name))}
    if not numbered:
        raise InputError(
            f"{told.source} has no columns of folds: expected split0_test_score and so on, as in scikit-learn's "
            f"cv_results_, or {told.folds.replace('*', '0')}, {told.folds.replace('*', '1')} ... (--folds PATTERN)"
        )
    folds, metric = _in_turn(numbered, told), told.metric or SCORE
    # pandas writes its index as a column without a name.
    params = {name: name for name in cells if name not in (*folds, "", SECONDS)}
    return metric, _judged(cells, told, params, {metric: folds}, [SECONDS] if SECONDS in cells else [])


def _judged(
    cells: Cells,
    told: Told,
    params: Mapping[str, str],
    folds: Mapping[str, Sequence[str]],
    times: Sequence[str],
    each: int = 1,
) -> list[Judged]:
    """Return the rows of a table, by the names of its columns; each row took its `times` so often as `each` says."""
    rows = len(next(iter(cells.values())))
    return [
        Judged(
            # An empty cell is a parameter that the configuration does not have.
            {
                name: value_of(cell)
                for name, column in params.items()
                if (cell := cells[column][row]) is not None
            },
            {figure: [_number(cells[name][row], name, told) for name in of] for figure, of in folds.items()},
            each * sum((_number(cells[name][row], name, told) for name in times), 0.0),
        )
        for row in range(rows)
    ]


def _in_turn(numbered: Mapping[int, str], told: Told) -> list[str]:
    numbers = sorted(numbered)
    if len(numbers) < 2 or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise InputError(
            f"{told.source}: expected at least two columns of folds with numbers in turn, got "
            f"{', '.join(numbered[number] for number in numbers)}"
        )
    return [numbered[number] for number in numbers]


def _number(cell: Any, column: str, told: Told) -> float:
    if cell is None:
        return math.nan
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        raise InputError(f"{told.source}: expected numbers in column {column}, got {str(cell)[:60]!a}")
    return float(cell)


def incoming(judged: Sequence[Judged], metric: str, told: Told) -> Incoming:
    """Make a study of configurations that somebody trained on the same folds."""
    if not valid_name(told.name or ""):
        raise InputError(
            f"{told.name!a} cannot be the name of a study: expected lower-case letters, digits, - and _ (--name NAME)"
        )
    points: dict[str, Judged] = {}
    for one in judged:
        if not one.params:
            raise InputError(f"{told.source} has a configuration without parameters")
        key = Configuration(one.params).key
        if key in points:
            raise InputError(f"{told.source} has two rows with the same parameters: {key}")
        points[key] = one
    figures = list(dict.fromkeys(name for one in judged for name in one.folds))
    folds = max((len(of) for one in judged for of in one.folds.values()), default=0)
    raw = {
        "name": told.name,
        "problem": loading.LOADED,
        "metric": metric,
        "metrics": {name: {"maximise": not told.minimise} for name in figures},
        "folds": folds,
        "grid": _grid([one.params for one in judged]),
    }
    try:
        definition = parse(raw, told.source)
    except DefinitionError as error:
        raise InputError(str(error)) from None
    metrics = {name: Metric(maximise=not told.minimise) for name in figures}
    traits = Traits(1, "", metrics, overlap=1.0 / (folds - 1), together=False)
    text = json.dumps([[dict(one.params), one.folds, one.seconds, one.ended] for one in judged])
    origin = json.dumps({LOADED: f"{told.source}, SHA-256 {hashlib.sha256(text.encode()).hexdigest()}"})
    runs = dict(run for key, one in points.items() for run in _runs(key, one.folds))
    configurations = {
        key: _row(one, metric)
        | {"params": Configuration(one.params).text, "rank": rank, "provenance": origin}
        for rank, (key, one) in enumerate(points.items())
    }
    choices = merge_choices({}, definition.grid.choices)
    return Incoming(definition, traits, choices, configurations, runs, told.source)


def _grid(points: Sequence[Params]) -> list[dict[str, list[Value]]]:
    """Return the tables of a grid with exactly these points: one for the complete ones, else one for each point."""
    groups: dict[tuple[str, ...], list[Params]] = {}
    for params in points:
        groups.setdefault(tuple(sorted(params)), []).append(params)
    tables = []
    for of in groups.values():
        table = {name: list({repr(one[name]): one[name] for one in of}.values()) for name in of[0]}
        complete = math.prod(map(len, table.values())) == len(of)
        tables += [table] if complete else [{name: [value] for name, value in one.items()} for one in of]
    return tables


def _row(one: Judged, metric: str) -> dict[str, Any]:
    """Return the columns of a configuration that depend on its folds."""
    state, reason = one.ended or State.FINISHED, None
    gone = [fold for fold, value in enumerate(one.folds[metric]) if not math.isfinite(value)]
    if gone:
        state, reason = State.DIVERGED, f"fold {gone[0]} has no finite {metric}"
    elif one.ended is not None:
        reason = f"{one.ended.value} after {len(one.folds[metric])} folds"
    means = {name: None if gone else mean_of(values) for name, values in one.folds.items()}
    return {
        "state": state.value,
        "value": means[metric] if state is State.FINISHED else None,
        "figures": write_figures(means),
        "seconds": finite(one.seconds) or 0.0,
        "reason": reason,
    } | {"errors": 0, "lapses": 0, "claims": 0, "started_at": None, "finished_at": None, "worker": None}


def _runs(key: str, folds: Mapping[str, Sequence[float]]) -> Iterable[tuple[RunKey, IncomingRun]]:
    for fold in range(max(map(len, folds.values()))):
        final = {name: finite(values[fold]) for name, values in folds.items()}
        diverged = None if all(value is not None for value in final.values()) else 1
        row = run_columns(key, "fold", fold, 1, {} if diverged else final) | {"diverged_epoch": diverged}
        curves = {name: json.dumps([value]) for name, value in final.items()}
        yield (key, "fold", fold), IncomingRun(row, curves)
