"""The commands. Each imports what it needs when it runs: looking at a database must start at once."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search import threads
from search.errors import ExitCode
from search.terminal import (
    DEFAULT_STORAGE,
    AsJson,
    Boundary,
    DataDir,
    DataKind,
    Device,
    Lease,
    Limit,
    SomeStudies,
    Storage,
    Studies,
    console,
    print_json,
    say,
)

if TYPE_CHECKING:
    from search.database import Database
    from search.session import DataChoice

app = typer.Typer(
    cls=Boundary,
    name="pairsearch",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search the complete hyperparameter grid of Poulsen & Chambras' four models, each configuration exactly "
    "once, and re-evaluate the best on ten seeds.\n\n"
    "Exit codes: 0 done, 1 work failed, 2 usage or bad input, 130 interrupted.",
    epilog="Example: pairsearch run b1 ws --workers 2",
)


@app.command(epilog="Example: pairsearch studies")
def studies(storage: Storage = DEFAULT_STORAGE, as_json: AsJson = False) -> None:
    """List the shipped definitions, and the studies in the database with their progress."""
    from rich.table import Table

    from search import present, views
    from search.catalogue import list_studies
    from studies.definition import read, shipped

    known = [read(path) for path in shipped().values()]
    database = _open_if_there(storage)
    stored = [] if database is None else [views.progress(database, study) for study in list_studies(database)]
    if as_json:
        definitions = [
            d.model_dump(mode="json") | {"configurations": len(d.grid.configurations())} for d in known
        ]
        print_json({"shipped": definitions, "database": [present.progress_json(p) for p in stored]})
        return
    table = Table(title="definitions shipped with pairsearch", title_justify="left")
    for name in ("study", "title", "protocol"):
        table.add_column(name)
    table.add_column("configurations", justify="right")
    for definition in known:
        protocol = f"{definition.protocol}, {definition.folds} folds, {definition.epochs} epochs"
        count = str(len(definition.grid.configurations()))
        table.add_row(definition.name, definition.title, protocol, count)
    screen = console()
    screen.print(table)
    if database is None:
        screen.print("no studies in the database yet: `pairsearch create` makes them", markup=False)
    else:
        screen.print(present.progress_table(stored, title=f"studies in {database.label}"))


@app.command(epilog="Example: pairsearch create b1 b2 ws wsal")
def create(
    study: Studies, storage: Storage = DEFAULT_STORAGE, data: DataKind = None, data_dir: DataDir = None
) -> None:
    """Create studies and lay out their grids; run again, it changes nothing more."""
    from search import session
    from search.database import open_database

    database = open_database(storage, create=True)
    definitions = session.definitions_of(database, study)
    source, _ = session.load_source(database, definitions, _choice(data, data_dir), say)
    for creation in session.create_all(database, definitions, source):
        what = "created" if creation.created else "was there"
        say(f"{creation.study.name}: {what}, {creation.laid_out} configurations laid out")


@app.command(epilog="Example: pairsearch worker b1 --max-trials 10")
def worker(
    study: Studies,
    storage: Storage = DEFAULT_STORAGE,
    data: DataKind = None,
    data_dir: DataDir = None,
    max_trials: Annotated[
        int | None, typer.Option(min=1, help="End after so many.", show_default="no end")
    ] = None,
    limit: Limit = None,
    device: Device = "cpu",
    lease: Lease = 60.0,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a database that is away.")
    ] = 300.0,
) -> None:
    """Be one worker: claim configurations until none is left. SIGTERM hands the current one back and exits 0."""
    from search import service, session
    from search.database import open_database
    from search.worker import signals

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    stopping = threading.Event()
    with signals(stopping) as caught:
        database = open_database(storage)
        definitions = session.definitions_of(database, study)
        source, _ = session.load_source(database, definitions, _choice(data, data_dir), say)
        tally = service.work(
            database,
            session.existing(database, definitions, source),
            source,
            service.WorkerOptions(limit, max_trials, device, lease, patience),
            stopping,
            say,
        )
    say(
        f"worker ends: {tally.finished} finished, {tally.handed_back} handed back, {tally.superseded} superseded, "
        f"{tally.failed} failed"
    )
    if signal.SIGINT in caught:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if tally.failed:
        raise typer.Exit(ExitCode.WORK_FAILED)


@app.command(epilog="Example: pairsearch run b1 ws --workers 2 --limit 20")
def run(
    study: Studies,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes; one core each.")] = 1,
    storage: Storage = DEFAULT_STORAGE,
    data: DataKind = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    device: Device = "cpu",
    lease: Lease = 60.0,
) -> None:
    """Create studies, run worker processes over them with live progress, and print the best."""
    from search import present, views
    from search.catalogue import get_study
    from search.database import open_database

    database = open_database(storage, create=True)
    names = _search(database, study, workers, data, data_dir, limit, device, lease)
    screen = console()
    for name in names:
        found = get_study(database, name)
        screen.print(
            present.ranked_table(name, found.definition.metric, views.best(database, found, 5, limit))
        )


@app.command(epilog="Example: pairsearch status b1 --json")
def status(study: SomeStudies = None, storage: Storage = DEFAULT_STORAGE, as_json: AsJson = False) -> None:
    """Show how far studies are; also frees the configurations of workers that fell silent."""
    from search import present, views
    from search.catalogue import get_study, list_studies
    from search.database import open_database
    from search.errors import StorageError
    from search.ledger import Ledger

    database = open_database(storage)
    chosen = [get_study(database, name) for name in study] if study else list_studies(database)
    for found in chosen:
        try:
            Ledger(database, found.id).reap()
        except StorageError:
            break  # a database that may only be read can still be looked at
    progresses = [views.progress(database, found) for found in chosen]
    if as_json:
        print_json([present.progress_json(progress) for progress in progresses])
        return
    screen = console()
    screen.print(present.progress_table(progresses))
    for progress in progresses:
        for key, reason in progress.failures.items():
            screen.print(f"{progress.study}: failed: {key}: {reason}", markup=False, soft_wrap=True)


@app.command(epilog="Example: pairsearch best wsal --top 5")
def best(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study in the database.")],
    top: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show the best configurations of a study."""
    from search import present, views
    from search.catalogue import get_study
    from search.database import open_database

    database = open_database(storage)
    found = get_study(database, study)
    ranked = views.best(database, found, top)
    if as_json:
        print_json([present.ranked_json(entry) for entry in ranked])
    elif ranked:
        console().print(present.ranked_table(found.name, found.definition.metric, ranked))
    else:
        say(f"{found.name}: no configuration is finished yet")


@app.command(epilog="Example: pairsearch evaluate b1 b2 ws wsal --paper")
def evaluate(
    study: Studies,
    top: Annotated[int, typer.Option(min=1, help="How many of the best configurations of each study.")] = 1,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="Rounds for each configuration.", show_default="the definition's, 10"),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="The configurations of the paper's Table 1 instead.")
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
    data: DataKind = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train the best configurations afresh, ten rounds each, and print Table 1; finished rounds are kept."""
    from search.database import open_database

    database = open_database(storage, create=paper)
    _evaluate(database, study, top, rounds, paper, data, data_dir, device, as_json)


@app.command(epilog="Example: pairsearch reproduce --quick")
def reproduce(
    quick: Annotated[
        bool, typer.Option("--quick", help="A slice of each grid, with the paper's configuration in it.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes.", show_default="the cores")
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    data: DataKind = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
) -> None:
    """The main job: search the paper's four studies, evaluate the best of each, print Table 1."""
    from search.database import open_database
    from search.reproduce import QUICK_LIMIT, study_names

    database = open_database(storage, create=True)
    limit = QUICK_LIMIT if quick else None
    names = study_names()
    _search(database, names, workers or threads.cores(), data, data_dir, limit, device, 60.0)
    _evaluate(database, names, 1, None, False, None, data_dir, device, False, limit)


@app.command(epilog="Example: pairsearch dashboard --port 8080")
def dashboard(
    storage: Storage = DEFAULT_STORAGE,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Anybody who reaches it can delete studies.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 8080,
) -> None:
    """Serve optuna-dashboard on the same database, on this machine only."""
    from search.database import open_database
    from search.errors import InputError
    from search.trials import open_storage

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


@app.command(epilog="Example: pairsearch doctor")
def doctor(
    storage: Storage = DEFAULT_STORAGE,
    data: DataKind = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Check database, data, versions, threads and compiled kernels; exits 1 if something is wrong."""
    from search.doctor import examine

    checks = []
    for check in examine(storage, _choice(data, data_dir)):
        checks.append(check)
        if not as_json:
            mark = {None: "    ", True: "ok  ", False: "FAIL"}[check.good]
            console().print(
                f"{mark} {check.name}: {check.finding}", markup=False, highlight=False, soft_wrap=True
            )
    if as_json:
        print_json([{"check": check.name, "good": check.good, "finding": check.finding} for check in checks])
    if any(check.good is False for check in checks):
        raise typer.Exit(ExitCode.WORK_FAILED)


def main() -> None:
    """Entry point of the `pairsearch` program."""
    threads.limit()
    app(prog_name="pairsearch")


def _search(
    database: Database,
    given: list[str],
    workers: int,
    data: str | None,
    data_dir: Path | None,
    limit: int | None,
    device: str,
    lease: float,
) -> list[str]:
    """Create the studies and run workers over them; their names."""
    from search import service, session

    definitions = session.definitions_of(database, given)
    source, kind = session.load_source(database, definitions, _choice(data, data_dir), say)
    stored = [creation.study for creation in session.create_all(database, definitions, source)]
    arguments = [*given, "--data", kind, "--device", device, "--lease", str(lease)]
    if data_dir is not None:
        arguments += ["--data-dir", str(data_dir)]
    if limit is not None:
        arguments += ["--limit", str(limit)]
    try:
        service.search(database, stored, arguments, workers, console(), limit)
    except KeyboardInterrupt:
        session.reconcile(database, stored)
        raise
    return [study.name for study in stored]


def _evaluate(
    database: Database,
    given: list[str],
    top: int,
    rounds: int | None,
    paper: bool,
    data: str | None,
    data_dir: Path | None,
    device: str,
    as_json: bool,
    limit: int | None = None,
) -> None:
    from search import present, service, session
    from search.worker import signals

    definitions = session.definitions_of(database, given)
    source, _ = session.load_source(database, definitions, _choice(data, data_dir), say)
    if paper:
        session.create_all(database, definitions, source)
    stored = session.existing(database, definitions, source)
    # All that can be refused is refused before anything is trained.
    chosen = [
        (study, service.configurations_to_evaluate(database, study, top=top, paper=paper, limit=limit))
        for study in stored
    ]
    stopping = threading.Event()
    with signals(stopping):
        rows = service.evaluate_studies(
            database,
            chosen,
            source,
            rounds=rounds,
            device=device,
            threads=threads.cores(),
            stopping=stopping,
            console=console(error=as_json),
        )
    if as_json:
        print_json(present.table_1_json(rows))
    else:
        console().print(present.table_1(rows))


def _choice(kind: str | None, folder: Path | None) -> DataChoice:
    from search.session import DataChoice

    return DataChoice(kind, folder)


def _open_if_there(storage: str) -> Database | None:
    from search.database import Database, open_database

    file = Database(storage).file
    return None if file is not None and not file.exists() else open_database(storage)
