"""The table of the rounds that claims compare, `claims.parquet`: its columns, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pyarrow import parquet

from pairsearch.search.errors import InputError
from pairsearch.search.results.export_columns import Column, ColumnTable
from pairsearch.search.results.published import readable
from pairsearch.search.results.published_columns import ROUNDS, Columns
from pairsearch.search.results.study_table import Rounds, StudyTable
from pairsearch.studies.definition import Definition, parse
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.problem import Metric, Traits

FILE = "claims.parquet"

CLAIM_ROUNDS = ColumnTable(
    "claims",
    "a round of the final evaluation of a configuration that a claim compares, after its last epoch",
    tuple(
        Column("params", "text", "its parameters, as JSON") if column.name == "chosen_by" else column
        for column in ROUNDS.columns
    ),
)
"""The table of rounds with parameters as JSON, because configurations need not belong to a grid."""


def columns_of(traits: Mapping[str, Traits], figures: list[str]) -> Columns:
    """Return the table with a column for each of these figures."""
    metrics: dict[str, Metric] = {
        name: metric for one in traits.values() for name, metric in one.metrics.items()
    }
    return Columns.of(CLAIM_ROUNDS, {}, {name: metrics[name] for name in figures})


def read_rounds(folder: Path) -> dict[str, StudyTable]:
    """Read the rounds of claims in a folder of published results.

    Returns:
        Tables without a grid, by study; none if the folder has no such file.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    with readable(path):
        read = parquet.read_table(path)
        facts = {name.decode(): value.decode() for name, value in read.schema.metadata.items()}
    try:
        definitions = {
            name: parse(raw, f"study {name} in {path}")
            for name, raw in json.loads(facts["definitions"]).items()
        }
        traits = {name: Traits.from_json(raw) for name, raw in json.loads(facts["problems"]).items()}
        columns = columns_of(traits, json.loads(facts["round_figures"])).figures
        rounds: dict[str, dict[str, dict[int, Mapping[str, float | None]]]] = {}
        for row in read.to_pylist():
            figures = {} if row["diverged_epoch"] else {name: row[column] for name, column in columns.items()}
            rounds.setdefault(row["study"], {}).setdefault(row["configuration"], {})[row["round"]] = figures
        return {
            name: _without_grid(definition, traits[name], rounds.get(name, {}))
            for name, definition in definitions.items()
        }
    except (KeyError, ValueError, TypeError, AttributeError, DefinitionError) as error:
        raise InputError(
            f"{path} cannot be read as rounds of claims ({type(error).__name__}): expected a file that "
            "`python -m pairsearch.search.measure.published --claims` made"
        ) from None


def _without_grid(definition: Definition, traits: Traits, rounds: Rounds) -> StudyTable:
    return StudyTable(definition.name, definition, traits, (), 0, {}, {}, np.empty(0), rounds)
