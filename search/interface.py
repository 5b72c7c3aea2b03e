"""Studies in Python, for scripts and notebooks: what the commands do, with results as objects.

    import pairsearch

    with pairsearch.create("ws", data="digits") as study:
        study.run(workers=2)
        for entry in study.best(3):
            print(entry.rank, dict(entry.params), entry.value)

Paths, environment variables and defaults are those of the commands. What can go wrong is a
`pairsearch.Error`, or one of a definition (`pairsearch.DefinitionError`) or of data (`pairsearch.DataError`): one line
that says what was given, what was expected and what to do.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pairsearch.search import machine
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger import studies as ledger_studies
from pairsearch.search.ledger.studies import StoredStudy, get_study, stored_study
from pairsearch.search.results.evaluations import Evaluated
from pairsearch.search.results.progress import Progress, read_progress
from pairsearch.search.results.ranking import Ranked, read_best
from pairsearch.search.setup.opening import (
    DataChoice,
    check_device,
    create_all,
    existing,
    load_source,
    open_to_create,
)
from pairsearch.search.setup.storage_option import environment_storage
from pairsearch.studies.definition import Definition

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import pyarrow as pa

    from pairsearch.search.report.content import Report
    from pairsearch.search.verdict.reading import StudyVerdict


def create(
    study: str, *, storage: str | None = None, data: str | None = None, data_dir: str | Path | None = None
) -> Study:
    """Create a study, or open it where it was created before; a larger grid is added to it.

    Args:
        study: name of a shipped definition or of a study in the database, or path of a `.toml` file.
        storage: database URL; None for PAIRSEARCH_STORAGE, PAIRSEARCH_STORAGE_FILE or `sqlite:///pairsearch.db`.
        data: `mnist`, `digits` or `auto`; None for what the study is bound to, and `mnist` for a new one.
        data_dir: torchvision root of MNIST; None for PAIRSEARCH_DATA or the per-user folder.

    Raises:
        Error, DefinitionError, DataError: something given cannot be used; nothing was made.
    """
    opened = open_to_create(storage or environment_storage(), [study], DataChoice(data, _path(data_dir)))
    try:
        (made,) = create_all(opened.database, opened.definitions, opened.source)
    except BaseException:
        opened.database.close()
        raise
    return Study(opened.database, made.study)


def open(study: str, *, storage: str | None = None) -> Study:
    """Open a study that is in the database.

    Args:
        study: its name, or the path of its `.toml` file.
        storage: as for `create`.

    Raises:
        Error: there is no such database or study.
    """
    database = open_database(storage or environment_storage())
    try:
        return Study(database, stored_study(database, study))
    except BaseException:
        database.close()
        raise


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

    def __init__(self, database: Database, stored: StoredStudy) -> None:
        self._database = database
        self._name = stored.name

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
        data_dir: str | Path | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> Progress:
        """Search with worker processes of this machine until nothing is left; Ctrl-C has them hand back what they hold.

        Args:
            workers: how many; None for one a core that this process may use.
            limit: only the first so many configurations of the study's order.
            device: a PyTorch device.
            data_dir: as for `create`.
            on_progress: is told how far the study is, twice a second.

        Warns of workers that ended otherwise than well, and of more of them than memory may hold.

        Raises:
            Error: configurations failed, or are left although no worker is.
        """
        from pairsearch.search.workers.searching import WorkerArguments, search  # noqa: PLC0415

        check_device(device)
        stored = self._stored()
        arguments = WorkerArguments([self._name], stored.source_name, _path(data_dir), limit, device)
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
        data_dir: str | Path | None = None,
        models: str | Path | None = None,
    ) -> list[Evaluated]:
        """Train configurations afresh, a round with each of several seeds; finished rounds are kept and not repeated.

        Args:
            top: how many of the best.
            paper: the configuration that the paper states instead of the best.
            rounds: of each; None for what the definition says.
            device: a PyTorch device.
            data_dir: as for `create`.
            models: folder for the trained models; None to keep none.

        Raises:
            Error, DataError: nothing is finished, the definition states no configuration of the paper, or the data
                cannot be used.
        """
        from pairsearch.search.evaluation.evaluating import (  # noqa: PLC0415
            Chosen,
            Evaluator,
            configurations_to_evaluate,
            evaluate_studies,
        )
        from pairsearch.search.evaluation.models import ModelFolder  # noqa: PLC0415

        check_device(device)
        stored = self._stored()
        chosen = configurations_to_evaluate(self._database, stored, top=top, paper=paper)
        folder = None if models is None else ModelFolder(Path(models))
        choice = DataChoice(None, _path(data_dir))
        source, _ = load_source(self._database, [stored.definition], choice)
        existing(self._database, [stored.definition], source)
        evaluator = Evaluator(device, machine.cores(), models=folder, again=folder is not None)
        of = [Chosen("paper" if paper else "search", stored, chosen)]
        return [row.evaluated for row in evaluate_studies(self._database, of, source, evaluator, rounds)]

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
        """The figures of the report by name; one with several views has a name for each: `ws-val-loss-2`."""
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


def _path(given: str | Path | None) -> Path | None:
    found = given or os.environ.get("PAIRSEARCH_DATA")
    return None if found is None else Path(found)
