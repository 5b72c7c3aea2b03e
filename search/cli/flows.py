"""The work behind the commands: search studies with local workers, evaluate their best, make rows of Table 1."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.text import Text

from pairsearch.data.sources import Source
from pairsearch.search import machine
from pairsearch.search.cli.progress import SearchProgress
from pairsearch.search.cli.tables import TableRow
from pairsearch.search.database.connection import Database
from pairsearch.search.errors import DatabaseAwayError, StudyError, WorkError
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.evaluations import read_evaluation
from pairsearch.search.results.progress import Progress, ended_without, read_progress
from pairsearch.search.results.ranking import ranked_within
from pairsearch.search.setup import opening
from pairsearch.search.workers.pool import Pool
from pairsearch.search.workers.proof import prove
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition

if TYPE_CHECKING:
    from pairsearch.models.training import EpochReport
    from pairsearch.search.evaluation.models import ModelFolder
    from pairsearch.search.evaluation.rounds import TrainedRound

POLL_SECONDS = 0.5

Say = Callable[[str], None]


def search(
    database: Database,
    studies: Sequence[StoredStudy],
    arguments: Sequence[str],
    workers: int,
    console: Console,
    complain: Say,
    limit: int | None = None,
) -> list[Progress]:
    """Run worker processes over the studies and show their progress until they end.

    Args:
        arguments: of `pairsearch worker`, for every process.
        console: shows progress.
        complain: told of more workers than memory holds, and of workers that ended otherwise than well.

    Returns:
        The final progress of each study.

    Raises:
        WorkError: configurations failed, or are left although no worker is.
    """

    def look() -> list[Progress]:
        return [read_progress(database, study, limit) for study in studies]

    latest = look()
    if any(progress.open for progress in latest):
        if (note := too_many(workers, machine.available_memory())) is not None:
            complain(note)
        url = database.url.render_as_string(hide_password=False)
        with SearchProgress(console) as shown, Pool(arguments, workers, url) as pool:
            shown.update(latest)
            while pool.alive():
                time.sleep(POLL_SECONDS)
                try:
                    latest = look()
                except DatabaseAwayError:
                    continue  # the workers wait for it too, and give up after their patience
                shown.update(latest)
            latest = look()
            shown.update(latest, last=True)
            complaints = pool.complaints()
        opening.reconcile(database, studies)
        for complaint in complaints:
            complain(complaint)
        latest = look()
    left = [f"{progress.study} {progress.open}" for progress in latest if progress.open]
    if left:
        raise WorkError(f"workers ended with configurations left ({', '.join(left)}): run it again to go on")
    failed = {key: reason for progress in latest for key, reason in progress.failures.items()}
    if failed:
        key, reason = next(iter(failed.items()))
        raise WorkError(f"{len(failed)} configurations failed, for example {key}: {reason}")
    return latest


def too_many(workers: int, available: int | None) -> str | None:
    """A line about workers for which this machine's memory will not do, None where it will.

    Args:
        available: bytes that they can take, None where that is not known.
    """
    if available is None or workers * machine.WORKER_BYTES <= available:
        return None
    room = max(1, available // machine.WORKER_BYTES)
    return (
        f"note: memory may not hold {workers} workers: {available / 2**30:.1f} GiB are free and each takes some "
        f"{machine.WORKER_BYTES / 2**30:.1f} GiB: --workers {room} would fit"
    )


def paper_configuration(definition: Definition) -> Configuration:
    """The paper's configuration of a study.

    Raises:
        StudyError: its definition states none.
    """
    if definition.paper is None:
        raise StudyError(f"study {definition.name}: its definition has no [paper] table: leave out --paper")
    return definition.paper.configuration


def configurations_to_evaluate(
    database: Database, study: StoredStudy, *, top: int, paper: bool, limit: int | None = None
) -> list[Configuration]:
    """The paper's configuration, or the `top` best of the finished ones.

    Raises:
        StudyError: nothing finished, or the definition states no configuration of the paper.
    """
    if paper:
        return [paper_configuration(study.definition)]
    with database.snapshot() as connection:
        ranked = ranked_within(connection, study, top, limit)
        ended = ended_without(connection, study, limit)
    if not ranked:
        advice = f", {ended}" if ended.example else f": `pairsearch run {study.name}` first"
        raise StudyError(f"study {study.name} has no finished trial to evaluate{advice}")
    return [entry.configuration for entry in ranked]


@dataclass(frozen=True, slots=True)
class Evaluator:
    """How rounds are trained.

    Args:
        threads: rounds trained at a time.
        models: where their models are kept, None to keep none.
        again: whether stored rounds without a model are trained again for it.
    """

    device: str
    threads: int
    stopping: threading.Event
    console: Console
    models: ModelFolder | None = None
    again: bool = False

    def rounds(
        self,
        database: Database,
        study: StoredStudy,
        source: Source,
        configuration: Configuration,
        wanted: int,
    ) -> None:
        """Train the rounds of a configuration that are missing, keep models, and say what was done."""
        from pairsearch.search.evaluation.models import rounds_without_model, train_again  # noqa: PLC0415
        from pairsearch.search.evaluation.rounds import Request, evaluate, missing_rounds  # noqa: PLC0415
        from pairsearch.search.workers.worker import worker_name  # noqa: PLC0415

        label = f"{study.name}: {wanted} rounds of {configuration.key}"
        missing = missing_rounds(database, study, configuration, wanted)
        models, said = self.models, ["all stored before"]

        def keep(trained: Sequence[TrainedRound]) -> None:
            if models is not None:
                models.keep(study, source, configuration, trained)

        if missing:
            with self._shown(label) as options:
                request, start = Request(configuration, missing), time.monotonic()
                stored = evaluate(
                    database, study, source, request, worker=worker_name(), keep=keep, **options
                )
            if self.stopping.is_set() and stored == 0:
                raise KeyboardInterrupt
            said = [f"{stored} trained in {time.monotonic() - start:.1f} s"]
            if models is not None:
                said.append(f"models in {models.path}")
        if models is not None:
            absent = rounds_without_model(database, study, configuration, wanted, models)
            if absent and self.again:
                with self._shown(label) as options:
                    request = Request(configuration, absent)
                    others = train_again(database, study, source, request, models, **options)
                if others is None:
                    raise KeyboardInterrupt
                said.append(f"{len(absent)} trained again for their models, ")
                said[-1] += (
                    f"{others} of them with other figures than those stored (another processor or other versions)"
                    if others
                    else "with the stored figures bit for bit"
                )
            elif absent:
                said.append(
                    f"{len(absent)} without a model in {models.path} (--models {models.path} trains them again)"
                )
        self.console.print(f"{label}: {', '.join(said)}", highlight=False, soft_wrap=True, markup=False)

    @contextmanager
    def _shown(self, label: str) -> Iterator[dict[str, Any]]:
        """Options of the training, whose epochs are shown while the block runs."""
        with self.console.status(Text(f"{label}: starting")) as status:

            def on_epoch(report: EpochReport) -> bool:
                errors = report.error["test"]
                status.update(Text(f"{label}: epoch {report.epoch}, test error {100 * errors.mean():.2f} %"))
                return not self.stopping.is_set()

            yield {"device": self.device, "threads": self.threads, "on_epoch": on_epoch}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Configurations of a study that are to be evaluated; `by` is as in a row of Table 1."""

    by: Literal["search", "paper"]
    study: StoredStudy
    configurations: Sequence[Configuration]


def evaluate_studies(
    database: Database,
    chosen: Sequence[Chosen],
    source: Source,
    evaluator: Evaluator,
    rounds: int | None,
) -> list[TableRow]:
    """Train the rounds that are missing, and give a row of Table 1 for each configuration.

    Args:
        rounds: None for what each definition says.

    Raises:
        WorkError: this process cannot train.
    """
    rows = []
    for choice in chosen:
        prove(choice.study.definition, evaluator.device)
    for choice in chosen:
        study = choice.study
        for configuration in choice.configurations:
            evaluator.rounds(
                database, study, source, configuration, rounds or study.definition.evaluation.rounds
            )
            rows.append(table_row(database, choice, configuration))
    return rows


def table_row(database: Database, choice: Chosen, configuration: Configuration) -> TableRow:
    """The row of Table 1 of a configuration, over the rounds that are stored."""
    from pairsearch.studies.architecture import parameter_count  # noqa: PLC0415

    definition = choice.study.definition
    return TableRow(
        chosen_by=choice.by,
        definition=definition,
        parameters=parameter_count(definition.architecture, configuration.hidden_units),
        evaluated=read_evaluation(database, choice.study, configuration),
        params=configuration.params,
    )
