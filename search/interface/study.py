"""Studies in a database: creating, opening and listing them, and what can be asked of one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from pairsearch.search.common.errors import InputError
from pairsearch.search.common.files import shared_folder
from pairsearch.search.common.gpus import places, take_first
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import Database
from pairsearch.search.engines.contract import engine_named
from pairsearch.search.engines.executor import Executed
from pairsearch.search.engines.fleet import search_on
from pairsearch.search.engines.orders import Cluster, order_for
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.report.content import Document, view_names
from pairsearch.search.report.document import compose_stored
from pairsearch.search.report.page import write
from pairsearch.search.results.chosen_figures import Choice, choice
from pairsearch.search.results.evaluations import By, Evaluated
from pairsearch.search.results.export import read_table
from pairsearch.search.results.fold_figures import read_unjudged
from pairsearch.search.results.progress import Progress, read_progress
from pairsearch.search.results.ranking import Ranked, read_best
from pairsearch.search.results.tables import CONFIGURATIONS, CURVES
from pairsearch.search.setup import opening
from pairsearch.search.setup.arguments import StudyArgument, look_up
from pairsearch.search.setup.storage_url import environment_storage
from pairsearch.search.tracking.exporting import Exported, Target, export
from pairsearch.search.verdict.study_verdict import StudyVerdict, verdict_on
from pairsearch.search.workers.evaluating import Evaluator, choose, evaluate
from pairsearch.search.workers.models import ModelFolder, write_stored
from pairsearch.search.workers.searching import search
from pairsearch.studies.definition import Definition
from pairsearch.studies.loading import Loaded

if TYPE_CHECKING:
    import plotly.graph_objects as go


def create(study: str | Path, *, storage: str | None = None, **settings: object) -> Study:
    """Create a study and insert its grid, or open the study if it exists.

    If the definition's grid has grown since, the new configurations are inserted. The database is created if it does
    not exist.

    Args:
        study: the name of a shipped definition or of a study in the database, or the path of a `.toml` file.
        storage: the database URL; None for PAIRSEARCH_STORAGE, PAIRSEARCH_STORAGE_FILE or `sqlite:///pairsearch.db`.
        **settings: settings of this machine for the problem, like `--set`: for the paper's studies `data` and
            `data_dir`, for example.

    Returns:
        The study. Use it in a `with` statement, or call `close` at the end.

    Raises:
        Error: the study differs from the one in the database, or the database cannot be opened. Nothing was created.
        DefinitionError: the definition or its problem cannot be used. Nothing was created.

    Example::

        with pairsearch.create("wine.toml", storage="sqlite:///wine.db") as study:
            study.run()
    """
    machine = machine_with(settings)
    checked = opening.check(storage or environment_storage(), [str(study)], machine)
    checked.create()
    return Study(checked.database, checked.given[0], machine)


def open(study: str | Path, *, storage: str | None = None, **settings: object) -> Study:
    """Open a study in the database; nothing is created.

    Args:
        study: the name of the study, or the path of its `.toml` file. `run` and `evaluate` need the path if the problem
            is a file of your own.
        storage: the database URL, as for `create`.
        **settings: settings of this machine for the problem, as for `create`.

    Raises:
        Error: there is no such database, or no such study in it.
        DefinitionError: the `.toml` file is unreadable or invalid.

    Example::

        with pairsearch.open("wine", storage="sqlite:///wine.db") as study:
            table = study.configurations().to_pandas()
    """
    database, _ = opening.open_stored(storage or environment_storage(), [str(study)])
    try:
        return Study(database, look_up(str(study), database), machine_with(settings))
    except BaseException:
        database.close()
        raise


def list_studies(*, storage: str | None = None) -> list[str]:
    """List the names of the studies in a database (see `create`), sorted; raises Error if there is none."""
    database, studies = opening.open_stored(storage or environment_storage())
    database.close()
    return [study.name for study in studies]


class Study:
    """A study in a database. `create` and `open` return it; as a context manager it closes the database at the end.

    Every method reads the database anew, so that it sees what workers, also on other machines, have done so far.

    Example::

        with pairsearch.create("ws") as study:
            study.run(workers=2)
            print(study.best(1)[0].value)
            study.report("ws.html")
    """

    def __init__(self, database: Database, given: StudyArgument, machine: Machine) -> None:
        self._database, self._given, self._machine = database, given, machine

    def __repr__(self) -> str:
        """Show the study's name and its database, without the password."""
        return f"<Study {self._given.name} in {self._database.label}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the database."""
        self._database.close()

    @property
    def name(self) -> str:
        """The name of the study in the database."""
        return self._given.name

    @property
    def definition(self) -> Definition:
        """The definition that `create` last stored."""
        return self._stored().definition

    def run(
        self,
        workers: int | None = None,
        *,
        limit: int | None = None,
        device: str = "cpu",
        gpus: Sequence[int | str] | None = None,
        per_gpu: int | None = None,
        checkpoints: str | Path | None = None,
        models: str | Path | None = None,
        on: str | None = None,
        at: str | None = None,
        options: Mapping[str, str] | None = None,
        executor: Executor | None = None,
        files: Sequence[str] = (),
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> Progress:
        """Train the pending configurations with worker processes on this machine or a cluster, until none is left.

        Ctrl-C stops the workers, which hand their configurations back; call `run` again to go on. Those on a cluster's
        engine go on by themselves. A warning is issued where a worker ends with an error, or where memory may not
        suffice for so many.

        Args:
            workers: the number of processes; None for one per core that this process may use, or one for each GPU.
            limit: train only the first `limit` configurations of the study's order.
            device: the device to train on, as PyTorch names it.
            gpus: GPUs that workers have to themselves where the device is `cuda`: numbers, UUIDs or names of MIG
                devices; None for all that are visible.
            per_gpu: how many workers share a GPU; None for one.
            checkpoints: folder for checkpoints above 1 MB, which all workers of the study share; None to have them in
                the database, up to 64 MB each.
            models: folder for models of rounds that are too large for the database, likewise; None to keep none.
            on: the engine that starts the workers, as `run --on` takes it; None for this machine, or the executor.
            at: the engine's address; None for its usual place.
            options: options of the engine.
            executor: what starts the workers instead, each by a call of one function; they end with this process.
            files: further files that travel with the study to an engine or executor, relative to the working directory.
            on_progress: called twice a second with the study's progress.

        Returns:
            The progress at the end.

        Raises:
            Error: configurations failed, or are left although no worker is; or a GPU does not exist.
        """
        machine = self._here(device, gpus, per_gpu, checkpoints=checkpoints, models=models)
        stored = [self._stored()]
        shown: dict[str, Any] = {
            "limit": limit,
            "on_progress": lambda progresses, _: on_progress(progresses[0]),
            "complain": lambda line: warnings.warn(line, stacklevel=3),
        }
        if on is None and executor is None:
            return search(self._database, stored, [self._given], machine, workers, **shown)[0]
        if not workers or workers < 1 or (on is not None and executor is not None):
            raise InputError("run: expected workers=N, at least 1, and one of on= and executor=")
        engine = Executed(executor) if executor is not None else engine_named(on or "", at, options)
        cluster = Cluster(engine, workers, tuple(files))
        # This machine may lack the workers' device.
        loaded = {self.name: opening.load(self._database, self._given, self._machine)}
        order = order_for(cluster, self._database.url, [self._given], loaded, machine, limit)
        return search_on(cluster, order, self._database, stored, **shown)[0]

    def progress(self, limit: int | None = None) -> Progress:
        """Count the (first `limit`) configurations by state, and read the best so far."""
        return read_progress(self._database, self._stored(), limit)

    def best(self, top: int = 10) -> list[Ranked]:
        """Read the `top` best finished configurations, the best first."""
        return read_best(self._database, self._stored(), top)

    def verdict(self, alpha: float = 0.05) -> StudyVerdict:
        """Judge from the folds which configurations can be the best, and which are excluded by tests of level `alpha`.

        The `verdict` of the judgement is None if no configuration is finished.
        """
        study = self._stored()
        with self._database.snapshot() as connection:
            unjudged = read_unjudged(connection, study)
        return verdict_on(unjudged, alpha=alpha)

    def evaluate(
        self,
        top: int = 1,
        *,
        paper: bool = False,
        rounds: int | None = None,
        workers: int | None = None,
        device: str = "cpu",
        gpus: Sequence[int | str] | None = None,
        per_gpu: int | None = None,
        checkpoints: str | Path | None = None,
        models: str | Path | None = None,
    ) -> list[Evaluated]:
        """Train the best configurations again in several rounds, and test them on data that no fold saw.

        Finished rounds are stored and not repeated, except those whose models are asked for and missing.

        Args:
            top: evaluate this many of the best configurations.
            paper: evaluate the paper's configuration, which the definition names, instead of the best.
            rounds: the number of rounds for each configuration; None for the definition's.
            workers: the number of processes, this one among them; None for one per core that this process may use,
                where training takes longer than starting them.
            device: the device to train on, as PyTorch names it.
            gpus: GPUs, as for `run`. This process has the first of them from then on.
            per_gpu: how many workers share a GPU; None for one.
            checkpoints: folder for large checkpoints, as for `run`.
            models: the folder for trained models; None to keep none.

        Returns:
            One summary for each configuration, with mean and standard deviation of each figure over its rounds.

        Raises:
            Error: no configuration is finished, the definition names no configuration of a paper, or the study differs
                from its `.toml` file.
            DefinitionError: the problem cannot be trained on this machine.
        """
        machine = self._here(device, gpus, per_gpu, checkpoints=checkpoints, models=models)
        if gpus is not None:
            take_first(machine.gpus)
        given, loaded = [self._given], dict[str, Loaded]()
        by: By = "paper" if paper else "search"
        chosen = choose(self._database, given, machine, loaded, by=[by], top=top)
        keep = None if models is None else ModelFolder(Path(models))
        evaluator = Evaluator(machine, models=keep, again=models is not None, workers=workers)
        rows = evaluate(self._database, chosen, given, loaded, evaluator, rounds)
        return [row.evaluated for row in rows]

    def models(self, folder: str | Path) -> list[Path]:
        """Write the trained models of final rounds that the database has as files; existing files are replaced.

        Returns:
            Their paths, ordered by configuration and round. `pairsearch.read_card` says which is which. A round has
            none if it diverged, if the problem returned no weights, or if its model was too large for the database.
        """
        files, _ = write_stored(self._database, self._stored(), ModelFolder(Path(folder)))
        return files

    def configurations(self) -> pa.Table:
        """Read all configurations, in any state, as a table; `.to_pandas()` converts it to a data frame."""
        return read_table(self._database, self._stored(), CONFIGURATIONS)

    def curves(self) -> pa.Table:
        """Read the curves as a table with one row for each epoch, fold and configuration that has a result."""
        return read_table(self._database, self._stored(), CURVES)

    def figures(self) -> dict[str, go.Figure]:
        """Draw the figures of the report, and return them by name.

        A figure with several views has a name for each, such as `ws-parallel-2`.
        """
        # 0.1 s, and large: a script that draws nothing starts without it.
        import plotly.graph_objects as go  # noqa: PLC0415

        return {
            name: go.Figure(view.spec)
            for figure in self._report().figures
            for name, view in zip(view_names(figure), figure.views, strict=True)
        }

    def report(self, path: str | Path, *, trade: str | None = None) -> Path:
        """Write tables, figures and provenance as one HTML page that works offline, and return its path.

        Args:
            trade: figures whose trade-off is shown too, as `report --trade` takes them: `"error,seconds"`.

        Raises:
            Error: the file cannot be written, or the study has no such figures.
        """
        return write(self._report(None if trade is None else choice(trade)), Path(path))

    def export(self, *, to: str) -> Exported:
        """Write the runs of configurations that have ended to a tracker, each exactly once, and count them.

        Args:
            to: `mlflow=URI`, `tensorboard=FOLDER` or `wandb=FOLDER`.

        Raises:
            Error: the tracker's client is not installed, or the tracker is away or cannot be written to.
        """
        return export(self._database, self._stored(), Target.of(to))

    def _report(self, trade: Choice | None = None) -> Document:
        return compose_stored(self._database, [self._stored()], trade=trade)

    def _here(
        self, device: str, gpus: Sequence[int | str] | None, per_gpu: int | None, **folders: str | Path | None
    ) -> Machine:
        """Return how this machine trains, with folders that workers share."""
        placed = places(device, None if gpus is None else [str(gpu) for gpu in gpus], per_gpu)
        shared: dict[str, Any] = {name: shared_folder(folder) for name, folder in folders.items()}
        return replace(self._machine, device=device, gpus=placed, **shared)

    def _stored(self) -> StoredStudy:
        return get_study(self._database, self._given.name)


def machine_with(settings: Mapping[str, object], device: str = "cpu") -> Machine:
    """Return how this machine trains, with settings for the problem; those that are None are left out."""
    texts = {name: str(value) for name, value in settings.items() if value is not None}
    return Machine(device, texts)
