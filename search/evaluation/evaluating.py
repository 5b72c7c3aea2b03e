"""Evaluates configurations of studies, from their choice to a row of Table 1 for each."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from pairsearch.search.database.connection import Database
from pairsearch.search.errors import PairsearchError, StudyError, WorkError
from pairsearch.search.evaluation.models import ModelFolder, rounds_without_model, train_again
from pairsearch.search.evaluation.rounds import Request, TrainedRound, missing_rounds
from pairsearch.search.evaluation.rounds import evaluate as evaluate_rounds
from pairsearch.search.ledger.outcome import mean_of
from pairsearch.search.ledger.studies import StoredStudy, StudyArgument, get_study
from pairsearch.search.machine import Machine
from pairsearch.search.redaction import conceal
from pairsearch.search.results.evaluations import Evaluated, read_evaluation
from pairsearch.search.results.formatting import figure
from pairsearch.search.results.formatting import label as named
from pairsearch.search.results.progress import ended_without
from pairsearch.search.results.ranking import ranked_within
from pairsearch.search.setup.opening import check_device, existing, load
from pairsearch.search.workers.failure import failure
from pairsearch.search.workers.proof import prove
from pairsearch.search.workers.recorder import Recorder
from pairsearch.studies.configuration import Configuration, Params, describe
from pairsearch.studies.definition import Definition, Paper
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.loading import Loaded

By = Literal["search", "paper"]
Watch = Callable[[str], AbstractContextManager[Callable[[str], None]]]
"""Takes the name of what is being trained; returns a context manager that gives a function to show its progress."""


def unwatched(_: str) -> AbstractContextManager[Callable[[str], None]]:
    """Show no progress: the default `Watch`."""
    return nullcontext(lambda _: None)


def paper_configuration(definition: Definition) -> Configuration:
    """Return the paper's configuration of a study.

    Raises:
        StudyError: the definition has no `[paper]` table.
    """
    if definition.paper is None:
        raise StudyError(f"study {definition.name}: its definition has no [paper] table: leave out --paper")
    return definition.paper.configuration


def configurations_to_evaluate(
    database: Database, study: StoredStudy, *, top: int, paper: bool, limit: int | None = None
) -> list[Configuration]:
    """Return the paper's configuration, or the `top` best finished ones among the first `limit`.

    Raises:
        StudyError: no configuration is finished, or the definition has no `[paper]` table.
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
    """Trains the missing rounds of configurations.

    Args:
        stopping: set from outside to stop; unfinished rounds are lost.
        watch: shows the progress of training.
        again: whether stored rounds without a model are trained again for it.
    """

    machine: Machine
    stopping: threading.Event = field(default_factory=threading.Event)
    watch: Watch = unwatched
    say: Callable[[str], None] = lambda _: None
    models: ModelFolder | None = None
    again: bool = False

    def rounds(
        self,
        database: Database,
        study: StoredStudy,
        loaded: Loaded,
        configuration: Configuration,
        wanted: int,
    ) -> None:
        """Train the missing rounds of a configuration, keep their models, and print what was done.

        Raises:
            KeyboardInterrupt: `stopping` was set.
        """
        from pairsearch.search.workers.worker import worker_name  # noqa: PLC0415 - it imports Optuna

        label = f"{study.name}: {wanted} rounds of {configuration.key}"
        missing = missing_rounds(database, study, configuration, wanted)
        models = self.models if loaded.problem.gives_weights else None
        said, kept = ["all stored before"], 0

        def keep(trained: Sequence[TrainedRound]) -> None:
            nonlocal kept
            if models is not None:
                kept += models.keep(study, configuration, trained)

        if missing:
            with self._watched(label, study) as options:
                request, start = Request(configuration, missing, wanted), time.monotonic()
                stored = evaluate_rounds(
                    database, study, loaded, request, worker=worker_name(), keep=keep, **options
                )
            if self.stopping.is_set() and stored < len(missing):
                raise KeyboardInterrupt
            said = [f"{stored} trained in {time.monotonic() - start:.1f} s"]
            if models is not None and kept:
                said.append(f"models in {models.path}")
        # If the new rounds returned no weights, older ones have no models either.
        if models is not None and (kept or not missing):
            absent = rounds_without_model(database, study, configuration, wanted, models)
            if absent and self.again:
                with self._watched(label, study) as options:
                    request = Request(configuration, absent, wanted)
                    others = train_again(database, study, loaded, request, models, **options)
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
        self.say(f"{label}: {', '.join(said)}")

    @contextmanager
    def _watched(self, label: str, study: StoredStudy) -> Iterator[dict[str, Any]]:
        """Show the progress of a training inside the block; yield the options for the training."""
        metrics = study.traits.metrics
        with self.watch(label) as tell:

            def on_epoch(recorder: Recorder) -> bool:
                shown = [
                    f"{named(name, metrics[name])} {figure(metrics[name], mean_of(recorder.latest(name)))}"
                    for name in study.traits.evaluated or recorder.names()
                ]
                tell(", ".join([f"{label}: epoch {recorder.epoch}", *shown]))
                return not self.stopping.is_set()

            yield {"machine": self.machine, "on_epoch": on_epoch}


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of Table 1: an evaluated configuration beside the paper's figures for the model."""

    chosen_by: By
    """Whether the configuration is among the best of the search, or the paper's."""
    study: StoredStudy
    evaluated: Evaluated
    params: Params

    @property
    def definition(self) -> Definition:
        """The definition of the study."""
        return self.study.definition

    @property
    def paper(self) -> Paper | None:
        """The paper's row, None if the definition has no `[paper]` table."""
        return self.definition.paper


@dataclass(frozen=True, slots=True)
class Chosen:
    """Configurations of a study to evaluate; `by` becomes `TableRow.chosen_by`."""

    by: By
    study: StoredStudy
    configurations: Sequence[Configuration]


def evaluate(
    database: Database,
    given: Sequence[StudyArgument],
    evaluator: Evaluator,
    *,
    by: Sequence[By] = ("search",),
    top: int = 1,
    limit: int | None = None,
    rounds: int | None = None,
    loaded: Mapping[str, Loaded] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[TableRow]:
    """Choose configurations of studies, train their missing rounds, and return a row of Table 1 for each.

    Args:
        database: the database of the studies.
        given: the STUDY arguments.
        evaluator: trains the rounds.
        by: who chooses, one after the other: the search its best, or the paper its own.
        top: how many of the best the search chooses of each study.
        limit: the search chooses among the first `limit` configurations of each study's order.
        rounds: the number of rounds for each configuration; None for the number in each definition.
        loaded: definitions and problems by the name of the study, if they are loaded already.
        say: called with each note of a problem.

    Raises:
        InputError: PyTorch cannot compute on the device.
        StudyError: nothing is finished, there is no paper's configuration, or a study differs from its definition.
        WorkError: this process cannot train, or a problem raised an exception.
    """
    # Everything is checked that can be before data are loaded, or even downloaded.
    check_device(evaluator.machine.device)
    stored = [get_study(database, one.name) for one in given]
    chosen = [
        Chosen(
            one,
            study,
            configurations_to_evaluate(database, study, top=top, paper=one == "paper", limit=limit),
        )
        for one in by
        for study in stored
    ]
    if loaded is None:
        loaded = {one.name: load(database, one, evaluator.machine, say) for one in given}
    for problem in loaded.values():
        existing(database, problem)
    return evaluate_studies(database, chosen, loaded, evaluator, rounds)


def evaluate_studies(
    database: Database,
    chosen: Sequence[Chosen],
    loaded: Mapping[str, Loaded],
    evaluator: Evaluator,
    rounds: int | None,
) -> list[TableRow]:
    """Train the missing rounds, and return a row of Table 1 for each configuration.

    Args:
        loaded: definitions and problems by the name of the study.
        rounds: the number of rounds for each configuration; None for the number in each definition.

    Raises:
        WorkError: this process cannot train, or a problem raised an exception.
    """
    rows = []
    for choice in chosen:
        prove(loaded[choice.study.name], evaluator.machine.device)
    for choice in chosen:
        study = choice.study
        wanted = rounds or study.definition.evaluation.rounds
        for configuration in choice.configurations:
            try:
                evaluator.rounds(database, study, loaded[study.name], configuration, wanted)
            except (PairsearchError, DefinitionError):
                raise
            except Exception as error:
                for line in conceal("".join(traceback.format_exception(error))).splitlines():
                    evaluator.say(line)
                raise WorkError(
                    f"study {study.name}: {describe(configuration.params)}: {failure(error)}: finished rounds are kept"
                ) from error
            rows.append(table_row(database, choice, configuration))
    return rows


def table_row(database: Database, choice: Chosen, configuration: Configuration) -> TableRow:
    """Return the row of Table 1 for a configuration, from its stored rounds."""
    return TableRow(
        chosen_by=choice.by,
        study=choice.study,
        evaluated=read_evaluation(database, choice.study, configuration),
        params=dict(configuration.params),
    )
