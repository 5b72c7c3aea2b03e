"""Published results as a program reads them back."""

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
"""Those that are shipped."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Published:
    """The rows of each table by study and configuration, in their order, and what they belong to."""

    definitions: dict[str, Definition]
    traits: dict[str, Traits]
    """By study, what its problem said of itself."""
    layout: Layout
    points: dict[str, dict[str, Configuration]]
    """The grid of each study by key."""
    folds: dict[tuple[str, str], Rows]
    curves: dict[tuple[str, str], Rows]
    rounds: dict[tuple[str, str], Rows]


def load(folder: Path) -> Published:
    """Read the tables of a folder.

    Raises:
        InputError: they are not there, damaged, or not of one database.
    """
    tables, metadata = {}, []
    for table in (FOLDS, MEAN_CURVES, ROUNDS):
        path = folder / f"{table.name}.parquet"
        with readable(path), path.open("rb") as file:
            tables[table.name] = found = parquet.read_table(file)
            facts = {name.decode(): value.decode() for name, value in found.schema.metadata.items()}
            metadata.append({name: value for name, value in facts.items() if name != "row"})
    if any(one != metadata[0] for one in metadata):
        raise InputError(f"{folder}: its files come from different databases or moments: write them again")
    try:
        definitions = {
            study: parse(raw, f"study {study} in {folder}")
            for study, raw in json.loads(metadata[0]["definitions"]).items()
        }
        traits = {study: Traits.from_json(raw) for study, raw in json.loads(metadata[0]["problems"]).items()}
        held = layout(definitions.values(), traits.values(), json.loads(metadata[0]["round_figures"]))
    except (KeyError, ValueError, TypeError, AttributeError, DefinitionError) as error:
        raise InputError(
            f"{folder}: the metadata of its files are damaged ({type(error).__name__}): write them again"
        ) from None
    rows = {}
    for described in held.tables:
        with readable(folder / f"{described.name}.parquet"):
            names = {column.name for column in described.columns}
            if missing := names - set(tables[described.name].column_names):
                raise ValueError(f"no column {', '.join(sorted(missing))}")
            rows[described.name] = _grouped(tables[described.name].to_pylist())
    points = {
        study: {one.key: one for one in definition.grid.configurations()}
        for study, definition in definitions.items()
    }
    return Published(definitions, traits, held, points, rows["folds"], rows["curves"], rows["rounds"])


def load_all(folder: Path) -> list[Published]:
    """The tables of a folder, and of those folders in it that have some.

    Raises:
        InputError: as `load`.
    """
    further = sorted(path.parent for path in folder.glob(f"*/{FOLDS.name}.parquet"))
    return [load(one) for one in (folder, *further)]


def load_study(folder: Path, name: str) -> Published:
    """The tables, of a folder or of those in it, that a study is among.

    Raises:
        InputError: as `load`, or it is among none.
    """
    held = load_all(folder)
    for one in held:
        if name in one.definitions:
            return one
    known = ", ".join(study for one in held for study in one.definitions)
    raise InputError(f"study {name} is not among the published ones: expected one of {known}")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file of published results into one line.

    Raises:
        InputError: naming the file.
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
