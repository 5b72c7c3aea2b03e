"""The program `pairsearch`: its commands in the order of the help, each with an example."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from pairsearch.search import redaction, threads
from pairsearch.search.cli import streams
from pairsearch.search.cli.commands import (
    checking,
    claiming,
    deploying,
    evaluating,
    exporting,
    looking,
    predicting,
    replaying,
    reporting,
    searching,
    serving,
)
from pairsearch.search.cli.plain_help import Command
from pairsearch.search.cli.terminal import Boundary, say, say_error
from pairsearch.search.errors import ExitCode

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

COMMANDS = (
    (looking.studies, "pairsearch studies"),
    (checking.check, "pairsearch check wsal --workers 4"),
    (searching.create, "pairsearch create b1 b2 ws wsal"),
    (searching.worker, "pairsearch worker b1 --max-trials 10"),
    (searching.run, "pairsearch run b1 ws --workers 2 --limit 20"),
    (looking.status, "pairsearch status b1 --json"),
    (searching.retry, "pairsearch retry wsal"),
    (looking.best, "pairsearch best wsal --top 5"),
    (evaluating.evaluate, "pairsearch evaluate b1 b2 ws wsal --paper"),
    (claiming.claims, "pairsearch claims paper --stored"),
    (predicting.predict, "pairsearch predict MODEL.safetensors first.png second.png"),
    (searching.reproduce, "pairsearch reproduce --quick"),
    (replaying.replay, "pairsearch replay wsal --sampler random"),
    (reporting.report, "pairsearch report b1 b2 ws wsal"),
    (exporting.export, "pairsearch export wsal --out wsal-tables"),
    (exporting.load, "pairsearch load paper"),
    (serving.dashboard, "pairsearch dashboard --port 8080"),
    (deploying.deploy, "pairsearch deploy --out pairsearch-deploy"),
    (serving.doctor, "pairsearch doctor"),
)


def version(wanted: bool) -> None:
    """Print name and version, and exit."""
    if wanted:
        from pairsearch.search.provenance import package_version  # noqa: PLC0415

        say(f"pairsearch {package_version('pairsearch')}")
        raise typer.Exit


@app.callback()
def program(
    _: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print name and version.")
    ] = False,
) -> None:
    """Take the options before the command."""


for command, example in COMMANDS:
    app.command(cls=Command, epilog=f"Example: {example}")(command)


def main() -> None:
    """Run the program. A bug keeps its traceback, with passwords masked."""
    threads.limit()
    # Most objects that imports create live to the end; collecting garbage every 700 objects took a sixth of the start.
    gc.set_threshold(50_000)
    redaction.install()
    streams.install()
    try:
        app(prog_name="pairsearch")
    except streams.OutputError as error:  # from printing help, which happens outside of `Boundary.invoke`
        say_error(str(error))
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        redaction.report(error)
        raise SystemExit(ExitCode.WORK_FAILED) from None
