"""What the commands share: options, output, and the boundary where errors become a line and an exit code."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from data.errors import DataError
from search.errors import ExitCode, PairsearchError
from studies.errors import DefinitionError

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_STORAGE = "sqlite:///pairsearch.db"


class Boundary(TyperGroup):
    """Turns our errors into one line and a named exit code; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say_error("interrupted: what was finished is stored, run the command again to go on")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except PairsearchError as error:
            say_error(str(error))
            raise typer.Exit(error.exit_code) from None
        except (DataError, DefinitionError) as error:
            say_error(str(error))
            raise typer.Exit(ExitCode.BAD_INPUT) from None


Studies = Annotated[
    list[str],
    typer.Argument(
        metavar="STUDY", help="A shipped study (b1, b2, ws, wsal), one in the database, or a .toml file."
    ),
]
SomeStudies = Annotated[
    list[str] | None, typer.Argument(metavar="STUDY", help="All in the database if left out.")
]
Storage = Annotated[
    str,
    typer.Option(
        "--storage",
        envvar="PAIRSEARCH_STORAGE",
        show_envvar=True,
        help="Database URL: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE. Process lists show options: "
        "put a password into the environment variable.",
    ),
]
DataKind = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="mnist, digits, or auto: mnist where it is there or can be downloaded, else digits.",
        show_default="what the study is bound to, mnist for a new one",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="PAIRSEARCH_DATA",
        show_envvar=True,
        help="torchvision root of MNIST.",
        show_default="a folder for this user",
    ),
]
Device = Annotated[str, typer.Option("--device", help="PyTorch device to train on: cpu, cuda, cuda:1 ...")]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="Only the first N configurations of each study's order.", show_default="all"
    ),
]
Lease = Annotated[
    float, typer.Option("--lease", min=1, help="Seconds after which a silent worker's configuration is free.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def console(*, error: bool = False) -> Console:
    """Where people read: standard output, or standard error where that is kept for JSON."""
    from rich.console import Console  # noqa: PLC0415 - only when something is shown

    # A log or a pipe has no width of its own; tables must not be cut there.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    return Console(stderr=error, width=width)


def print_json(value: Any) -> None:
    """Print for programs."""
    typer.echo(json.dumps(value, indent=2))


def say(line: str) -> None:
    """Print a line as it is."""
    typer.echo(line)


def say_error(line: str) -> None:
    """Print an error."""
    # One line, whatever is in it: control characters and undecodable bytes are shown, not sent to the terminal.
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    typer.echo(f"error: {clean}", err=True)
