"""Every command explains itself, and ends in an example that works."""

from __future__ import annotations

import pytest
from program import COMMANDS, PROGRAM, USAGE_ERROR, parse
from typer.testing import CliRunner

from search.cli import app
from search.errors import ExitCode

EVERY = sorted(COMMANDS)


@pytest.mark.parametrize("name", EVERY)
def test_help_says_what_the_command_does_and_ends_in_an_example_that_parses(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == ExitCode.DONE
    assert COMMANDS[name].help
    last = shown.output.strip().splitlines()[-1].strip()
    assert last.startswith("Example: ")
    assert parse(last.removeprefix("Example: ")) == name


def test_the_help_of_the_program_ends_in_an_example_that_parses() -> None:
    parse(PROGRAM.epilog.removeprefix("Example: "))


@pytest.mark.parametrize("name", EVERY)
def test_every_option_and_argument_is_explained(name: str) -> None:
    assert [parameter.name for parameter in COMMANDS[name].params if not parameter.help] == []


def test_the_exit_codes_are_in_the_help_of_the_program() -> None:
    codes = ", ".join(f"{code.value} " for code in ExitCode)
    for code in codes.split(", "):
        assert code in PROGRAM.help.partition("Exit codes:")[2]


@pytest.mark.parametrize(
    "line",
    ["pairsearch nonsense", "pairsearch run", "pairsearch run b1 --nonsense", "pairsearch best ws --top 0"],
)
def test_what_the_documentation_tests_parse_with_finds_mistakes(line: str) -> None:
    with pytest.raises(USAGE_ERROR):
        parse(line)
