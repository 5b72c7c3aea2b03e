"""The command line as Click sees it: commands, and arguments that are parsed and not run."""

from __future__ import annotations

import shlex
from typing import Any

import typer

from pairsearch.search.cli import group
from pairsearch.search.cli.app import app

PROGRAM: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = {one.name: one.load() for one in group.COMMANDS}
# Click's, wherever the installed Typer has it from.
USAGE_ERROR: Any = typer.BadParameter.__base__


def parse(line: str) -> str:
    """Parse a line that starts with `pairsearch`; the name of its command.

    Raises:
        USAGE_ERROR: an unknown command or option, a missing argument, a value of another type.
    """
    program, *words = shlex.split(line)
    assert program == "pairsearch", line
    with PROGRAM.make_context("pairsearch", words) as context:
        name, command, rest = PROGRAM.resolve_command(context, words)
        with command.make_context(name, rest, parent=context):
            return str(name)
