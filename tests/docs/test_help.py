"""Every command explains itself, and ends in an example that works."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest
from program import COMMANDS, PROGRAM, USAGE_ERROR, parse
from typer.testing import CliRunner

from pairsearch.search.cli.app import app
from pairsearch.search.common.errors import ExitCode

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


@pytest.mark.parametrize("name", EVERY)
def test_what_stands_for_a_value_is_a_plain_word(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    usage, _, rest = shown.partition("\n")
    assert not set("<>{}") & set(usage)
    described = rest.partition("Options:")[2]
    for unwelcome in ("<", ">=", "2147483647", "INTEGER", "range"):
        assert unwelcome not in described.replace("postgresql://", "")


def test_bounds_read_as_words() -> None:
    shown = CliRunner().invoke(app, ["dashboard", "--help"], env={"COLUMNS": "200"}).output
    assert "--port PORT" in shown
    assert "[default: 8080; 1 to 65535]" in " ".join(shown.split())
    shown = CliRunner().invoke(app, ["best", "--help"], env={"COLUMNS": "200"}).output
    assert "[default: 10; at least 1]" in " ".join(shown.split())


def test_version_prints_name_and_version_without_loading_what_trains() -> None:
    code = (
        "import sys; from pairsearch.search.cli.app import app; app(['--version'], standalone_mode=False); "
    )
    code += "assert not {'torch', 'numpy', 'sqlalchemy', 'numba', 'rich'} & set(sys.modules); "
    code += "assert not [name for name in sys.modules if name.startswith('pairsearch.search.cli.commands.')]"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == f"pairsearch {importlib.metadata.version('pairsearch')}\n"


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
