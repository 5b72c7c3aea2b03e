"""Reads published results from their Parquet files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowException, parquet

from pairsearch.search.errors import InputError
from pairsearch.search.results.published_columns import FOLDS, MEAN_CURVES, ROUNDS, Layout, layout
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import FOLDER, Definition, parse
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.problem import Traits

DEFAULT = FOLDER / "results"
"""The folder of the published results that are shipped."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Published:
    """The published results of some studies: their definitions, and the rows of each table."""

    definitions: dict[str, Definition]
    """Definitions by study."""
    traits: dict[str, Traits]
    """Traits of the problem by study."""
    layout: Layout
    points: dict[str, dict[str, Configuration]]
    """The grid of each study, by key."""
    folds: dict[tuple[str, str], Rows]
    """Rows by study and key of the configuration, in the order of the file; so are the next two."""
    curves: dict[tuple[str, str], Rows]
    rounds: dict[tuple[str, str], Rows]


def load(folder: Path) -> Published:
    """Read the published results of a folder.

    Raises:
        InputError: the files are missing, damaged, or from different databases.
    """
    tables, metadata = {}, []
    for table in (FOLDS, MEAN_CURVES, ROUNDS):
        path = folder / f"{table.name}.parquet"
        with readable(path), path.open("rb") as file:
            tables[table.name] = read = parquet.read_table(file)
            facts = {name.decode(): value.decode() for name, value in read.schema.metadata.items()}
            metadata.append({name: value for name, value in facts.items() if name != "row"})
    if any(one != metadata[0] for one in metadata):
        raise InputError(f"{folder}: its files come from different databases or moments: write them again")
    try:
        definitions = {
            study: parse(raw, f"study {study} in {folder}")
            for study, raw in json.loads(metadata[0]["definitions"]).items()
        }
        traits = {study: Traits.from_json(raw) for study, raw in json.loads(metadata[0]["problems"]).items()}
        columns = layout(definitions.values(), traits.values(), json.loads(metadata[0]["round_figures"]))
    except (KeyError, ValueError, TypeError, AttributeError, DefinitionError) as error:
        raise InputError(
            f"{folder}: the metadata of its files are damaged ({type(error).__name__}): write them again"
        ) from None
    rows = {}
    for described in columns.tables:
        with readable(folder / f"{described.name}.parquet"):
            names = {column.name for column in described.columns}
            if missing := names - set(tables[described.name].column_names):
                raise ValueError(f"no column {', '.join(sorted(missing))}")
            rows[described.name] = _grouped(tables[described.name].to_pylist())
    points = {
        study: {one.key: one for one in definition.grid.configurations()}
        for study, definition in definitions.items()
    }
    return Published(definitions, traits, columns, points, rows["folds"], rows["curves"], rows["rounds"])


def load_all(folder: Path) -> list[Published]:
    """Read the published results of a folder and of its subfolders.

    Raises:
        InputError: see `load`.
    """
    further = sorted(path.parent for path in folder.glob(f"*/{FOLDS.name}.parquet"))
    return [load(one) for one in (folder, *further)]


def load_study(folder: Path, name: str) -> Published:
    """Read the published results, of a folder or one of its subfolders, that contain a study.

    Raises:
        InputError: see `load`; or there is no such study.
    """
    every = load_all(folder)
    for one in every:
        if name in one.definitions:
            return one
    known = ", ".join(study for one in every for study in one.definitions)
    raise InputError(f"study {name} is not among the published ones: expected one of {known}")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Translate errors of the block, which reads a file of published results.

    Raises:
        InputError: the file cannot be read; the message names it.
    """
    try:
        yield
    except (OSError, ArrowException, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise InputError(
            f"{path} cannot be read as published results ({reason}): expected a file that "
            "`python -m pairsearch.search.measure.published --write` made"
        ) from None


def _grouped(rows: Rows) -> dict[tuple[str, str], Rows]:
    grouped: dict[tuple[str, str], Rows] = {}
    for row in rows:
        grouped.setdefault((row["study"], row["configuration"]), []).append(row)
    return grouped
