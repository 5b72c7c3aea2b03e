"""The program `pairsearch`."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from pairsearch.search.cli import streams
from pairsearch.search.cli.group import Boundary
from pairsearch.search.common import redaction, threads
from pairsearch.search.common.errors import ExitCode
from pairsearch.search.common.provenance import package_version

app = typer.Typer(
    cls=Boundary,
    name="pairsearch",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search the complete grid of a study's hyperparameters, each configuration exactly once however many workers "
    "die, judge how sure the best is, and evaluate it afresh on ten seeds.\n\n"
    "Exit codes: 0 done, 1 work failed, 2 usage or bad input, 130 interrupted, 141 output closed.",
    epilog="Example: pairsearch run b1 ws --workers 2",
)


def version(wanted: bool) -> None:
    """Print name and version, and exit."""
    if wanted:
        streams.say(f"pairsearch {package_version('pairsearch')}")
        raise typer.Exit


@app.callback()
def program(
    _: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print name and version.")
    ] = False,
) -> None:
    """Take the options before the command."""


def main() -> None:
    """Run the program."""
    threads.limit()
    # Most objects that imports create live to the end; collecting garbage every 700 objects took a sixth of the start.
    gc.set_threshold(50_000)
    # As Python ends it would look through all of them twice for garbage, a quarter of the time of a start with PyTorch.
    atexit.register(gc.freeze)
    redaction.install()
    streams.install()
    obey(sys.argv[1:])


def obey(words: Sequence[str]) -> None:
    """Run the words of a command line. A bug keeps its traceback, with passwords masked."""
    try:
        app(words, prog_name="pairsearch")
    except streams.OutputError as error:  # from printing help, which happens outside of `Boundary.invoke`
        streams.say_error(str(error))
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        redaction.report(error)
        raise SystemExit(ExitCode.WORK_FAILED) from None
