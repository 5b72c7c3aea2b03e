"""A worker: claims configurations, trains them and stores their results, until none is left or it is stopped."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pairsearch.search.database.connection import Database
from pairsearch.search.database.retry import Returned, patiently
from pairsearch.search.database.states import OPEN, State
from pairsearch.search.errors import DatabaseAwayError, DiskFullError, WorkError
from pairsearch.search.ledger.configurations import Claim, Ledger, new_token
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.machine import PATIENCE_SECONDS
from pairsearch.search.mirror.contents import report_steps
from pairsearch.search.mirror.sampling import PROPOSALS, Pruner, Sampler
from pairsearch.search.mirror.storage import TrialStorage
from pairsearch.search.mirror.study import FinishedTrialError
from pairsearch.search.mirror.trials import Mirror
from pairsearch.search.redaction import conceal
from pairsearch.search.workers.failure import failure
from pairsearch.search.workers.faults import Faults, Objective
from pairsearch.search.workers.heartbeat import Heartbeat
from pairsearch.search.workers.objective import Step
from pairsearch.search.workers.racing import Racer
from pairsearch.search.workers.tally import Tally

log = logging.getLogger(__name__)

# How long a worker without work pauses before it looks again for pending configurations and expired leases.
IDLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt to train a configuration ended: by one of the first three, or by none where it was interrupted.

    Args:
        over: a line about the time limit.
        reported: steps that Optuna's trial has.
    """

    outcome: Outcome | None = None
    error: Exception | None = None
    over: str | None = None
    reported: frozenset[int] = frozenset()


def worker_name() -> str:
    """Return a unique name of a worker, which begins with its host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"


class Worker:
    """A worker on one study.

    Args:
        stopping: set from outside to hand the current configuration back and end.
        ledger: the study's ledger; None to make one with the usual lease.
        limit: work on the first `limit` configurations of the study only.
        patience: seconds for which calls are repeated while the database is unavailable; fewer once `stopping` is set.
        name: of the worker; None for `worker_name()`.
        clock: a monotonic clock in seconds, for the study's time limit.
    """

    def __init__(
        self,
        database: Database,
        storage: TrialStorage,
        study: StoredStudy,
        objective: Objective,
        *,
        stopping: threading.Event,
        ledger: Ledger | None = None,
        limit: int | None = None,
        patience: float = PATIENCE_SECONDS,
        name: str | None = None,
        say: Callable[[str], None] = log.info,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger or Ledger(database, study.id)
        self.mirror = Mirror(database, storage, study, self.ledger)
        self.sampler = None if study.definition.sampler == "grid" else Sampler(self.mirror)
        kind = study.definition.pruner
        self.pruner = None if kind in ("none", "race") else Pruner(self.mirror)
        self.racer = Racer(database, study) if kind == "race" else None
        self.study = study
        self.objective = objective
        self.stopping = stopping
        self.limit = limit
        self.patience = patience
        self.name = name or worker_name()
        self.say = say
        self.clock = clock
        self.tally = Tally()
        self._faults = Faults(study.name, self.ledger, objective, self._patiently)
        # Whether a traceback was printed.
        self._traceback_shown = False
        # The token of a claim whose answer has not come yet; it stays set while the database does not answer.
        self._token: str | None = None
        # The trial that a sampler proposed and that has no claim yet.
        self._asked: int | None = None

    def run(self, max_trials: int | None = None) -> Tally:
        """Work until no configuration is pending or running, `max_trials` are done, or the worker is stopped.

        Raises:
            DatabaseAwayError: the database did not answer for longer than the worker's patience.
            WorkError: this worker cannot train; what it claimed is handed back.
        """
        # The first call runs git and reads the processor's name, which takes a while, so it comes before any lease.
        self.objective.provenance()
        self._patiently(self._mend)
        done = 0
        while not self.stopping.is_set() and (max_trials is None or done < max_trials):
            self._faults.look_again()
            taken = self._patiently(self._next)
            self._token = None
            if taken is not None:
                self._work(*taken)
                done += 1
            elif self._patiently(lambda: self.ledger.count(*OPEN, limit=self.limit)) == 0:
                break
            elif not self._patiently(self._mend):
                # Other workers train the rest; if one of them dies, its configuration becomes pending again.
                self.stopping.wait(IDLE_SECONDS)
        self._patiently(self._mend)
        return self.tally

    def _mend(self) -> int:
        lapsed = self.ledger.reap()
        for lapse in lapsed:
            self.say(f"{self.study.name}: lease of {lapse.worker} ran out, back to the grid: {lapse.key}")
        return len(lapsed) + self.mirror.reconcile()

    def _next(self) -> tuple[Claim, int] | None:
        if self._asked is not None:
            # The database failed between the sampler's proposal and its claim.
            self.mirror.abandon(self._asked, "the answer to its claim was lost")
            self._asked = None
        if (claim := self._unanswered()) is not None:
            return self._started(claim)
        if self.sampler is not None:
            for _ in range(PROPOSALS):
                # Nothing is left to propose.
                if self.ledger.count(State.PENDING, limit=self.limit, but=self._faults.failures) == 0:
                    break
                try:
                    if (taken := self._proposed(self.sampler)) is not None:
                        return taken
                except FinishedTrialError:
                    self._asked = None
                    continue  # another worker, whose clock is ahead, closed the trial as one left behind
        claim = self._claimed()
        if (
            claim is None
            and self._faults.failures
            and self.ledger.count(State.RUNNING, limit=self.limit) == 0
        ):
            # No other worker is active that could try what failed here.
            self._faults.before_trying_again()
            self._token = new_token()
            claim = self.ledger.claim(self.name, limit=self.limit, token=self._token)
        return None if claim is None else self._started(claim)

    def _proposed(self, sampler: Sampler) -> tuple[Claim, int] | None:
        """Claim the configuration that the sampler proposes; None if it is not pending."""
        trial_id, configuration = sampler.ask()
        self._asked = trial_id
        claim = self._claimed(configuration.key)
        if claim is None:
            sampler.answer(trial_id, configuration)
        else:
            with self._handed_back_on_error(claim):
                self.mirror.adopt(claim, trial_id, self.objective.provenance())
        self._asked = None
        return None if claim is None else (claim, trial_id)

    def _claimed(self, key: str | None = None) -> Claim | None:
        self._token = new_token()
        return self.ledger.claim(
            self.name, limit=self.limit, key=key, token=self._token, but=self._faults.failures
        )

    def _unanswered(self) -> Claim | None:
        """Return the claim of a call that the database did not answer, if the claim was made."""
        return None if self._token is None else self.ledger.held(self.name, self._token)

    def _started(self, claim: Claim) -> tuple[Claim, int]:
        with self._handed_back_on_error(claim):
            return claim, self.mirror.start(claim, self.objective.provenance())

    def _work(self, claim: Claim, trial_id: int) -> None:
        with Heartbeat(self.ledger, claim) as heartbeat:
            ended, final = self._attempt(claim, trial_id, heartbeat), False
            if ended.error is not None and not (self.stopping.is_set() or heartbeat.lost.is_set()):
                final = self._trains_another(claim, trial_id, ended.error)
                if final:
                    ended = self._attempt(claim, trial_id, heartbeat)
        if ended.outcome is not None:
            self._faults.acquit()
            self._store(claim, trial_id, ended.outcome, ended.reported)
        elif ended.over is not None:
            self._fail(claim, trial_id, ended.over, final=True)
        elif ended.error is None or self.stopping.is_set():
            # An exception may come from the stop itself, as when a signal reached processes of the problem too.
            self._give_up(claim, trial_id, lost=heartbeat.lost.is_set())
        else:
            self._fail(claim, trial_id, failure(ended.error), final=final, raised=ended.error)

    def _attempt(self, claim: Claim, trial_id: int, heartbeat: Heartbeat) -> Attempt:
        """Train the configuration once."""
        steps = report_steps(self.study)
        reported: set[int] = set()
        values: list[float] = []
        limit, begun = self.study.definition.time_limit, self.clock()
        over: str | None = None

        def progress(step: Step) -> State | None:
            nonlocal over
            if self.stopping.is_set() or heartbeat.lost.is_set():
                return State.PENDING
            if limit is not None and step.done < step.of and self.clock() - begun > limit:
                over = (
                    f"longer than the time limit of {limit:g} s, after {step.done} of {step.of} {step.unit}"
                )
                return State.FAILED
            if step.number in steps and step.value is not None:
                values.append(step.value)
                try:
                    self.mirror.report(trial_id, step.number, step.value)
                    reported.add(step.number)
                    if self.pruner is not None and self.pruner.should_prune(trial_id):
                        return State.PRUNED
                    if self.racer is not None and self.racer.should_stop(values):
                        return State.PRUNED
                except (DatabaseAwayError, DiskFullError) as error:
                    log.warning("report of step %d put off: %s", step.number, error)
            return None

        try:
            outcome = self.objective(claim.configuration, progress)
        except Exception as error:
            return Attempt(error=error)
        except KeyboardInterrupt:  # raised by the problem itself, or by a second Ctrl-C
            self._give_up(claim, trial_id, lost=False)
            raise
        return Attempt(outcome, over=over, reported=frozenset(reported))

    def _store(self, claim: Claim, trial_id: int, outcome: Outcome, reported: frozenset[int]) -> None:
        with self._handed_back_on_error(claim):
            counted = self._patiently(lambda: self.ledger.finish(claim, outcome))
        if not counted:
            self.tally.superseded += 1
            self.say(f"{self.study.name}: result superseded, the lease was lost: {claim.configuration.key}")
            self._patiently(lambda: self.mirror.abandon(trial_id, "superseded: the lease was lost"))
            return
        self._patiently(lambda: self.mirror.finish(trial_id, outcome, reported))
        self.tally.finished += 1
        figure = (
            outcome.reason if outcome.value is None else f"{self.study.definition.metric} {outcome.value:.4f}"
        )
        self.say(
            f"{self.study.name}: {outcome.state} in {outcome.seconds:.1f} s, {figure}: {claim.configuration.key}"
        )

    def _fail(
        self, claim: Claim, trial_id: int, reason: str, *, final: bool, raised: Exception | None = None
    ) -> None:
        """Record a failed attempt.

        Args:
            reason: one line that says why.
            final: whether the configuration is at fault; otherwise it is tried again, here or elsewhere.
        """
        trace = None
        if raised is not None:
            trace = conceal("".join(traceback.format_exception(raised)))
        state = self._patiently(lambda: self.ledger.fail_attempt(claim, reason, final=final, traceback=trace))
        self._patiently(lambda: self.mirror.abandon(trial_id, reason[:500]))
        self.tally.failed += state == State.FAILED
        after = {State.FAILED: "failed", State.PENDING: "to be tried again", None: "lease lost"}[state]
        if trace is not None and not self._traceback_shown:
            # Further tracebacks are mostly the same.
            self._traceback_shown = True
            for line in trace.rstrip().splitlines():
                self.say(line)
        self.say(f"{self.study.name}: {reason} ({after}): {claim.configuration.key}")
        if state is not None and not final:
            self._faults.add(claim.configuration.key, reason)

    def _trains_another(self, claim: Claim, trial_id: int, raised: Exception) -> bool:
        """Ask `Faults.trains_another`; where this worker is at fault, the configuration is handed back first."""
        try:
            return self._faults.trains_another(failure(raised))
        except (WorkError, KeyboardInterrupt):
            self._give_up(claim, trial_id, lost=False)
            raise

    def _give_up(self, claim: Claim, trial_id: int, *, lost: bool) -> None:
        if not lost and self._patiently(lambda: self.ledger.hand_back(claim)):
            self.tally.handed_back += 1
            self.say(f"{self.study.name}: handed back: {claim.configuration.key}")
        self._patiently(lambda: self.mirror.abandon(trial_id, "lease lost" if lost else "handed back"))

    @contextmanager
    def _handed_back_on_error(self, claim: Claim) -> Iterator[None]:
        try:
            yield
        except Exception:
            # This write may fail too, for example if the disk is full; the lease then runs out by itself.
            try:
                self.ledger.hand_back(claim)
            except Exception as error:
                log.warning("could not hand back %s: %s", claim.configuration.key, error)
            raise

    def _patiently(self, call: Callable[[], Returned]) -> Returned:
        return patiently(call, self.patience, self.stopping)
