"""Studies in scripts and notebooks: the commands as functions, their results as objects::

    import pairsearch

    with pairsearch.create("ws") as study:
        study.run(workers=2)
        for entry in study.best(3):
            print(entry.rank, dict(entry.params), entry.value)

Paths, environment variables and defaults are those of the commands. Functions raise `pairsearch.Error`, or
`pairsearch.DefinitionError` where a definition or its problem is at fault. The message is one line that says what was
given, what was expected and what to do.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.errors import PairsearchError
from pairsearch.search.ledger import studies as ledger_studies
from pairsearch.search.ledger.studies import StoredStudy, StudyArgument, get_study, look_up, stored_study
from pairsearch.search.machine import Machine
from pairsearch.search.results.evaluations import Evaluated
from pairsearch.search.results.progress import Progress, read_progress
from pairsearch.search.results.ranking import Ranked, read_best
from pairsearch.search.setup.opening import create_all, open_to_create
from pairsearch.search.setup.opening import load as load_problem
from pairsearch.search.setup.storage_url import environment_storage
from pairsearch.studies.checks import Check
from pairsearch.studies.definition import Definition
from pairsearch.studies.errors import DefinitionError

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import pyarrow as pa

    from pairsearch.search.report.content import Document
    from pairsearch.search.setup.load import LoadedStudy
    from pairsearch.search.verdict.study_verdict import StudyVerdict


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
    machine = Machine(settings=_texts(settings))
    opened = open_to_create(storage or environment_storage(), [str(study)], machine)
    try:
        create_all(opened.database, opened.loaded)
        return Study(opened.database, opened.studies[0], machine)
    except BaseException:
        opened.database.close()
        raise


def open(study: str | Path, *, storage: str | None = None, **settings: object) -> Study:
    """Open a study in the database; nothing is created.

    Args:
        study: the name of the study, or the path of its `.toml` file. `run` and `evaluate` need the path if the problem
            is a file of your own.
        storage: the database URL, as for `create`.
        **settings: settings of this machine for the problem, as for `create`.

    Returns:
        The study. Use it in a `with` statement, or call `close` at the end.

    Raises:
        Error: there is no such database, or no such study in it.
        DefinitionError: the `.toml` file is unreadable or invalid.

    Example::

        with pairsearch.open("wine", storage="sqlite:///wine.db") as study:
            table = study.configurations().to_pandas()
    """
    database = open_database(storage or environment_storage())
    try:
        stored_study(database, str(study))
        return Study(database, look_up(str(study), database), Machine(settings=_texts(settings)))
    except BaseException:
        database.close()
        raise


def check(
    study: str | Path, *, points: int = 8, workers: int | None = None, device: str = "cpu", **settings: object
) -> list[Check]:
    """Check a definition before it is searched: are its results reproducible, and what will the grid cost?

    A few points are trained for two epochs in a new process; their time and memory give the estimate for the whole
    grid. The first point is trained in this process too, and its figures are compared bit for bit.

    Args:
        study: the name of a shipped definition, or the path of a `.toml` file.
        points: how many points are trained.
        workers: the number of workers that the estimate assumes; None for as many as `Study.run` starts.
        device: the device to train on, as PyTorch names it.
        **settings: settings of this machine for the problem, as for `create`.

    Returns:
        One `Check` for each line that `pairsearch check` prints, with `name`, `good` (None for a fact that is neither
        good nor bad) and `finding`, a sentence.

    Raises:
        Error: the device or the study cannot be used.
        DefinitionError: the definition cannot be trained.
    """
    from pairsearch.search.workers.rehearsal import rehearse  # noqa: PLC0415

    machine, given = Machine(device, _texts(settings)), look_up(str(study))
    return list(rehearse(load_problem(None, given, machine), given, machine, points, workers))


def check_contract(study: str | Path, *, points: int = 1, device: str = "cpu", **settings: object) -> None:
    """Check that the problem of a study keeps its contract (`pairsearch.Problem`), inside a test of your own.

    A point has to give the same bits twice: whatever the state of the global random numbers is, alone and beside other
    points, and in another process. The problem has to report the figures that it declares, and to end when it is
    stopped.

    Args:
        study: the name of a shipped definition, or the path of a `.toml` file.
        points: how many points are trained.
        device: the device to train on, as PyTorch names it.
        **settings: settings of this machine for the problem, as for `create`.

    Raises:
        AssertionError: the contract is broken; the message has a line for each failed check.

    Example::

        def test_wine_keeps_the_contract():
            pairsearch.check_contract("wine.toml")
    """
    try:
        checks = check(study, points=points, workers=1, device=device, **settings)
    except (PairsearchError, DefinitionError) as error:
        raise AssertionError(str(error)) from error
    # The memory of this machine says nothing about the problem.
    broken = [one.finding for one in checks if one.good is False and one.name != "memory"]
    if broken:
        raise AssertionError("\n".join(broken))


def list_studies(*, storage: str | None = None) -> list[str]:
    """List the names of the studies in a database.

    Args:
        storage: the database URL, as for `create`.

    Returns:
        The names, sorted.

    Raises:
        Error: there is no such database.
    """
    database = open_database(storage or environment_storage())
    try:
        return [study.name for study in ledger_studies.list_studies(database)]
    finally:
        database.close()


def load(
    source: object,
    *,
    studies: Sequence[str] = (),
    storage: str | None = None,
    name: str | None = None,
    metric: str | None = None,
    minimise: bool = False,
    folds: str = "fold*",
) -> list[LoadedStudy]:
    """Load results into a database, each exactly once: all studies of the source, or none.

    A study that is there gets the results that it lacks; loading again changes nothing. Results of another program
    become a study that is judged like any other, and that cannot be trained here.

    Args:
        source: a folder that `pairsearch export` wrote, or `"paper"`, the results that are shipped; or, of another
            program, scikit-learn's `cv_results_`, any other columns by name, a `.csv` or `.parquet` file of such, or
            the URL of a database with a finished study of Optuna's whose trials reported one value per fold.
        studies: names of the studies to load, all if there are none; of Optuna's database one, which may be left out if
            it is the only one.
        storage: the database URL, as for `create`. The database is created if it does not exist.
        name: a name for the study of another program; None for that of the file without its ending, `cv_results`, or
            Optuna's.
        metric: the score of another program by which configurations are compared; None if there is only one.
        minimise: whether a lower score of a table is better; scikit-learn's are maximised.
        folds: how a plain table names its columns of folds, `*` for the number. A column `seconds` is the time of
            training; all others are parameters.

    Returns:
        What was loaded of each study.

    Raises:
        Error: the source is damaged, or the database has other results. Nothing was loaded.

    Example::

        search = GridSearchCV(pipeline, grid, cv=10).fit(X, y)
        pairsearch.load(search.cv_results_, name="cancer")
        pairsearch.open("cancer").report("cancer.html")
    """
    from pairsearch.search.results.foreign import Told  # noqa: PLC0415
    from pairsearch.search.setup.load import load as read_in  # noqa: PLC0415

    return read_in(storage or environment_storage(), source, studies, Told(name, metric, minimise, folds))


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
        self._database = database
        self._given = given
        self._name = given.name
        self._machine = machine

    def __repr__(self) -> str:
        """Show the study's name and its database, without the password."""
        return f"<Study {self._name} in {self._database.label}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the database."""
        self._database.close()

    @property
    def name(self) -> str:
        """The name of the study in the database."""
        return self._name

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
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> Progress:
        """Train the pending configurations with worker processes on this machine, until none is left.

        Ctrl-C stops the workers, which hand their configurations back; call `run` again to go on. A warning is issued
        where a worker ends with an error, or where memory may not suffice for so many.

        Args:
            workers: the number of processes; None for one per core that this process may use.
            limit: train only the first `limit` configurations of the study's order.
            device: the device to train on, as PyTorch names it.
            on_progress: called twice a second with the study's progress.

        Returns:
            The progress at the end.

        Raises:
            Error: configurations failed, or are left although no worker is.
        """
        from pairsearch.search.workers.searching import search  # noqa: PLC0415

        (progress,) = search(
            self._database,
            [self._stored()],
            [self._given],
            replace(self._machine, device=device),
            workers,
            limit=limit,
            on_progress=lambda progresses, _: on_progress(progresses[0]),
            complain=lambda line: warnings.warn(line, stacklevel=3),
        )
        return progress

    def progress(self, limit: int | None = None) -> Progress:
        """Count the configurations by state, and read the best so far.

        Args:
            limit: look only at the first `limit` configurations of the study's order.
        """
        return read_progress(self._database, self._stored(), limit)

    def best(self, top: int = 10) -> list[Ranked]:
        """Read the best finished configurations, the best first.

        Args:
            top: how many to read.
        """
        return read_best(self._database, self._stored(), top)

    def verdict(self, alpha: float = 0.05) -> StudyVerdict:
        """Judge from the folds which configurations can be the best, and which are excluded.

        Args:
            alpha: the level of the test that excludes a configuration.

        Returns:
            The judgement; its `verdict` is None if no configuration is finished.
        """
        from pairsearch.search.verdict.study_verdict import judge_study  # noqa: PLC0415

        return judge_study(self._database, self._stored(), alpha=alpha)

    def evaluate(
        self,
        top: int = 1,
        *,
        paper: bool = False,
        rounds: int | None = None,
        device: str = "cpu",
        models: str | Path | None = None,
    ) -> list[Evaluated]:
        """Train the best configurations again in several rounds, and test them on data that no fold saw.

        Finished rounds are stored and not repeated, except those whose models are asked for and missing.

        Args:
            top: evaluate this many of the best configurations.
            paper: evaluate the paper's configuration, which the definition names, instead of the best.
            rounds: the number of rounds for each configuration; None for the definition's.
            device: the device to train on, as PyTorch names it.
            models: the folder for trained models; None to keep none.

        Returns:
            One summary for each configuration, with mean and standard deviation of each figure over its rounds.

        Raises:
            Error: no configuration is finished, the definition names no configuration of a paper, or the study differs
                from its `.toml` file.
            DefinitionError: the problem cannot be trained on this machine.
        """
        from pairsearch.search.evaluation.evaluating import By, Evaluator, evaluate  # noqa: PLC0415
        from pairsearch.search.evaluation.models import ModelFolder  # noqa: PLC0415

        folder = None if models is None else ModelFolder(Path(models))
        evaluator = Evaluator(replace(self._machine, device=device), models=folder, again=folder is not None)
        by: By = "paper" if paper else "search"
        rows = evaluate(self._database, [self._given], evaluator, by=[by], top=top, rounds=rounds)
        return [row.evaluated for row in rows]

    def configurations(self) -> pa.Table:
        """Read all configurations, in any state, as a table; `.to_pandas()` converts it to a data frame."""
        from pairsearch.search.results.export import read_table  # noqa: PLC0415
        from pairsearch.search.results.tables import CONFIGURATIONS  # noqa: PLC0415

        return read_table(self._database, self._stored(), CONFIGURATIONS)

    def curves(self) -> pa.Table:
        """Read the curves as a table with one row for each epoch, fold and configuration that has a result."""
        from pairsearch.search.results.export import read_table  # noqa: PLC0415
        from pairsearch.search.results.tables import CURVES  # noqa: PLC0415

        return read_table(self._database, self._stored(), CURVES)

    def figures(self) -> dict[str, go.Figure]:
        """Draw the figures of the report, and return them by name.

        A figure with several views has a name for each, such as `ws-parallel-2`.
        """
        import plotly.graph_objects as go  # noqa: PLC0415

        from pairsearch.search.report.content import view_names  # noqa: PLC0415

        return {
            name: go.Figure(view.spec)
            for figure in self._report().figures
            for name, view in zip(view_names(figure), figure.views, strict=True)
        }

    def report(self, path: str | Path) -> Path:
        """Write tables, figures and provenance as one HTML page that works offline.

        Args:
            path: the file to write; an existing file is replaced.

        Returns:
            The path.

        Raises:
            Error: the file cannot be written.
        """
        from pairsearch.search.report.page import write  # noqa: PLC0415

        return write(self._report(), Path(path))

    def _report(self) -> Document:
        from pairsearch.search.report import document  # noqa: PLC0415

        return document.compose_stored(self._database, [self._stored()])

    def _stored(self) -> StoredStudy:
        return get_study(self._database, self._name)


def _texts(settings: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in settings.items() if value is not None}
