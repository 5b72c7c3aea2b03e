"""Studies in Python, for scripts and notebooks: what the commands do, with results as objects.

    import pairsearch

    with pairsearch.create("ws") as study:
        study.run(workers=2)
        for entry in study.best(3):
            print(entry.rank, dict(entry.params), entry.value)

Paths, environment variables and defaults are those of the commands. What can go wrong is a
`pairsearch.Error`, or one of a definition or its problem (`pairsearch.DefinitionError`): one line that says what was
given, what was expected and what to do.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pairsearch.search import machine
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.errors import PairsearchError
from pairsearch.search.ledger import studies as ledger_studies
from pairsearch.search.ledger.studies import Given, StoredStudy, get_study, look_up, stored_study
from pairsearch.search.results.evaluations import Evaluated
from pairsearch.search.results.progress import Progress, read_progress
from pairsearch.search.results.ranking import Ranked, read_best
from pairsearch.search.setup.opening import check_device, create_all, load, open_to_create
from pairsearch.search.setup.storage_option import environment_storage
from pairsearch.studies.checks import Check
from pairsearch.studies.definition import Definition
from pairsearch.studies.errors import DefinitionError

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import pyarrow as pa

    from pairsearch.search.report.content import Report
    from pairsearch.search.verdict.reading import StudyVerdict


def create(study: str | Path, *, storage: str | None = None, **settings: object) -> Study:
    """Create a study, or open it where it was created before; a larger grid is added to it.

    Args:
        study: name of a shipped definition or of a study in the database, or path of a `.toml` file.
        storage: database URL; None for PAIRSEARCH_STORAGE, PAIRSEARCH_STORAGE_FILE or `sqlite:///pairsearch.db`.
        settings: of this machine for the problem, as `--set` has them: `data` and `data_dir` of the paper's
            studies, for example.

    Raises:
        Error, DefinitionError: something given cannot be used; nothing was made.
    """
    options = _texts(settings)
    opened = open_to_create(storage or environment_storage(), [str(study)], options)
    try:
        create_all(opened.database, opened.loaded)
        return Study(opened.database, look_up(str(study), opened.database), options)
    except BaseException:
        opened.database.close()
        raise


def open(study: str | Path, *, storage: str | None = None, **settings: object) -> Study:
    """Open a study that is in the database.

    Args:
        study: its name, or the path of its `.toml` file: to train a problem of your own its file has to be named.
        storage, settings: as for `create`.

    Raises:
        Error, DefinitionError: there is no such database or study, or it differs from the file.
    """
    database = open_database(storage or environment_storage())
    try:
        stored_study(database, str(study))
        return Study(database, look_up(str(study), database), _texts(settings))
    except BaseException:
        database.close()
        raise


def check(
    study: str | Path, *, points: int = 8, workers: int | None = None, device: str = "cpu", **settings: object
) -> list[Check]:
    """Train a few points for an epoch or two, and say whether they keep the promise and what the grid would cost.

    Args:
        study: name of a shipped definition, or path of a `.toml` file.
        points: how many are trained.
        workers: among how many the work is shared; None for as many as `Study.run` starts.
        device: where to compute, as PyTorch names it.
        settings: as for `create`.

    Raises:
        Error, DefinitionError: the definition cannot be trained.
    """
    from pairsearch.search.workers.rehearsal import rehearse  # noqa: PLC0415

    check_device(device)
    options = _texts(settings)
    loaded = load(None, look_up(str(study)), options)
    return list(rehearse(loaded, str(study), options, points, workers, device))


def check_contract(study: str | Path, *, points: int = 1, device: str = "cpu", **settings: object) -> None:
    """Hold the problem of a study to its contract (`pairsearch.Problem`), in a test of its author's.

        def test_wine_keeps_the_contract():
            pairsearch.check_contract("wine.toml")

    It does what `check` does: a point gives the same bits twice, whatever the global random numbers are, alone and
    beside others, and in another process; it reports the figures that it declares, and ends where it is stopped.

    Args:
        study, device, settings: as for `check`.
        points: how many are trained.

    Raises:
        AssertionError: with a line for each promise that is broken.
    """
    try:
        found = check(study, points=points, workers=1, device=device, **settings)
    except (PairsearchError, DefinitionError) as error:
        raise AssertionError(str(error)) from error
    # What memory there is says nothing of the problem.
    broken = [one.finding for one in found if one.good is False and one.name != "memory"]
    if broken:
        raise AssertionError("\n".join(broken))


def list_studies(*, storage: str | None = None) -> list[str]:
    """Names of the studies in a database.

    Raises:
        Error: there is no such database.
    """
    database = open_database(storage or environment_storage())
    try:
        return [study.name for study in ledger_studies.list_studies(database)]
    finally:
        database.close()


class Study:
    """A study in a database, as `create` and `open` give it; a context manager that closes the database.

    What it tells is read from the database at each call: workers may be at work on it anywhere.
    """

    def __init__(self, database: Database, given: Given, settings: Mapping[str, str]) -> None:
        self._database = database
        self._given = given
        self._name = given.name
        self._settings = settings

    def __repr__(self) -> str:
        """Name and database, without its password."""
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
        """Its name in the database."""
        return self._name

    @property
    def definition(self) -> Definition:
        """The definition as it was last created."""
        return self._stored().definition

    def run(
        self,
        workers: int | None = None,
        *,
        limit: int | None = None,
        device: str = "cpu",
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> Progress:
        """Search with worker processes of this machine until nothing is left; Ctrl-C has them hand back what they hold.

        Args:
            workers: how many; None for one a core that this process may use.
            limit: only the first so many configurations of the study's order.
            device: where to compute, as PyTorch names it.
            on_progress: is told how far the study is, twice a second.

        Warns of workers that ended otherwise than well, and of more of them than memory may hold.

        Raises:
            Error: configurations failed, or are left although no worker is.
        """
        from pairsearch.search.workers.searching import WorkerArguments, search  # noqa: PLC0415

        check_device(device)
        stored = self._stored()
        arguments = WorkerArguments([self._given.text], self._settings, limit, device)
        (progress,) = search(
            self._database,
            [stored],
            arguments,
            workers,
            on_progress=lambda progresses, _: on_progress(progresses[0]),
            complain=lambda line: warnings.warn(line, stacklevel=3),
        )
        return progress

    def progress(self, limit: int | None = None) -> Progress:
        """How far the study is, over the first `limit` configurations of its order where that is given."""
        return read_progress(self._database, self._stored(), limit)

    def best(self, top: int = 10) -> list[Ranked]:
        """The best finished configurations, the best first."""
        return read_best(self._database, self._stored(), top)

    def verdict(self, alpha: float = 0.05) -> StudyVerdict:
        """What the folds can and cannot tell about which configuration is the best.

        Args:
            alpha: level of the test that excludes a configuration.
        """
        from pairsearch.search.verdict.reading import judge_study  # noqa: PLC0415

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
        """Train configurations afresh, a round with each of several seeds; finished rounds are kept and not repeated.

        Args:
            top: how many of the best.
            paper: the configuration that its definition states of a paper instead of the best.
            rounds: of each; None for what the definition says.
            device: where to compute, as PyTorch names it.
            models: folder for the trained models; None to keep none.

        Raises:
            Error, DefinitionError: nothing is finished, the definition states no configuration of a paper, or its
                problem cannot be trained here.
        """
        from pairsearch.search.evaluation.evaluating import (  # noqa: PLC0415
            Chosen,
            Evaluator,
            configurations_to_evaluate,
            evaluate_studies,
        )
        from pairsearch.search.evaluation.models import ModelFolder  # noqa: PLC0415
        from pairsearch.search.setup.creation import existing  # noqa: PLC0415

        check_device(device)
        stored = self._stored()
        chosen = configurations_to_evaluate(self._database, stored, top=top, paper=paper)
        folder = None if models is None else ModelFolder(Path(models))
        loaded = load(self._database, self._given, self._settings)
        existing(self._database, loaded)
        evaluator = Evaluator(device, machine.cores(), models=folder, again=folder is not None)
        of = [Chosen("paper" if paper else "search", stored, chosen)]
        problems = {self._name: loaded}
        return [row.evaluated for row in evaluate_studies(self._database, of, problems, evaluator, rounds)]

    def configurations(self) -> pa.Table:
        """All configurations in any state, with their figures; `.to_pandas()` makes a data frame of it."""
        from pairsearch.search.results.export import read_table  # noqa: PLC0415
        from pairsearch.search.results.export_columns import CONFIGURATIONS  # noqa: PLC0415

        return read_table(self._database, self._stored(), CONFIGURATIONS)

    def curves(self) -> pa.Table:
        """A row for each epoch of each fold of each configuration that has a result."""
        from pairsearch.search.results.export import read_table  # noqa: PLC0415
        from pairsearch.search.results.export_columns import CURVES  # noqa: PLC0415

        return read_table(self._database, self._stored(), CURVES)

    def figures(self) -> dict[str, go.Figure]:
        """The figures of the report by name; one with several views has a name for each: `ws-parallel-2`."""
        import plotly.graph_objects as go  # noqa: PLC0415

        from pairsearch.search.report.content import view_names  # noqa: PLC0415

        return {
            name: go.Figure(view.spec)
            for figure in self._report().figures
            for name, view in zip(view_names(figure), figure.views, strict=True)
        }

    def report(self, path: str | Path) -> Path:
        """Write tables, figures and provenance as one HTML page that works offline; a file that was there is replaced.

        Raises:
            Error: the file cannot be written.
        """
        from pairsearch.search.files import whole_file  # noqa: PLC0415
        from pairsearch.search.report.page import render  # noqa: PLC0415

        page = render(self._report()).encode()
        with whole_file(Path(path)) as file:
            file.write(page)
        return Path(path)

    def _report(self) -> Report:
        from pairsearch.search.report import document  # noqa: PLC0415

        return document.compose_stored(self._database, [self._stored()])

    def _stored(self) -> StoredStudy:
        return get_study(self._database, self._name)


def _texts(settings: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in settings.items() if value is not None}
