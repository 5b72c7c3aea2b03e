"""The reference is complete: what the program has is described, and described in words."""

from __future__ import annotations

import re

import pytest
from pages import DOCS, ROOT, rows
from program import COMMANDS

import pairsearch
from pairsearch.docs.generated import PARTS
from pairsearch.search.cli.options import DEFAULT_STORAGE
from pairsearch.search.common.errors import ExitCode


@pytest.mark.parametrize("part", sorted(PARTS.keys() - {"commands"}))
def test_everything_in_a_table_of_the_reference_has_a_meaning(part: str) -> None:
    tables = re.findall(r"^\|.*\|\n\|[- |]+\|\n((?:\|.*\n?)+)", PARTS[part](), re.MULTILINE)
    assert tables
    # An id needs no words.
    lines = [line for table in tables for line in table.splitlines() if not line.startswith("| `id` ")]
    assert [line for line in lines if re.search(r"\|\s*\|$", line)] == []


def test_every_command_and_option_is_described() -> None:
    text = PARTS["commands"]()
    assert re.findall(r"^## pairsearch (\w+)$", text, re.MULTILINE) == list(COMMANDS)
    for name, command in COMMANDS.items():
        section = text.partition(f"## pairsearch {name}\n")[2].partition("\n## ")[0]
        assert command.epilog.removeprefix("Example: ") in section
        shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
        options = {option for one in shown for option in one.opts if option.startswith("--")}
        assert [option for option in options if f"`{option}" not in section] == []
    assert f"default: {DEFAULT_STORAGE}]" in text


def test_every_environment_variable_of_the_program_is_described_and_so_it_is_in_the_example_file() -> None:
    # Those of options, and those that modules read by themselves.
    program = {parameter.envvar for command in COMMANDS.values() for parameter in command.params} - {None}
    for room in ("search", "studies"):
        for module in (ROOT / room).rglob("*.py"):
            program |= set(re.findall(r'"(PAIRSEARCH_\w+)"', module.read_text(encoding="utf-8")))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert {row[0].strip("`") for row in rows(PARTS["environment"](), "variable")} == program
    assert set(re.findall(r"PAIRSEARCH_\w+", example)) == program


def test_every_exit_code_is_described() -> None:
    assert [int(row[0]) for row in rows(PARTS["exit-codes"](), "exit code")] == list(ExitCode)


def test_every_public_name_is_described() -> None:
    page = (DOCS / "reference/python.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\.\. auto\w+:: (\w+)(?:\(\))?$", page, re.MULTILINE)) == set(pairsearch.__all__)


def test_the_settings_of_the_compose_file_are_named() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    page = (DOCS / "how-to/compose.md").read_text(encoding="utf-8")
    named = re.search(r"lists\s+the\s+settings\s+\(([^)]*)\)", page)
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
