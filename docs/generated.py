"""The parts of the reference that are generated from the program.

A page marks a place by a line `<!-- generated: NAME -->`; `PARTS` says what each name stands for, and `conf` has Sphinx
read the page as if the text stood in it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import typer
import typer.cli
from pydantic import TypeAdapter
from sphinx.pycode import ModuleAnalyzer

from pairsearch.docs import shipped
from pairsearch.docs.shipped import markdown
from pairsearch.search.cli import options
from pairsearch.search.cli.app import app
from pairsearch.search.cli.group import COMMANDS
from pairsearch.search.common import provenance
from pairsearch.search.common.errors import ExitCode
from pairsearch.search.database.tables import metadata
from pairsearch.search.results.tables import FOLDER, SHORT, Table
from pairsearch.search.setup import storage_url
from pairsearch.studies import claims_file, definition, grid, model_card
from pairsearch.studies.command import settings as command
from pairsearch.studies.definition import LARGEST
from pairsearch.studies.estimator import settings as estimator
from pairsearch.studies.pairs import problem as pairs
from pairsearch.studies.pairs.settings import Settings
from pairsearch.studies.problem import Metric

VARIABLES: tuple[tuple[ModuleType, str], ...] = (
    (storage_url, "VARIABLE"),
    (storage_url, "FILE_VARIABLE"),
    (pairs, "DATA_VARIABLE"),
    (options, "STUDIES_VARIABLE"),
    (provenance, "COMMIT_VARIABLE"),
)
"""The constants that hold the names of the program's environment variables."""
TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}
LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def documented(owner: type | ModuleType) -> dict[str, str]:
    """The docstring below each assignment of a class or a module, by the assigned name, with its lines joined."""
    module, inside = (owner.__module__, owner.__name__) if isinstance(owner, type) else (owner.__name__, "")
    found = ModuleAnalyzer.for_module(module).find_attr_docs()
    return {name: " ".join(lines).strip() for (of, name), lines in found.items() if of == inside}


def commands() -> str:
    """Every command with its arguments and options, as Typer documents them."""
    program: Any = typer.main.get_command(app)
    parts = []
    with typer.Context(program, info_name="pairsearch") as context:
        for name, command in ((one.name, one.load()) for one in COMMANDS):
            inner: Any = typer.Context(command, info_name=name, parent=context)
            with inner:
                text = typer.cli.get_docs_for_click(
                    obj=command, ctx=inner, name=name, call_prefix="pairsearch"
                )
            # Columns of exports are indented in the terminal's help; they stand on a page of their own.
            text = re.sub(r"\n+STUDY-\w+: a row is .*(?:\n  .*)+", "", text)
            text = re.sub(r"^\* `--help`.*\n", "", text, flags=re.MULTILINE)
            text = re.sub(r"^Example: (.*)$", r"Example: `\1`", text, flags=re.MULTILINE)
            parts.append(re.sub(r"^#+ .*$", f"## pairsearch {name}", text, count=1, flags=re.MULTILINE))
    return "\n\n".join(part.strip() for part in parts)


def command_list() -> str:
    """What each command does, in a line, with a link to its section."""
    rows = [[f"[`{one.name}`](#pairsearch-{one.name})", one.does] for one in COMMANDS]
    return markdown(["command", "does"], rows)


def exit_codes() -> str:
    """The exit codes with their names and meanings."""
    meaning = documented(ExitCode)
    rows = [[str(code.value), code.name.lower().replace("_", " "), meaning[code.name]] for code in ExitCode]
    return markdown(["exit code", "name", "meaning"], rows)


def environment() -> str:
    """The environment variables that the program itself reads."""
    rows = [[f"`{getattr(module, name)}`", documented(module)[name]] for module, name in VARIABLES]
    return markdown(["variable", "meaning"], rows)


def _kind(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows, for people; tables of their own link to their section."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "table, or several" if name == "Grid" else f"[table](#{name.lower()})"
    if "items" in schema:
        return f"list of {_several(_kind(schema['items']))}"
    if alternatives := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(_kind(one) for one in alternatives if one.get("type") != "null")
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{one}`" for one in values)
    if schema.get("type") == "object":
        # Those by name stand under a pattern where names have a form.
        (inner,) = schema.get("patternProperties", {"": schema.get("additionalProperties")}).values()
        return f"table of {_several(_kind(inner))}" if isinstance(inner, dict) and inner else "table"
    # The limits that nobody could meet are left out.
    limits = [
        f"{word} {schema[name]:g}" for name, word in LIMITS.items() if schema.get(name, LARGEST) < LARGEST
    ]
    return ", ".join([TYPES.get(schema.get("type", ""), "any"), *limits])


def _several(kind: str) -> str:
    """The plural of a kind."""
    return kind.replace("[table]", "[tables]") if "[table]" in kind else f"{kind}s".replace("anys", "values")


def _default(value: Any) -> str:
    if value in (None, "", []) or isinstance(value, dict):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def fields(model: type) -> str:
    """The fields of a table of TOML: types, defaults and the docstrings of the model."""
    meaning = {
        name: text
        for owner in reversed(model.__mro__)
        if owner.__module__.startswith("pairsearch.")
        for name, text in documented(owner).items()
    }
    schema = TypeAdapter(model).json_schema()
    needed = schema.get("required", ())
    rows = [
        [
            f"`{name}`",
            _kind(field),
            "required" if name in needed else _default(field.get("default")),
            meaning.get(name, ""),
        ]
        for name, field in schema["properties"].items()
    ]
    return markdown(["field", "type", "default", "meaning"], rows)


def model_section(model: type, title: str) -> str:
    """A section about a table of TOML."""
    about = inspect.cleandoc(model.__doc__ or "")
    return "\n\n".join([f"({model.__name__.lower()})=", f"## {title}", about, fields(model)])


def definition_fields() -> str:
    """The fields of a definition and of the tables in it."""
    parts = [
        fields(definition.Definition),
        "## `[grid]`",
        inspect.cleandoc(grid.Grid.__doc__ or ""),
        model_section(definition.Evaluation, "`[evaluation]`"),
        model_section(Metric, "`[metrics]`: `NAME = { … }`"),
        model_section(definition.Paper, "`[paper]`"),
        model_section(definition.Stated, "`[paper.figures]`: `NAME = { … }`"),
    ]
    return "\n\n".join(parts)


def claims_fields() -> str:
    """The fields of a claims file and of the tables in it."""
    parts = [
        fields(claims_file.Claims),
        model_section(claims_file.Claim, "`[[claim]]`"),
        *(
            model_section(kind, f'`[[claim.evidence]]`, `kind = "{name}"`')
            for kind, name in (
                (claims_file.Compare, "compare"),
                (claims_file.Effect, "effect"),
                (claims_file.Reaches, "reaches"),
                (claims_file.InSet, "in_set"),
            )
        ),
        model_section(claims_file.Choice, "A configuration"),
    ]
    return "\n\n".join(parts)


def columns(tables: Iterable[Table], name: str) -> str:
    """The columns of the tables of an export, and what each table is called."""
    parts = []
    for table in tables:
        rows = [[f"`{column.name}`", column.kind, column.unit, column.meaning] for column in table.columns]
        parts += [
            f"## `{name.format(table.name)}`",
            f"A row is {table.row}.",
            markdown(["column", "type", "unit", "meaning"], rows),
        ]
    return "\n\n".join(parts)


def database() -> str:
    """The tables of the database with their columns."""
    parts = []
    for table in metadata.sorted_tables:
        rows = [
            [f"`{column.name}`", str(column.type), "" if column.nullable else "yes", column.doc or ""]
            for column in table.columns
        ]
        parts += [
            f"## `{table.name}`",
            table.info["about"],
            markdown(["column", "type", "never null", "meaning"], rows),
        ]
    return "\n\n".join(parts)


PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "command-list": command_list,
    "exit-codes": exit_codes,
    "environment": environment,
    "definition": definition_fields,
    "pairs": lambda: fields(Settings),
    "estimator": lambda: fields(estimator.Settings),
    "command": lambda: fields(command.Settings),
    "claims-file": claims_fields,
    "model-card": lambda: fields(model_card.ModelCard),
    "exports": lambda: columns(FOLDER, "{}.parquet"),
    "short-exports": lambda: columns(SHORT, "STUDY-{}"),
    "comparisons": shipped.comparisons,
    "database": database,
}
