"""The command `dashboard`."""

from __future__ import annotations

from typing import Annotated

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.streams import say
from pairsearch.search.common.errors import InputError
from pairsearch.search.setup import opening


def dashboard(
    storage: options.Storage = options.DEFAULT_STORAGE,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on. Anybody who reaches it can delete studies."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=1, max=65535, help="TCP port.")] = 8080,
) -> None:
    try:
        from optuna_dashboard import run_server  # noqa: PLC0415 - an extra, which may not be installed
    except ImportError:
        raise InputError("optuna-dashboard is not installed: pip install 'pairsearch[dashboard]'") from None
    opened = opening.open_optuna(storage)
    say(f"optuna-dashboard on http://{host}:{port}/ (Ctrl-C ends it)")
    try:
        run_server(opened, host=host, port=port)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port} ({error.strerror or error}): name another --port"
        ) from None
