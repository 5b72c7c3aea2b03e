"""Reads a folder of tables that `export` wrote, and checks that it is whole."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ArrowException, compute

from pairsearch.search.common.errors import InputError
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.ledger.incoming import LOADED, Incoming, IncomingRun, RunKey, run_columns
from pairsearch.search.ledger.rows import MEAN, write_figures
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.export import TYPES, Row, layout
from pairsearch.search.results.foreign import read_arrow
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
    Table,
)
from pairsearch.studies.definition import FOLDER as DEFINITIONS
from pairsearch.studies.definition import parse
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.problem import Traits

SHIPPED = {"paper": DEFINITIONS / "results" / "paper"}
"""The folders of results that come with the package, by name."""
COPIED = ("seconds", "errors", "lapses", "claims", "started_at", "finished_at", "worker", "reason")
"""Columns of configurations that the database has under the same names."""


class DamagedTableError(Exception):
    """A table holds what `export` cannot have written; the message says what is wrong."""


def read_folder(folder: Path, source: str, names: Sequence[str] = ()) -> list[Incoming]:
    """Read the studies of a folder of tables. Where one is missing, damaged or cut, the InputError names the file.

    Args:
        source: what the folder is called in the provenance of its results.
        names: the studies to read; all if there are none.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no folder: expected one that `pairsearch export` wrote, or {', '.join(SHIPPED)}"
        )
    tables = {table.name: _read(_path(folder, table)) for table in FOLDER}
    with _naming(folder, STUDIES):
        _check_columns(tables[STUDIES.name], Columns.of(STUDIES, {}, {}))
        about = {row["study"]: row for row in tables[STUDIES.name].to_pylist()}
        known = {name: _study(row, folder) for name, row in about.items()}
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"study {unknown[0]!a} is not in {folder}: expected one of {', '.join(known)}")
    columns = {table.name: layout(table, known.values()) for table in FOLDER}
    for table in FOLDER[:-1]:
        with _naming(folder, table):
            _check_columns(tables[table.name], columns[table.name])
            if table is not PROVENANCE:
                _check_counts(
                    tables[table.name], Counter({name: row[table.name] for name, row in about.items()})
                )
    digest = hashlib.sha256(b"".join(_path(folder, table).read_bytes() for table in FOLDER)).hexdigest()
    with _naming(folder, PROVENANCE):
        # The provenance says where the results were loaded from.
        origins = {
            row["provenance"]: json.dumps({**json.loads(row["facts"]), LOADED: f"{source}, SHA-256 {digest}"})
            for row in tables[PROVENANCE.name].to_pylist()
        }
    del tables[PROVENANCE.name]
    found = []
    for name in (name for name in known if not names or name in names):
        own = {
            table: rows.filter(compute.equal(rows.column("study"), name)) for table, rows in tables.items()
        }
        found.append(_Study(folder, known[name], columns, own, origins).read())
    return found


def _path(folder: Path, table: Table) -> Path:
    return folder / f"{table.name}.parquet"


def _read(path: Path) -> pa.Table:
    try:
        found = read_arrow(path)
    except InputError as error:
        raise InputError(f"{error}: expected a table of a folder that `pairsearch export` wrote") from None
    version = (found.schema.metadata or {}).get(b"format", b"").decode(errors="replace")
    if version != FORMAT:
        said = f"format {version!a}" if version else "no format"
        raise InputError(
            f"{path} has {said}, expected format {FORMAT}: use the tables that `pairsearch export` of this version "
            "writes"
        )
    return found


@contextmanager
def _naming(folder: Path, table: Table) -> Iterator[None]:
    """Translate errors of the block, which works on a table that was read; the message names its file."""
    try:
        yield
    except DamagedTableError as error:
        raise InputError(f"{_path(folder, table)} is damaged: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ArrowException) as error:
        what = f"{type(error).__name__}: {str(error)[:100]}"
        raise InputError(f"{_path(folder, table)} is damaged ({what})") from None


def _check_columns(found: pa.Table, columns: Columns) -> None:
    for column in columns.table.columns:
        if column.name not in found.column_names:
            raise DamagedTableError(f"it has no column {column.name}")
        cells, wanted = found.column(column.name), TYPES[column.kind]
        if cells.type != wanted:
            raise DamagedTableError(f"its column {column.name} is of {cells.type}, not of {wanted}")
        if cells.null_count and not column.empty:
            raise DamagedTableError(f"its column {column.name} has an empty cell")
        if column.kind == "number" and compute.all(compute.is_finite(cells)).as_py() is False:
            raise DamagedTableError(f"its column {column.name} has a number that is not finite")


def _check_counts(found: pa.Table, wanted: Counter[str]) -> None:
    """Check that no row is missing or too many; `wanted` has the number of rows of each study."""
    counts = Counter(found.column("study").to_pylist())
    for name in wanted | counts:
        if counts[name] != wanted[name]:
            raise DamagedTableError(
                f"it has {counts[name]} rows of study {name!a}, where {STUDIES.name}.parquet says {wanted[name]}"
            )


def _study(row: Row, folder: Path) -> StoredStudy:
    """Return a study as if it were in a database."""
    try:
        definition = parse(json.loads(row["definition"]), f"study {row['study']!a} in {folder}", stored=True)
    except DefinitionError as error:
        raise DamagedTableError(str(error)) from None
    choices = {name: tuple(values) for name, values in json.loads(row["choices"]).items()}
    traits = Traits.from_json(json.loads(row["problem"]))
    if definition.name != row["study"] or definition.metric not in traits.of_folds:
        raise DamagedTableError(f"the definition of study {row['study']!a} does not fit it")
    # The same values, which may have come in another order.
    stored, defined = (
        {name: set(map(repr, of)) for name, of in each.items()} for each in (choices, definition.grid.choices)
    )
    if stored != defined:
        raise DamagedTableError(f"the choices of study {definition.name} are not those of its grid")
    return StoredStudy(0, definition.name, 0, definition, choices, traits)


@dataclass(frozen=True, slots=True)
class _Study:
    """One study in a folder, with the columns and its rows of each table by name, and provenance by its number."""

    folder: Path
    study: StoredStudy
    columns: Mapping[str, Columns]
    tables: Mapping[str, pa.Table]
    origins: Mapping[int, str]

    def read(self) -> Incoming:
        with _naming(self.folder, CONFIGURATIONS):
            configurations = self._configurations()
        with _naming(self.folder, ALL_CURVES):
            curves = self._curves()
        with _naming(self.folder, FOLDS):
            runs = self._runs(FOLDS, "fold", curves)
            self._check_folds(configurations, runs)
        with _naming(self.folder, ROUNDS):
            runs |= self._runs(ROUNDS, "round", curves)
        with _naming(self.folder, ALL_CURVES):
            for (key, kind, run), (epochs, texts) in curves.items():
                if kind != MEAN:
                    raise DamagedTableError(f"it has a curve of {kind} {run} of {key!a}, which is not there")
                if key not in configurations or configurations[key]["state"] not in COVERED or run:
                    raise DamagedTableError(f"it has a mean of {key!a}, which has no result")
                final = {name: json.loads(text)[-1] for name, text in texts.items()}
                runs[key, MEAN, 0] = IncomingRun(run_columns(key, MEAN, 0, epochs, final), texts)
        of = self.study
        return Incoming(of.definition, of.traits, of.choices, configurations, runs, str(self.folder))

    def _figures(self, table: Table) -> dict[str, str]:
        """Return the columns of the figures that a row of the study has, by name."""
        found = self.tables[table.name]
        return {
            name: column
            for name, column in self.columns[table.name].figures.items()
            if name in self.study.traits.metrics and found.column(column).null_count < len(found)
        }

    def _origin(self, row: Row) -> str | None:
        number = row["provenance"]
        if number is not None and number not in self.origins:
            raise DamagedTableError(f"row {number} of its column provenance is not in provenance.parquet")
        return None if number is None else self.origins[number]

    def _configurations(self) -> dict[str, Row]:
        columns, figures = self.columns[CONFIGURATIONS.name], self._figures(CONFIGURATIONS)
        points = {one.key: one for one in self.study.definition.grid.configurations()}
        rows = self.tables[CONFIGURATIONS.name].to_pylist()
        counts = Counter(row["configuration"] for row in rows)
        for key in (*counts, *points):
            if key not in points or counts[key] != 1:
                what = f"there {counts[key]} times" if key in points else "not in the grid of its definition"
                raise DamagedTableError(f"configuration {key!a} of study {self.study.name} is {what}")
        found: dict[str, Row] = {}
        for place, row in enumerate(rows):
            key, state, point = row["configuration"], row["state"], points[row["configuration"]]
            for column, value in columns.point(point.params).items():
                if row[column] != value:
                    raise DamagedTableError(f"its column {column} is not that of configuration {key!a}")
            if state not in (*COVERED, State.FAILED, State.PENDING):
                raise DamagedTableError(f"configuration {key!a} has state {state!a}")
            covered = state in COVERED
            if (
                (covered and None in (row["seconds"], row["provenance"]))
                or ((row["value"] is None) == (state == State.FINISHED))
                or row["position"] != place
            ):
                raise DamagedTableError(f"the row of configuration {key!a} is not that of a {state} one")
            means = write_figures({name: row[column] for name, column in figures.items()})
            found[key] = {
                "params": point.text,
                "rank": place,
                "state": state,
                "value": row["value"],
                "figures": means if covered else None,
                "provenance": self._origin(row),
            } | {name: row[name] for name in COPIED}
        return found

    def _curves(self) -> dict[RunKey, tuple[int, dict[str, str]]]:
        """Return how many epochs each run has, and the points of each of its figures as JSON."""

        def cells(column: str) -> list[Any]:
            return list(self.tables[ALL_CURVES.name].column(column).to_pylist())

        places = zip(cells("configuration"), cells("kind"), cells("run"), strict=True)
        epochs = cells("epoch")
        figures = {name: cells(column) for name, column in self._figures(ALL_CURVES).items()}
        found: dict[RunKey, tuple[int, dict[str, str]]] = {}
        start = 0
        for of, group in itertools.groupby(places):
            count = sum(1 for _ in group)
            end = start + count
            if of in found or epochs[start:end] != list(range(1, count + 1)):
                raise DamagedTableError(f"the epochs of {of[1]} {of[2]} of {of[0]!a} are not 1, 2, ...")
            curves = {name: points[start:end] for name, points in figures.items()}
            known = {name: points for name, points in curves.items() if points.count(None) < count}
            # A run of which nothing was finite has the metric's curve all the same.
            texts = known or {self.study.definition.metric: [None] * count}
            found[of] = (count, {name: json.dumps(points) for name, points in texts.items()})
            start = end
        return found

    def _runs(
        self, table: Table, kind: str, curves: dict[RunKey, tuple[int, dict[str, str]]]
    ) -> dict[RunKey, IncomingRun]:
        """Return the runs of a table with their curves, which are taken out of `curves`."""
        figures = self._figures(table)
        found: dict[RunKey, IncomingRun] = {}
        for row in self.tables[table.name].to_pylist():
            place = (row["configuration"], kind, row[kind])
            if place in found or row[kind] < 0:
                raise DamagedTableError(f"{kind} {row[kind]} of {place[0]!a} cannot be there (again)")
            epochs, texts = curves.pop(place, (0, {}))
            diverged = row["diverged_epoch"]
            final = {} if diverged is not None else {name: row[column] for name, column in figures.items()}
            made = run_columns(*place, epochs, final) | {"diverged_epoch": diverged}
            if kind == "round":
                made["provenance"] = self._origin(row)
                if not isinstance(json.loads(row["facts"]), dict) or made["provenance"] is None:
                    raise DamagedTableError(
                        f"round {row[kind]} of {place[0]!a} has no facts or no provenance"
                    )
                made |= {name: row[name] for name in ("seconds", "worker", "finished_at", "facts")}
            found[place] = IncomingRun(made, texts)
        return found

    def _check_folds(self, configurations: Mapping[str, Row], runs: Mapping[RunKey, IncomingRun]) -> None:
        """Check that each configuration that has a result has its folds, a finished one all of them."""
        folds: dict[str, list[int]] = {key: [] for key in configurations}
        for key, _, fold in runs:
            folds.setdefault(key, []).append(fold)
        count = self.study.definition.folds
        for key, numbers in folds.items():
            state = configurations[key]["state"] if key in configurations else "not in the grid"
            most = count if state in COVERED else 0
            least = count if state == State.FINISHED else min(most, 1)
            if not least <= len(numbers) <= most or sorted(numbers) != list(range(len(numbers))):
                raise DamagedTableError(
                    f"configuration {key!a} of study {self.study.name} is {state} and has {len(numbers)} of {count} "
                    "folds"
                )
