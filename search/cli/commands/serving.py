"""The commands `dashboard` and `doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from pairsearch.search.cli.terminal import (
    DEFAULT_STORAGE,
    AsJson,
    DataDir,
    DataKind,
    Device,
    Set,
    SomeStudies,
    Storage,
    machine,
    say,
    show_checks,
)


def dashboard(
    storage: Storage = DEFAULT_STORAGE,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on. Anybody who reaches it can delete studies."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=1, max=65535, help="TCP port.")] = 8080,
) -> None:
    """Serve optuna-dashboard on the same database, on this machine only."""
    from pairsearch.search.database.connection import open_database
    from pairsearch.search.errors import InputError
    from pairsearch.search.mirror.trials import open_storage

    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise InputError("optuna-dashboard is not installed: pip install 'pairsearch[dashboard]'") from None
    database = open_database(storage)
    say(f"optuna-dashboard on http://{host}:{port}/ (Ctrl-C ends it)")
    try:
        run_server(open_storage(database), host=host, port=port)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port} ({error.strerror or error}): name another --port"
        ) from None


def doctor(
    study: SomeStudies = None,
    storage: Storage = DEFAULT_STORAGE,
    setting: Set = None,
    data: DataKind = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Check versions, database, memory and threads, and what the problems of studies need; exits 1 if it is missing.

    A problem is loaded as by a worker, which may download its data. Code of your own is run if you name its .toml file.
    """
    from pairsearch.search.cli.doctor import examine

    here = machine(setting, data, data_dir, device=device)
    show_checks(examine(storage, study or [], here), as_json=as_json)
