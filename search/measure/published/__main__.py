"""Publishes a finished database, or checks published results: `python -m pairsearch.search.measure.published`.

Examples:

    python -m pairsearch.search.measure.published --write studies/results --storage sqlite:///pairsearch.db
    python -m pairsearch.search.measure.published --write studies/results --claims paper
    python -m pairsearch.search.measure.published --check 20
"""

# Thread pools are limited before the imports that create them.
# ruff: noqa: E402

from __future__ import annotations

from pairsearch.search import machine, threads

threads.limit()

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pairsearch.search import redaction
from pairsearch.search.cli.reproduce import study_names
from pairsearch.search.cli.terminal import (
    DEFAULT_STORAGE,
    LARGEST,
    Boundary,
    DataDir,
    Set,
    Storage,
    say,
    say_error,
)
from pairsearch.search.cli.terminal import machine as to_machine
from pairsearch.search.database.connection import open_database
from pairsearch.search.errors import ExitCode, InputError
from pairsearch.search.measure.published.checking import check
from pairsearch.search.measure.published.claims import write_claims
from pairsearch.search.measure.published.reading import read
from pairsearch.search.measure.published.writing import write
from pairsearch.search.results import published as results

app = typer.Typer(
    cls=Boundary,
    add_completion=False,
    invoke_without_command=True,
    subcommand_metavar="",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Example: python -m pairsearch.search.measure.published --check 20",
)


@app.callback()
def published(
    folder: Annotated[
        Path | None, typer.Option("--write", help="Write the studies of the database into this folder.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--check",
            min=1,
            max=LARGEST,
            help="Train so many published configurations again, and two rounds, and demand the same bits.",
        ),
    ] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(help="A study to write. Repeat it for several.", show_default="the paper's four"),
    ] = None,
    claims: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write these claims, decided, and the rounds behind them instead: a file, or `paper`.",
        ),
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the random sample to check.", show_default="another each time"),
    ] = None,
    folder_to_check: Annotated[
        Path, typer.Option("--results", help="Folder of the results to check.", show_default="those shipped")
    ] = results.DEFAULT,
    settings: Set = None,
    data_dir: DataDir = None,
) -> None:
    """Write the results of complete studies as Parquet tables, or train a sample of published ones again.

    A check exits with 0 if every bit is the same, with 1 if one differs, and with 2 if it cannot be made here.
    """
    if (folder is None) == (count is None):
        raise InputError("give either --write FOLDER or --check N")
    if claims is not None and (folder is None or study):
        raise InputError("--claims goes with --write FOLDER, and without --study")
    if folder is not None and claims is not None:
        for path in write_claims(open_database(storage), claims, folder):
            say(f"{path}: {path.stat().st_size:,} bytes")
    elif folder is not None:
        for path in write(read(open_database(storage), study or study_names()), folder):
            say(f"{path}: {path.stat().st_size:,} bytes")
    if count is not None:
        try:
            options = to_machine(settings, None, data_dir).settings
            _check(folder_to_check, options, count, secrets.randbelow(2**32) if seed is None else seed)
        except KeyboardInterrupt:
            say_error("interrupted: what was not trained again is not checked")
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def _check(folder: Path, options: Mapping[str, str], count: int, seed: int) -> None:
    findings = []
    for finding in check(folder, options, count, seed, machine.cores()):
        say(finding.line)
        findings.append(finding)
    others = sum(not finding.same for finding in findings)
    say(f"seed {seed}: {len(findings)} trained again, {others or 'none'} with other bits")
    if others:
        raise typer.Exit(ExitCode.WORK_FAILED)


if __name__ == "__main__":
    redaction.install()
    app(prog_name="python -m pairsearch.search.measure.published")
