"""Published results as a program reads them back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowException, parquet

from pairsearch.search.errors import InputError
from pairsearch.search.measure.published.columns import FOLDS, MEAN_CURVES, ROUNDS, TABLES
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import FOLDER, PARAMETERS, Definition, parse
from pairsearch.studies.errors import DefinitionError

DEFAULT = FOLDER / "results"
"""Those that are shipped."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Published:
    """The rows of each table by study and configuration, in their order, and what they belong to."""

    definitions: dict[str, Definition]
    training_version: int
    source_name: str
    fingerprint: str
    folds: dict[tuple[str, str], Rows]
    curves: dict[tuple[str, str], Rows]
    rounds: dict[tuple[str, str], Rows]

    def configuration(self, study: str, key: str) -> Configuration:
        """The hyperparameters of a published configuration."""
        row = self.folds[study, key][0]
        return Configuration({name: row[name] for name in PARAMETERS if row[name] is not None})


def load(folder: Path) -> Published:
    """Read the tables of a folder.

    Raises:
        InputError: they are not there, damaged, or not of one database.
    """
    tables, metadata = {}, []
    for table in TABLES:
        path = folder / f"{table.name}.parquet"
        try:
            with path.open("rb") as file:
                found = parquet.read_table(file)
            if missing := {column.name for column in table.columns} - set(found.column_names):
                raise ValueError(f"no column {', '.join(sorted(missing))}")
            metadata.append(
                {
                    name.decode(): value.decode()
                    for name, value in found.schema.metadata.items()
                    if name != b"row"
                }
            )
            tables[table.name] = _grouped(found.to_pylist())
        except (OSError, ArrowException, ValueError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise InputError(
                f"{path} cannot be read as published results ({reason}): expected a file that "
                "`python -m pairsearch.search.measure.published --write` made"
            ) from None
    if any(one != metadata[0] for one in metadata):
        raise InputError(f"{folder}: its files come from different databases or moments: write them again")
    try:
        name, _, fingerprint = metadata[0]["data"].partition(" ")
        return Published(
            definitions={
                study: parse(raw, f"study {study} in {folder}")
                for study, raw in json.loads(metadata[0]["definitions"]).items()
            },
            training_version=int(metadata[0]["training_version"]),
            source_name=name,
            fingerprint=fingerprint,
            folds=tables[FOLDS.name],
            curves=tables[MEAN_CURVES.name],
            rounds=tables[ROUNDS.name],
        )
    except (KeyError, ValueError, AttributeError, DefinitionError) as error:
        raise InputError(
            f"{folder}: the metadata of its files are damaged ({type(error).__name__}): write them again"
        ) from None


def _grouped(rows: Rows) -> dict[tuple[str, str], Rows]:
    grouped: dict[tuple[str, str], Rows] = {}
    for row in rows:
        grouped.setdefault((row["study"], row["configuration"]), []).append(row)
    return grouped
