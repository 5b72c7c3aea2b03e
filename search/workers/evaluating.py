"""Evaluates configurations of studies, from their choice to a row of Table 1 for each."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from pairsearch.search.common.errors import StudyError, WorkError
from pairsearch.search.common.machine import Machine, cores
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import OPEN_JOBS, JobState
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import mean_of
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.results.evaluations import By, TableRow, read_evaluation
from pairsearch.search.results.formatting import figure
from pairsearch.search.results.formatting import label as named
from pairsearch.search.results.progress import ended_without
from pairsearch.search.results.ranking import ranked_within
from pairsearch.search.setup.arguments import StudyArgument
from pairsearch.search.setup.opening import check_device, existing, load
from pairsearch.search.workers.forking import Zygote
from pairsearch.search.workers.isolation import isolated
from pairsearch.search.workers.models import (
    ModelFolder,
    rounds_without_model,
    stored_models,
    stored_rounds,
    train_again,
)
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.search.workers.recorder import Recorder
from pairsearch.search.workers.rounds import Rounds
from pairsearch.search.workers.searching import pool_of, say_if_too_many, usual_workers
from pairsearch.search.workers.working import prove
from pairsearch.studies.configuration import Configuration, describe
from pairsearch.studies.definition import Definition
from pairsearch.studies.loading import Loaded

# Starting a worker takes some seconds, so that shorter evaluations are quicker with this process alone.
WORTH_SECONDS = 20.0

Watch = Callable[[str], AbstractContextManager[Callable[[str], None]]]
"""Takes the name of what is being trained; returns a context manager that gives a function to show its progress."""


def paper_configuration(definition: Definition) -> Configuration:
    """Return the paper's configuration of a study; raises StudyError where its definition has no `[paper]` table."""
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
        workers: how many processes train, this one among them; None for as many as `usual_workers` where that is worth
            their start.
        zygote: what the others are forked from where it can be; None to start each as a process of its own.
        stored: what is said of rounds that nobody has to train.
    """

    machine: Machine
    stopping: threading.Event = field(default_factory=threading.Event)
    watch: Watch = lambda _: nullcontext(lambda _: None)
    say: Callable[[str], None] = lambda _: None
    models: ModelFolder | None = None
    again: bool = False
    workers: int | None = None
    zygote: Zygote | None = None
    stored: str = "all stored before"

    @contextmanager
    def with_others(
        self,
        database: Database,
        studies: Sequence[StoredStudy],
        given: Sequence[StudyArgument],
        seconds: float,
    ) -> Iterator[Evaluator]:
        """Have other worker processes train rounds too during a `with` block, and yield what trains them here.

        Args:
            given: the STUDY arguments, for the others; none to have no others.
            seconds: how long one process would train.

        Raises:
            WorkError: this machine cannot start so many.
        """
        count = self.workers or (usual_workers(self.machine) if seconds > WORTH_SECONDS else 1)
        jobs = sum(Ledger(database, study).jobs_left(JobState.PENDING, limit=0) for study in studies)
        others = min(count, jobs) - 1 if given else 0
        if others <= 0:
            yield self
            return
        say_if_too_many(studies, others + 1, self.say)
        # The first GPU is this process's own (`pairsearch evaluate`).
        theirs = replace(self.machine, gpus=self.machine.gpus[1:] or self.machine.gpus)
        with pool_of(database, given, theirs, others, self.zygote, 0) as pool:
            yield replace(self, machine=replace(self.machine, threads=max(1, cores() - others)))
            for complaint in pool.complaints():
                self.say(complaint)

    def rounds(
        self,
        database: Database,
        study: StoredStudy,
        loaded: Loaded,
        configuration: Configuration,
        wanted: int,
    ) -> None:
        """Train the rounds of a configuration that there are jobs for, keep their models, and say what was done."""
        ledger, label = Ledger(database, study, self.machine.lease), _label(study, configuration, wanted)
        before, started = stored_rounds(database, study, configuration), time.monotonic()
        rounds = Rounds(loaded, self.machine)
        said = [self.stored]
        if not before.keys() >= set(range(wanted)):
            self._work(ledger, rounds, configuration, label)
            if left := ledger.jobs_left(*OPEN_JOBS, key=configuration.key, limit=0):
                if ledger.stopped():
                    raise WorkError(
                        f"stopped by `pairsearch stop` ({label}, {left} jobs are left): run it again to go on"
                    )
                raise KeyboardInterrupt
            if (reason := ledger.failed_rounds(configuration.key)) is not None:
                raise WorkError(
                    f"study {study.name}: {describe(configuration.params)}: {reason}: finished rounds are kept"
                )
            trained = len(stored_rounds(database, study, configuration)) - len(before)
            said = [f"{trained} trained in {time.monotonic() - started:.1f} s"]
        if self.models is not None and loaded.problem.gives_weights:
            said += self._models(self.models, ledger, rounds, configuration, wanted)
        self.say(f"{label}: {', '.join(said)}")

    def _work(self, ledger: Ledger, rounds: Rounds, configuration: Configuration, label: str) -> None:
        """Be a worker on the rounds of a configuration, until they are all stored or have failed."""
        from pairsearch.search.workers.worker import Worker  # noqa: PLC0415 - it imports Optuna

        with self.watch(label) as tell:
            worker = Worker(
                ledger,
                CrossValidation(rounds.loaded, self.machine.device, threads=self.machine.threads),
                self.machine,
                stopping=self.stopping,
                limit=0,
                key=configuration.key,
                say=lambda _: None,
                complain=self.say,
                on_epoch=lambda recorder: tell(_epoch(ledger.study, label, recorder)),
            )
            worker.run()
        if worker.unkept and self.models is not None:
            raise worker.unkept[0]

    def _models(
        self, folder: ModelFolder, ledger: Ledger, rounds: Rounds, configuration: Configuration, wanted: int
    ) -> list[str]:
        """Write the models that the folder lacks, and say so."""
        database, study, label = ledger.database, ledger.study, _label(ledger.study, configuration, wanted)
        absent = rounds_without_model(database, study, configuration, wanted, folder)
        known = stored_models(database, study, configuration.key, absent)
        for number, content in known.items():
            folder.write(study, configuration.key, number, content)
        said = [f"models in {folder.path}"] if known else []
        left = tuple(number for number in absent if number not in known)
        if left and self.again:
            with self.watch(label) as tell:

                def on_epoch(recorder: Recorder) -> bool:
                    tell(_epoch(study, label, recorder))
                    return not self.stopping.is_set()

                others = train_again(database, study, rounds, configuration, left, folder, on_epoch)
            if others is None:
                raise KeyboardInterrupt
            same = (
                f"{others} of them with other figures than those stored (another processor or other versions)"
                if others
                else "with the stored figures bit for bit"
            )
            said.append(f"{len(left)} trained again for their models, {same}")
        elif left:
            said.append(
                f"{len(left)} without a model in {folder.path} (--models {folder.path} trains them again)"
            )
        return said


def _label(study: StoredStudy, configuration: Configuration, wanted: int) -> str:
    return f"{study.name}: {wanted} rounds of {configuration.key}"


def _epoch(study: StoredStudy, label: str, recorder: Recorder) -> str:
    """Return a line about an epoch of rounds."""
    metrics = study.traits.metrics
    shown = [
        f"{named(name, metrics[name])} {figure(metrics[name], mean_of(recorder.latest(name)))}"
        for name in study.traits.evaluated or recorder.names()
    ]
    return ", ".join([f"{label}: epoch {recorder.epoch}", *shown])


@dataclass(frozen=True, slots=True)
class Chosen:
    """Configurations of a study to evaluate; `by` becomes `TableRow.chosen_by`."""

    by: By
    study: StoredStudy
    configurations: Sequence[Configuration]


def choose(
    database: Database,
    given: Sequence[StudyArgument],
    machine: Machine,
    loaded: dict[str, Loaded],
    *,
    by: Sequence[By] = ("search",),
    top: int = 1,
    limit: int | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Chosen]:
    """Choose configurations of studies, and load their problems; nothing is written.

    Args:
        loaded: definitions and problems by the name of the study that are loaded already; the others are added.
        by: who chooses, one after the other: the search its best, or the paper its own.
        limit: the search chooses among the first `limit` configurations of each study's order.
        say: called with each note of a problem.

    Raises:
        InputError: PyTorch cannot compute on the device.
        StudyError: nothing is finished, there is no paper's configuration, or a study differs from its definition.
    """
    # Everything is checked that can be before data are loaded, or even downloaded.
    check_device(machine.device)
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
    for one in given:
        if one.name not in loaded:
            loaded[one.name] = load(database, one, machine, say)
    for problem in loaded.values():
        existing(database, problem)
    return chosen


def evaluate(
    database: Database,
    chosen: Sequence[Chosen],
    given: Sequence[StudyArgument],
    loaded: Mapping[str, Loaded],
    evaluator: Evaluator,
    rounds: int | None = None,
) -> list[TableRow]:
    """Train the missing rounds, and return a row of Table 1 for each configuration.

    Args:
        given: the STUDY arguments, for further workers; none to have no others.

    Raises:
        WorkError: this process cannot train, or a problem raised an exception.
    """
    for choice in chosen:
        prove(loaded[choice.study.name], evaluator.machine.device)
    # All of them first, so that other workers can take some.
    seconds = ask(database, chosen, rounds)
    return complete(database, chosen, given, loaded, evaluator, rounds, seconds)


def ask(
    database: Database,
    chosen: Sequence[Chosen],
    rounds: int | None,
    leave: Callable[[str], None] | None = None,
) -> float:
    """Insert jobs for the missing rounds of configurations.

    Args:
        leave: called with a line about them if they are left to workers that run elsewhere; None for those to come.

    Returns:
        How many seconds of training they are by the times of the configurations' folds; infinity if one is not known.
    """
    seconds = 0.0
    for choice in chosen:
        study, wanted = choice.study, _wanted(choice.study, rounds)
        ledger = Ledger(database, study)
        for configuration in choice.configurations:
            ledger.insert_rounds(configuration, wanted)
            left = len(set(range(wanted)) - stored_rounds(database, study, configuration).keys())
            if leave is not None:
                said = f"{left} of them are left to workers" if left else "all stored before"
                leave(f"{_label(study, configuration, wanted)}: {said}")
            elif left:
                ledger.go_on()
            if not left:
                continue
            outcome = ledger.outcome(configuration.key)
            if outcome is None or not (epochs := sum(fold.epochs for fold in outcome.folds)):
                seconds = math.inf
            else:
                seconds += left * study.definition.evaluation_epochs * outcome.seconds / epochs
    return seconds


def complete(
    database: Database,
    chosen: Sequence[Chosen],
    given: Sequence[StudyArgument],
    loaded: Mapping[str, Loaded],
    evaluator: Evaluator,
    rounds: int | None,
    seconds: float = 0.0,
) -> list[TableRow]:
    """Train the rounds that were asked for, as far as nobody has, keep their models, and return the rows of `evaluate`.

    Args:
        seconds: how long one process would train.
    """
    rows = []
    with evaluator.with_others(database, [choice.study for choice in chosen], given, seconds) as each:
        for choice in chosen:
            study = choice.study
            with isolated(loaded[study.name], database, evaluator.stopping) as trained:
                for configuration in choice.configurations:
                    each.rounds(database, study, trained, configuration, _wanted(study, rounds))
                    found = read_evaluation(database, study, configuration)
                    rows.append(TableRow(choice.by, study, found, dict(configuration.params)))
    return rows


def _wanted(study: StoredStudy, rounds: int | None) -> int:
    return rounds or study.definition.evaluation.rounds
