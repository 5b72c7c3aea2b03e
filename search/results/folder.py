"""Reads a folder of tables that `export` wrote, and checks that it is whole."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ArrowException, compute, parquet

from pairsearch.search.database.states import COVERED, State
from pairsearch.search.errors import InputError
from pairsearch.search.ledger.incoming import LOADED, Incoming, IncomingRun, RunKey, run_columns
from pairsearch.search.ledger.rows import MEAN, write_figures
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.export import layout
from pairsearch.search.results.tables import (
    ALL_CURVES,
    CONFIGURATIONS,
    FOLDER,
    FOLDS,
    FORMAT,
    PROVENANCE,
    ROUNDS,
    STUDIES,
    Columns,
)
from pairsearch.search.results.writers import TYPES, Row
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import FOLDER as DEFINITIONS
from pairsearch.studies.definition import parse
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.problem import Traits

SHIPPED = {"paper": DEFINITIONS / "results" / "paper"}
"""The folders of results that come with the package, by name."""


class DamagedTableError(Exception):
    """A table holds what `export` cannot have written; the message says what is wrong."""


def read_folder(folder: Path, source: str, names: Sequence[str] = ()) -> list[Incoming]:
    """Read the studies of a folder of tables.

    Args:
        folder: the folder.
        source: what it is called in the provenance of its results.
        names: the studies to read; all if there are none.

    Raises:
        InputError: a table is missing, damaged, cut or of another format, or there is no such study. The message names
            the file and what is wrong.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no folder: expected one that `pairsearch export` wrote, or {', '.join(SHIPPED)}"
        )
    tables = {table.name: _read(folder / f"{table.name}.parquet") for table in FOLDER}
    with _naming(folder / f"{STUDIES.name}.parquet"):
        _check_columns(tables[STUDIES.name], Columns.of(STUDIES, {}, {}))
        about = tables[STUDIES.name].to_pylist()
        known = [_study(row, folder) for row in about]
    if unknown := [name for name in names if name not in {study.name for study in known}]:
        expected = ", ".join(study.name for study in known)
        raise InputError(f"study {unknown[0]!a} is not in {folder}: expected one of {expected}")
    columns = {table.name: layout(table, known) for table in FOLDER}
    rows: dict[str, dict[str, list[Row]]] = {}
    for table in FOLDER[:-1]:
        with _naming(folder / f"{table.name}.parquet"):
            _check_columns(tables[table.name], columns[table.name])
            if table is not PROVENANCE:
                _check_counts(tables[table.name], {row["study"]: row[table.name] for row in about})
            if table not in (PROVENANCE, ALL_CURVES):
                rows[table.name] = _by_study(tables[table.name])
    mark = f"{source}, SHA-256 {_digest(folder)}"
    with _naming(folder / f"{PROVENANCE.name}.parquet"):
        origins = _origins(tables[PROVENANCE.name], mark)
    curves = tables[ALL_CURVES.name]
    return [
        _Study(
            folder,
            study,
            columns,
            {name: of.get(study.name, []) for name, of in rows.items()},
            curves.filter(compute.equal(curves.column("study"), study.name)),
            origins,
        ).read()
        for study in known
        if not names or study.name in names
    ]


def _digest(folder: Path) -> str:
    """Return the SHA-256 (hexadecimal) over the tables, one after the other."""
    found = hashlib.sha256()
    for table in FOLDER:
        found.update((folder / f"{table.name}.parquet").read_bytes())
    return found.hexdigest()


def _read(path: Path) -> pa.Table:
    try:
        with path.open("rb") as file:
            found = parquet.read_table(file)
    except (OSError, ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise InputError(
            f"{path} cannot be read ({reason}): expected a table of a folder that `pairsearch export` wrote"
        ) from None
    version = (found.schema.metadata or {}).get(b"format", b"").decode(errors="replace")
    if version != FORMAT:
        said = f"format {version!a}" if version else "no format"
        raise InputError(
            f"{path} has {said}, expected format {FORMAT}: use the tables that `pairsearch export` of this version "
            "writes"
        )
    return found


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Translate errors of the block, which works on a table that was read from a file; the message names the file."""
    try:
        yield
    except DamagedTableError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ArrowException) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {str(error)[:100]})") from None


def _check_columns(found: pa.Table, columns: Columns) -> None:
    for column in columns.table.columns:
        if column.name not in found.column_names:
            raise DamagedTableError(f"it has no column {column.name}")
        cells = found.column(column.name)
        if cells.type != TYPES[column.kind]:
            raise DamagedTableError(
                f"its column {column.name} is of {cells.type}, not of {TYPES[column.kind]}"
            )
        if cells.null_count and not column.empty:
            raise DamagedTableError(f"its column {column.name} has an empty cell")
        if column.kind == "number" and compute.all(compute.is_finite(cells)).as_py() is False:
            raise DamagedTableError(f"its column {column.name} has a number that is not finite")


def _check_counts(found: pa.Table, wanted: Mapping[str, int]) -> None:
    """Check that no row is missing or too many; `wanted` has the number of rows of each study."""
    counts: Counter[str] = Counter(found.column("study").to_pylist())
    for name in wanted.keys() | counts.keys():
        if counts[name] != wanted.get(name, 0):
            raise DamagedTableError(
                f"it has {counts[name]} rows of study {name!a}, where {STUDIES.name}.parquet says {wanted.get(name, 0)}"
            )


def _by_study(found: pa.Table) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for row in found.to_pylist():
        rows.setdefault(row["study"], []).append(row)
    return rows


def _study(row: Row, folder: Path) -> StoredStudy:
    """Return a study as if it were in a database."""
    try:
        definition = parse(json.loads(row["definition"]), f"study {row['study']!a} in {folder}")
    except DefinitionError as error:
        raise DamagedTableError(str(error)) from None
    choices = {name: tuple(values) for name, values in json.loads(row["choices"]).items()}
    traits = Traits.from_json(json.loads(row["problem"]))
    if definition.name != row["study"] or definition.metric not in traits.of_folds:
        raise DamagedTableError(f"the definition of study {row['study']!a} does not fit it")
    if {name: set(map(repr, of)) for name, of in choices.items()} != {
        name: set(map(repr, of)) for name, of in definition.grid.choices.items()
    }:
        raise DamagedTableError(f"the choices of study {definition.name} are not those of its grid")
    return StoredStudy(0, definition.name, 0, definition, choices, traits)


def _origins(found: pa.Table, mark: str) -> dict[int, str]:
    """Return the provenance to store by its number; it says where the results were loaded from."""
    return {
        row["provenance"]: json.dumps({**json.loads(row["facts"]), LOADED: mark}) for row in found.to_pylist()
    }


class _Study:
    """The rows of one study in a folder, as they are to be stored.

    Args:
        folder: the folder.
        study: the study.
        columns: the columns of each table, by name.
        rows: the rows of the study in each table but that of curves, by name.
        curves: its rows in that, which are many.
        origins: the provenance to store by its number.
    """

    def __init__(
        self,
        folder: Path,
        study: StoredStudy,
        columns: Mapping[str, Columns],
        rows: Mapping[str, Sequence[Row]],
        curves: pa.Table,
        origins: Mapping[int, str],
    ) -> None:
        self._folder = folder
        self._study = study
        self._columns = columns
        self._rows = rows
        self._table = curves
        self._origins = origins
        self._points = {one.key: one for one in study.definition.grid.configurations()}

    def read(self) -> Incoming:
        """Check the rows of each table."""
        with self._file(CONFIGURATIONS.name):
            configurations = self._configurations()
        with self._file(ALL_CURVES.name):
            curves = self._curves()
        covered = {key for key, row in configurations.items() if row["state"] in COVERED}
        with self._file(FOLDS.name):
            runs = self._runs(FOLDS.name, "fold", curves)
            self._check_folds(configurations, runs)
        with self._file(ROUNDS.name):
            runs |= self._runs(ROUNDS.name, "round", curves)
        with self._file(ALL_CURVES.name):
            for (key, kind, run), (epochs, texts) in curves.items():
                if kind != MEAN:
                    raise DamagedTableError(f"it has a curve of {kind} {run} of {key!a}, which is not there")
                if key not in covered or run:
                    raise DamagedTableError(f"it has a mean of {key!a}, which has no result")
                row = run_columns(
                    key, MEAN, 0, epochs, {name: json.loads(text)[-1] for name, text in texts.items()}
                )
                runs[key, MEAN, 0] = IncomingRun(row, texts)
        study = self._study
        return Incoming(
            study.definition, study.traits, study.choices, configurations, runs, source=str(self._folder)
        )

    def _file(self, table: str) -> Any:
        return _naming(self._folder / f"{table}.parquet")

    def _reported(self, table: str) -> dict[str, str]:
        """Return the columns of the figures that a run of the study has, by name."""
        rows = self._rows[table]
        return {
            name: column
            for name, column in self._columns[table].figures.items()
            if name in self._study.traits.metrics and any(row[column] is not None for row in rows)
        }

    def _origin(self, row: Row) -> str | None:
        number = row["provenance"]
        if number is not None and number not in self._origins:
            raise DamagedTableError(f"row {number} of its column provenance is not in provenance.parquet")
        return None if number is None else self._origins[number]

    def _configurations(self) -> dict[str, Row]:
        columns, figures = self._columns[CONFIGURATIONS.name], self._reported(CONFIGURATIONS.name)
        found: dict[str, Row] = {}
        for place, row in enumerate(self._rows[CONFIGURATIONS.name]):
            key = row["configuration"]
            point = self._points.get(key)
            if point is None or key in found:
                what = "is there twice" if key in found else "is not in the grid of its definition"
                raise DamagedTableError(f"configuration {key!a} of study {self._study.name} {what}")
            self._check_point(point, row, columns)
            state = row["state"]
            if state not in (*COVERED, State.FAILED, State.PENDING):
                raise DamagedTableError(f"configuration {key!a} has state {state!a}")
            covered = state in COVERED
            if (
                (covered and (row["seconds"] is None or row["provenance"] is None))
                or ((row["value"] is None) == (state == State.FINISHED))
                or row["position"] != place
            ):
                raise DamagedTableError(f"the row of configuration {key!a} is not that of a {state} one")
            found[key] = {
                "params": point.text,
                "rank": row["position"],
                "state": state,
                "value": row["value"],
                "figures": write_figures({name: row[column] for name, column in figures.items()})
                if covered
                else None,
                "provenance": self._origin(row),
            } | {name: row[name] for name in _COPIED}
        if missing := self._points.keys() - found.keys():
            raise DamagedTableError(f"configuration {min(missing)!a} of study {self._study.name} is missing")
        return found

    def _check_point(self, point: Configuration, row: Row, columns: Columns) -> None:
        for column, value in columns.point(point.params).items():
            if row[column] != value:
                raise DamagedTableError(f"its column {column} is not that of configuration {point.key!a}")

    def _curves(self) -> dict[RunKey, tuple[int, dict[str, str]]]:
        """Return how many epochs each run has, and the points of each of its figures as JSON."""
        places = zip(
            *(self._table.column(name).to_pylist() for name in ("configuration", "kind", "run")), strict=True
        )
        epochs = self._table.column("epoch").to_pylist()
        metric = self._study.definition.metric
        figures = {
            name: cells.to_pylist()
            for name, column in self._columns[ALL_CURVES.name].figures.items()
            if name in self._study.traits.metrics
            and ((cells := self._table.column(column)).null_count < len(cells) or name == metric)
        }
        found: dict[RunKey, tuple[int, dict[str, str]]] = {}
        start = 0
        for of, group in itertools.groupby(places):
            end = start + sum(1 for _ in group)
            if of in found or epochs[start:end] != list(range(1, end - start + 1)):
                raise DamagedTableError(f"the epochs of {of[1]} {of[2]} of {of[0]!a} are not 1, 2, ...")
            curves = {name: points[start:end] for name, points in figures.items()}
            known = {
                name: points for name, points in curves.items() if any(one is not None for one in points)
            }
            # A run of which nothing was finite has the metric's curve all the same.
            texts = known or {metric: curves[metric]}
            found[of] = (end - start, {name: json.dumps(points) for name, points in texts.items()})
            start = end
        return found

    def _runs(
        self, table: str, kind: str, curves: dict[RunKey, tuple[int, dict[str, str]]]
    ) -> dict[RunKey, IncomingRun]:
        """Return the runs of a table with their curves, which are taken out of `curves`."""
        figures = self._reported(table)
        found: dict[RunKey, IncomingRun] = {}
        for row in self._rows[table]:
            place = (row["configuration"], kind, row[kind])
            if place in found or row[kind] < 0:
                raise DamagedTableError(f"{kind} {row[kind]} of {place[0]!a} cannot be there (again)")
            epochs, texts = curves.pop(place, (0, {}))
            diverged = row["diverged_epoch"]
            final = {} if diverged is not None else {name: row[column] for name, column in figures.items()}
            made = run_columns(*place, epochs, final) | {"diverged_epoch": diverged}
            if kind == "round":
                if not isinstance(json.loads(row["facts"]), dict) or self._origin(row) is None:
                    raise DamagedTableError(
                        f"round {row[kind]} of {place[0]!a} has no facts or no provenance"
                    )
                made |= {name: row[name] for name in ("seconds", "worker", "finished_at", "facts")}
                made["provenance"] = self._origin(row)
            found[place] = IncomingRun(made, texts)
        return found

    def _check_folds(self, configurations: Mapping[str, Row], runs: Mapping[RunKey, IncomingRun]) -> None:
        """Check that each configuration that has a result has its folds, a finished one all of them."""
        folds: dict[str, list[int]] = {}
        for key, _, fold in runs:
            folds.setdefault(key, []).append(fold)
        count = self._study.definition.folds
        for key, row in configurations.items():
            numbers = sorted(folds.pop(key, []))
            if row["state"] not in COVERED:
                good = not numbers
            else:
                good = 0 < len(numbers) <= count and numbers == list(range(len(numbers)))
                good = good and (row["state"] != State.FINISHED or len(numbers) == count)
            if not good:
                raise DamagedTableError(
                    f"configuration {key!a} of study {self._study.name} is {row['state']} and has "
                    f"{len(numbers)} of {count} folds"
                )
        if folds:
            raise DamagedTableError(
                f"configuration {next(iter(folds))!a} of study {self._study.name} is not in the grid of its definition"
            )


_COPIED = ("seconds", "errors", "lapses", "claims", "started_at", "finished_at", "worker", "reason")
"""Columns that the database has under the same names."""
