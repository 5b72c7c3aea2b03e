"""A worker: claims configurations, trains them and stores their results, until none is left or it is stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from pairsearch.search.common.errors import DatabaseAwayError, DiskFullError, WorkError
from pairsearch.search.common.machine import ONE_CORE, Machine
from pairsearch.search.database.driver_errors import deleted_meanwhile
from pairsearch.search.database.retry import Returned, patiently
from pairsearch.search.database.states import State
from pairsearch.search.ledger.claims import Claim, new_token, worker_name
from pairsearch.search.ledger.jobs import Finish, Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.workers.advising import Adviser, Racer
from pairsearch.search.workers.attempts import ClaimKeeper, handed_back_on_error, runs_of
from pairsearch.search.workers.choosing import Choice
from pairsearch.search.workers.failure import TimeLimitError, failure, traceback_of
from pairsearch.search.workers.faults import Faults
from pairsearch.search.workers.heartbeat import Heartbeat
from pairsearch.search.workers.objective import CrossValidation, Step
from pairsearch.search.workers.recorder import Recorder
from pairsearch.search.workers.rounds import NewRounds, Rounds
from pairsearch.search.workers.run_files import RunFiles
from pairsearch.search.workers.tally import Tally
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.problem import Impossible

log = logging.getLogger(__name__)

# How long a worker without work pauses before it looks again for pending configurations and expired leases.
IDLE_SECONDS = 1.0
# Folds that take less are claimed several at once, and stored in one transaction.
SHORT_SECONDS = 0.1
# By these a configuration has failed at once: it takes too long, or its problem found it impossible.
OVER = (Impossible, TimeLimitError)


class Worker:
    """A worker on one study.

    Attributes:
        unkept: why models of rounds could not be kept; their figures are stored.

    Args:
        stopping: set from outside to hand the current configuration back and end.
        limit: work on rounds and on folds of the first `limit` configurations of the study only.
        key: work on this configuration only.
        on_epoch: called after each epoch of rounds.
        say: called with each line about what was done.
        complain: called with each line about what failed; None for `say`.
        name: of the worker; None for `worker_name()`.
    """

    def __init__(
        self,
        ledger: Ledger,
        objective: CrossValidation,
        machine: Machine = ONE_CORE,
        *,
        stopping: threading.Event,
        limit: int | None = None,
        key: str | None = None,
        on_epoch: Callable[[Recorder], None] = lambda _: None,
        name: str | None = None,
        say: Callable[[str], None] = log.info,
        complain: Callable[[str], None] | None = None,
    ) -> None:
        self.ledger = ledger
        self.study = study = ledger.study
        definition = study.definition
        sampled, pruned = definition.sampler != "grid", definition.pruner not in ("none", "race")
        adviser = Adviser(ledger.database, study) if sampled or pruned else None
        self.pruner: Adviser | Racer | None = adviser if pruned else None
        if definition.pruner == "race":
            self.pruner = Racer(ledger.database, study)
        self.objective = objective
        self.machine = machine
        self.stopping = stopping
        self.on_epoch = on_epoch
        self._checkpoints, self._models = (
            RunFiles(machine.checkpoints, study),
            RunFiles(machine.models, study),
        )
        self.name = name or worker_name()
        self.say = say
        self.complain = complain or say
        self.tally = Tally()
        self.unkept: list[ProblemError | WorkError] = []
        self._heartbeat = Heartbeat(self.ledger, stopping)
        self._faults = Faults(self.ledger, objective, self._patiently)
        sampler = adviser if sampled else None
        self._choice = Choice(self.ledger, self.name, self._faults, sampler, {"limit": limit, "key": key})
        # Whether a traceback was printed.
        self._traceback_shown = False
        # When a fold was stored last.
        self._stored = float("-inf")
        # The claim that came with the end of the last one.
        self._following: Claim | None = None

    def run(self, max_trials: int | None = None) -> Tally:
        """Work until no configuration is pending or running, `max_trials` are done, or the worker is stopped.

        Raises:
            DatabaseAwayError: the database did not answer for longer than the worker's patience.
            WorkError: this worker cannot train; what it claimed is handed back.
        """
        # The first call runs git and reads the processor's name, which takes a while, so it comes before any lease.
        self.objective.provenance()
        if self.ledger.view.notice:
            self.say(f"{self.study.name}: {self.ledger.view.notice}")
        self._patiently(self._mend)
        with self._heartbeat:
            self._loop(max_trials)
        self._patiently(self._mend)
        return self.tally

    def _loop(self, max_trials: int | None) -> None:
        done = 0
        try:
            while not self.stopping.is_set() and (max_trials is None or done < max_trials):
                self._faults.look_again()
                claim, self._following = self._following or self._patiently(self._choice.next), None
                if claim is not None:
                    done += self._work(claim)
                elif self._patiently(self._choice.is_over):
                    break
                elif not self._patiently(self._reap):
                    # Other workers train the rest; if one of them dies, its job becomes pending again.
                    self.stopping.wait(IDLE_SECONDS)
        finally:
            # Also where the end of the last one could not be said, as standard output was closed.
            if self._following is not None:
                self._give_up(self._following, lost=False)

    def _mend(self) -> None:
        self._reap()
        # It looks at every result, so it is nothing for the many workers that wait for the last jobs of a large study.
        self.ledger.view.complete()

    def _reap(self) -> int:
        lapsed = self.ledger.reap()
        for key, worker in lapsed:
            self.say(f"{self.study.name}: lease of {worker} ran out, back to the grid: {key}")
        return len(lapsed)

    def _work(self, claim: Claim) -> bool:
        """Train a job; return whether its configuration has ended, or all of it was tried."""
        ended_before = self.tally.finished + self.tally.failed
        self._train(claim)
        whole = claim.kind == "round" or claim.count == self.study.definition.folds
        return whole or self.tally.finished + self.tally.failed > ended_before

    def _train(self, claim: Claim) -> None:
        with self._heartbeat.of(claim):
            ended, final = self._attempt(claim), False
            if isinstance(ended, Exception) and not isinstance(ended, OVER) and not self._is_to_end():
                final = self._trains_another(claim, ended)
                if final:
                    ended = self._attempt(claim)
        if isinstance(ended, Outcome | NewRounds):
            self._faults.acquit()
        if isinstance(ended, NewRounds):
            self._store_rounds(claim, ended)
        elif isinstance(ended, Outcome):
            self._store(claim, ended)
        elif isinstance(ended, OVER):
            self._fail(claim, ended, final=True)
        elif ended is None or self.stopping.is_set():
            # An exception may come from the stop itself, as when a signal reached processes of the problem too.
            self._give_up(claim, lost=self._heartbeat.lost.is_set())
        else:
            self._fail(claim, ended, final=final)

    def _is_to_end(self) -> bool:
        """Whether a training is to end without its result."""
        return self.stopping.is_set() or self._heartbeat.lost.is_set()

    def _attempt(self, claim: Claim) -> Outcome | NewRounds | Exception | None:
        """Train a job once; return its result, what the problem raised, or None where it was interrupted."""
        train = self._folds(claim) if claim.kind == "fold" else self._rounds(claim)
        try:
            return train()
        except Exception as error:
            return error
        except KeyboardInterrupt:  # raised by the problem itself, or by a second Ctrl-C
            self._give_up(claim, lost=False)
            raise

    def _folds(self, claim: Claim) -> Callable[[], Outcome | None]:
        """Return what trains the folds of a job."""
        steps = self.study.report_steps
        reports = self._patiently(lambda: self.ledger.reports_before(claim)) if claim.stored else {}

        def progress(step: Step) -> State | None:
            if self._is_to_end():
                return State.PENDING
            try:
                if not self._mended(lambda: self._noted(claim, step)):
                    return State.PENDING
                if step.number in steps and step.value is not None:
                    reports[step.number] = step.value
                    if self.pruner is not None and self.pruner.should_prune(claim.configuration, reports):
                        return State.PRUNED
            except (DatabaseAwayError, DiskFullError) as error:
                log.warning("report of step %d put off: %s", step.number, error)
            return None

        objective = self.objective
        if not self.study.traits.together:
            objective = objective.on(claim.left, self._keeper(claim))
        return lambda: objective(claim.configuration, progress)

    def _rounds(self, claim: Claim) -> Callable[[], NewRounds | None]:
        """Return what trains the rounds of a job."""

        def on_epoch(recorder: Recorder) -> bool:
            self.on_epoch(recorder)
            recorder.may_go_on = not self._heartbeat.lost.is_set()
            return not self._is_to_end()

        train, keeper = Rounds(self.objective.loaded, self.machine), self._keeper(claim)

        def new_rounds() -> NewRounds | None:
            trained = train(claim.configuration, claim.left, on_epoch, keeper)
            # Under the lease, for large models take time to write.
            return NewRounds(self.ledger, claim, trained, self._models) if trained else None

        return new_rounds

    def _keeper(self, claim: Claim) -> ClaimKeeper:
        return ClaimKeeper(self.ledger, claim, self._checkpoints, self._mended, self._patiently)

    def _store_rounds(self, claim: Claim, rounds: NewRounds) -> None:
        with handed_back_on_error(self.ledger, claim):
            counted = rounds.store(self._patiently)
        self.tally.superseded += not counted
        said = "rounds superseded, the lease was lost"
        if counted:
            self._checkpoints.clear(claim, claim.numbers)
            self.tally.rounds += len(rounds)
            said = str(rounds)
            self.unkept += rounds.refused
            for error in rounds.refused:
                self.complain(f"{self.study.name}: {error}: the figures are stored without the model")
        self.say(f"{self.study.name}: {said}: {claim.configuration.key}")

    def _noted(self, claim: Claim, step: Step) -> bool:
        """Store a fold that has ended, or show what is reported of all folds; return False if the claim was lost."""
        if step.ended is not None:
            # The last one is stored with the end of the job, and so are short ones: there is little to lose.
            short, moment = (step.ended.seconds or 0.0) < SHORT_SECONDS, time.monotonic()
            self._choice.runs = self.study.definition.folds if short else 1
            if step.ended.index == claim.numbers[-1] or (short and moment - self._stored < SHORT_SECONDS):
                return True
            self._stored = moment
            if not self.ledger.store(claim, step.ended, self.objective.provenance()):
                return False
            self._checkpoints.clear(claim, [step.ended.index])
            return True
        if step.number in self.study.report_steps and step.value is not None:
            self.ledger.report(claim, step.number, step.value)
        return True

    def _store(self, claim: Claim, outcome: Outcome) -> None:
        goes_on = not self.stopping.is_set() and claim.configuration.key not in self._faults.failures
        token = new_token() if goes_on else None
        with handed_back_on_error(self.ledger, claim):
            counted, self._following = self._patiently(
                lambda: self.ledger.finish_and_claim(claim, outcome, token, self._choice.runs)
            )
        if not counted:
            self.tally.superseded += 1
            self.say(f"{self.study.name}: result superseded, the lease was lost: {claim.configuration.key}")
            return
        every = range(self.study.definition.folds)
        self._checkpoints.clear(claim, claim.numbers if counted == Finish.STORED else every)
        self.tally.finished += counted == Finish.CLOSED
        figure = (
            outcome.reason if outcome.value is None else f"{self.study.definition.metric} {outcome.value:.4f}"
        )
        part = "" if claim.count == self.study.definition.folds else f"{runs_of(claim)} "
        self.say(
            f"{self.study.name}: {part}{outcome.state} in {outcome.seconds:.1f} s, {figure}: "
            f"{claim.configuration.key}"
        )

    def _fail(self, claim: Claim, error: Exception, *, final: bool) -> None:
        """Record a failed attempt; where it is not `final`, the configuration is tried again, here or elsewhere."""
        reason, trace = failure(error), None if isinstance(error, OVER) else traceback_of(error)
        state = self._patiently(lambda: self.ledger.fail_attempt(claim, reason, final=final, traceback=trace))
        self.tally.failed += state == State.FAILED
        after = {State.FAILED: "failed", State.PENDING: "to be tried again", None: "lease lost"}[state]
        if trace is not None and not self._traceback_shown:
            # Further tracebacks are mostly the same.
            self._traceback_shown = True
            for line in trace.rstrip().splitlines():
                self.complain(line)
        self.complain(f"{self.study.name}: {reason} ({after}): {claim.configuration.key}")
        if not final:
            self._faults.add(claim, reason)

    def _trains_another(self, claim: Claim, raised: Exception) -> bool:
        """Ask `Faults.trains_another`; where this worker is at fault, the job is handed back first."""
        try:
            return self._faults.trains_another(failure(raised))
        except (WorkError, KeyboardInterrupt):
            self._give_up(claim, lost=False)
            raise

    def _give_up(self, claim: Claim, *, lost: bool) -> None:
        if not lost and self._patiently(lambda: self.ledger.hand_back(claim)):
            self.tally.handed_back += 1
            self.say(f"{self.study.name}: handed back: {claim.configuration.key}")

    def _patiently(self, call: Callable[[], Returned]) -> Returned:
        return patiently(lambda: self._mended(call), self.machine.patience, self.stopping)

    def _mended(self, call: Callable[[], Returned]) -> Returned:
        """Call, and once more if somebody had deleted tables of Optuna's, which are made again in between."""
        try:
            return call()
        except DBAPIError as error:
            if not deleted_meanwhile(error):
                raise
            self.ledger.view.complete()
            return call()
