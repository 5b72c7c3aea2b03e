"""The tables of results for other programs: columns, types and units.

Imports no Arrow, so that help is quick. `export` writes the tables and `folder` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pairsearch.studies.configuration import Params, Value
from pairsearch.studies.problem import Metric

FORMAT = "1"
"""Version of the tables, to be raised whenever a column changes; tables of another one are refused."""

Kind = Literal["text", "integer", "number", "boolean"]
KINDS: dict[type, Kind] = {int: "integer", float: "number", bool: "boolean", str: "text"}
Choices = Mapping[str, Sequence[Value]]
"""The values of each parameter."""


def kind_of(values: Sequence[Value]) -> Kind:
    """Return the kind of a parameter's column from the parameter's values."""
    if mixed(values):
        return "text"
    types = set(map(type, values))
    return KINDS[types.pop()] if len(types) == 1 else "number"


def mixed(values: Sequence[Value]) -> bool:
    """Whether values have types that a column of numbers would mix up, such as 1, 1.0 and true; these become JSON."""
    types = set(map(type, values))
    if len(types) == 1:
        return False
    return not types <= {int, float} or len(set(map(float, values))) < len(values)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    """Unit of its numbers; empty if they have none."""
    empty: bool = False
    """Whether a value may be missing."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its name, what a row is, and its columns."""

    name: str
    row: str
    columns: tuple[Column, ...]


_TIME = "s since 1970, UTC"
STUDY = Column("study", "text", "name of the study")
KEY = Column("configuration", "text", "its key, the same in all tables")
PARAMETERS = Column(
    "(each parameter)",
    "text",
    "its value, with a type of its own; missing where the point has none",
    empty=True,
)
"""A placeholder for the columns of parameters."""
FIGURES = Column("(each figure)", "number", "mean over folds after the last epoch", empty=True)
"""A placeholder for the columns of figures; so are the next two."""
FINAL = replace(FIGURES, meaning="after the last epoch")
POINTS = replace(FIGURES, meaning="after the epoch")
DIVERGED = Column(
    "diverged_epoch", "integer", "epoch, from 1, in which it diverged; missing where it did not", empty=True
)
ORIGIN = Column("provenance", "integer", "row of the table provenance: what computed it", empty=True)

CONFIGURATIONS = Table(
    "configurations",
    "a configuration of the study, in any state",
    (
        STUDY,
        KEY,
        Column("position", "integer", "place in the order of the search, from 0"),
        PARAMETERS,
        Column("state", "text", "pending, running, finished, diverged, pruned or failed"),
        Column("value", "number", "the study's metric; finished ones only", empty=True),
        FIGURES,
        Column("seconds", "number", "time of the training", "s", empty=True),
        Column("errors", "integer", "attempts that ended in an exception"),
        Column("lapses", "integer", "attempts that were lost with their worker"),
        Column("claims", "integer", "how often a worker took it"),
        Column("started_at", "number", "when the last attempt began", _TIME, empty=True),
        Column("finished_at", "number", "when its result came", _TIME, empty=True),
        Column("worker", "text", "who took it last: host, process", empty=True),
        Column("reason", "text", "why it diverged, was pruned or failed", empty=True),
        Column("provenance", "text", "JSON: versions, commit, host, processor", empty=True),
    ),
)

CURVES = Table(
    "curves",
    "an epoch of a fold of a configuration that has a result",
    (STUDY, KEY, Column("fold", "integer", "from 0"), Column("epoch", "integer", "from 1"), POINTS),
)

SHORT = (CONFIGURATIONS, CURVES)
"""The short form: two tables of one study."""

FOLDS = Table(
    "folds",
    "a fold of a configuration that has a result",
    (STUDY, KEY, Column("fold", "integer", "from 0"), FINAL, DIVERGED),
)
ROUNDS = Table(
    "rounds",
    "a round of the final evaluation of a configuration, which need not be in the grid",
    (
        STUDY,
        KEY,
        Column("round", "integer", "from 0"),
        FINAL,
        DIVERGED,
        Column("seconds", "number", "its share of the time of the rounds trained together", "s"),
        Column("worker", "text", "who trained it: host, process", empty=True),
        Column("finished_at", "number", "when its result came", _TIME, empty=True),
        Column("facts", "text", "JSON: facts of the problem about the configuration"),
        ORIGIN,
    ),
)
ALL_CURVES = Table(
    "curves",
    "an epoch of a fold or a round, or of the mean over the folds of a configuration",
    (
        STUDY,
        KEY,
        Column("kind", "text", "fold, round or mean"),
        Column("run", "integer", "number of the fold or round, from 0; 0 for a mean"),
        Column("epoch", "integer", "from 1"),
        POINTS,
    ),
)
PROVENANCE = Table(
    "provenance",
    "a program on a machine that computed results",
    (
        Column("provenance", "integer", "its number, from 0"),
        Column("facts", "text", "JSON: versions, commit, host, processor, as far as they are known"),
    ),
)
STUDIES = Table(
    "studies",
    "a study, and how many rows of the other tables are its own",
    (
        STUDY,
        Column("definition", "text", "JSON: its definition"),
        Column("choices", "text", "JSON: the values of each parameter"),
        Column("problem", "text", "JSON: figures, version and data of its problem"),
        Column("configurations", "integer", "rows of the table of that name; so are the next three"),
        Column("folds", "integer", "rows"),
        Column("rounds", "integer", "rows"),
        Column("curves", "integer", "rows"),
    ),
)

FOLDER = (
    replace(CONFIGURATIONS, columns=(*CONFIGURATIONS.columns[:-1], ORIGIN)),
    FOLDS,
    ROUNDS,
    ALL_CURVES,
    PROVENANCE,
    STUDIES,
)
"""The tables of a folder, in which studies may be many; the last counts the rows of the others."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A table with columns for the parameters and figures of some studies in place of its placeholders.

    Args:
        choices: the values of each parameter.
        parameters: the name of the column of each parameter; `figures` likewise.
    """

    table: Table
    choices: Choices
    parameters: Mapping[str, str]
    figures: Mapping[str, str]

    @classmethod
    def of(cls, table: Table, choices: Choices, metrics: Mapping[str, Metric]) -> Columns:
        """Replace the placeholders of a table.

        A figure gets the prefix `figure:` if a fixed column has its name; a parameter gets `param:` if a fixed column
        or a figure's column has its name.
        """
        fixed = {column.name for column in table.columns}
        named = {name: f"figure:{name}" if name in fixed else name for name in metrics}
        taken = fixed | set(named.values())
        params = {name: f"param:{name}" if name in taken else name for name in choices}
        columns: list[Column] = []
        for column in table.columns:
            if column.name == PARAMETERS.name:
                for name, values in choices.items():
                    columns.append(Column(params[name], kind_of(values), "parameter", empty=True))
            elif column.name == FIGURES.name:
                for name, metric in metrics.items():
                    meaning = f"{metric.label or name}, {column.meaning}"
                    columns.append(Column(named[name], "number", meaning, metric.unit, empty=True))
            else:
                columns.append(column)
        return cls(replace(table, columns=tuple(columns)), choices, params, named)

    def point(self, params: Params) -> dict[str, Value | None]:
        """Return the cells of a configuration's parameters by column."""
        return {
            column: json.dumps(params[name])
            if name in params and mixed(self.choices[name])
            else params.get(name)
            for name, column in self.parameters.items()
        }

    def values(self, figures: Mapping[str, float | None]) -> dict[str, float | None]:
        """Return the cells of figures by column, None for a missing figure."""
        return {column: figures.get(name) for name, column in self.figures.items()}


def described(tables: Iterable[Table]) -> str:
    """Say what a row of each table is, one per line, for `--help`; the backspace keeps Click from joining the lines."""
    return "\n".join(["\b", *(f"{table.name}: a row is {table.row}." for table in tables)])
