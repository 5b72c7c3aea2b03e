"""Has workers on a cluster work on studies, and follows them by the ledger to their end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter

from pairsearch.search.common.errors import DatabaseAwayError, StorageError, WorkError
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import JobState
from pairsearch.search.engines.contract import Count, Engine, EngineError, Order
from pairsearch.search.engines.orders import Cluster
from pairsearch.search.ledger import submissions
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.ledger.submissions import Submission
from pairsearch.search.results.progress import Progress, read_progress
from pairsearch.search.setup.opening import reconcile
from pairsearch.search.workers.searching import conclude

# Seconds between two looks at the ledger, and between two questions to an engine, which may serve many.
LOOK_SECONDS = 1.0
ASK_SECONDS = 5.0
# Seconds after the last result in which workers end by themselves, and after which those that are left are ended.
GRACE_SECONDS = 10.0


class Fleet:
    """Workers of studies on a cluster; as many are submitted again in all, in place of those that died.

    Args:
        left: returns how much of a study is left to be trained.
        limit: look at the first `limit` configurations of each study only.
        say: called with a line about what was done.
        complain: called with a line about what went wrong.
    """

    def __init__(
        self,
        database: Database,
        studies: Sequence[StoredStudy],
        cluster: Cluster,
        order: Order,
        left: Callable[[Progress], int] = attrgetter("open"),
        *,
        limit: int | None = None,
        say: Callable[[str], None] = lambda _: None,
        complain: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database, self._studies = database, studies
        self._engine, self._order = cluster.engine, order
        self._left, self._limit = left, limit
        self._say, self._complain = say, complain
        self._workers = self._spare = cluster.workers
        self._own: list[Submission] = []
        self._silent = self._away = False

    def look(self) -> list[Progress]:
        """Read the progress of each study."""
        return [read_progress(self._database, study, self._limit) for study in self._studies]

    def left(self) -> int:
        """Count what is left to be trained."""
        return sum(map(self._left, self.look()))

    def begin(self) -> bool:
        """Submit the workers that are missing, and return whether something is left for them.

        Where the engine refuses, nothing is stored.
        """
        for study in self._studies:
            Ledger(self._database, study).go_on()
        if not self.left():
            return False
        alive = self.alive()
        if alive:
            self._say(f"{self._engine.name}: {workers(alive)} there already")
        self._submit(self._workers - alive)
        return True

    def _submit(self, count: int) -> None:
        if count <= 0:
            return
        ids = self._engine.submit(self._order, count)
        address = self._engine.address or ""
        ours = frozenset(study.id for study in self._studies)
        made = [Submission(self._engine.name, address, native, many, ours) for native, many in ids.items()]
        self._own += made
        if self._engine.lasting:
            try:
                submissions.record(self._database, made)
            except BaseException:
                # Nobody could count or end what is not stored.
                with suppress(EngineError):
                    self._engine.stop(ids)
                raise
        self._say(
            f"{self._engine.name}: {workers(count)} submitted ({', '.join(list(ids)[:3])}{' ...' * (len(ids) > 3)})"
        )
        if self._engine.lasting:
            with suppress(EngineError, DatabaseAwayError):
                self._withdraw()

    def _withdraw(self) -> None:
        """End those of ours that are too many, as another command submitted workers at the same time, and before."""
        alive, surplus = 0, []
        for one, count in self._counts().items():  # in the order in which they were stored
            if alive >= self._workers and count.alive and one in self._own:
                surplus.append(one.native_id)
            else:
                alive += count.alive
        if surplus:
            self._engine.stop(surplus)
            self._say(f"{self._engine.name}: ended again, as another command submitted as many meanwhile")

    def _mine(self) -> list[Submission]:
        if not self._engine.lasting:
            return self._own
        here = self._engine.name, self._engine.address or ""
        stored = submissions.submissions_to(self._database, self._studies)
        return [one for one in stored if (one.engine, one.address) == here and not one.ended]

    def alive(self) -> int:
        """Count the workers that wait or run."""
        return sum(count.alive for count in self._counts().values())

    def _counts(self) -> dict[Submission, Count]:
        return counted(self._database, self._engine, self._mine())

    def follow(self, on_progress: Callable[[Sequence[Progress], bool], None]) -> None:
        """Follow the ledger until nothing is left, or no worker is.

        Where somebody interrupts it, workers of a lasting engine go on.

        Args:
            on_progress: called with the progress of each study, and with whether this is the last call.
        """
        latest, asked = self.look(), float("-inf")
        try:
            while any(map(self._left, latest)):
                on_progress(latest, False)
                if time.monotonic() - asked > ASK_SECONDS:
                    with self._patience():
                        if not self._keep_up():
                            break
                    asked = time.monotonic()
                time.sleep(LOOK_SECONDS)
                with self._patience():
                    latest = self.look()
            self._end()
        except BaseException as error:
            if not self._engine.lasting:
                self.stop()
            elif isinstance(error, KeyboardInterrupt):
                self._complain(
                    f"detached: workers on {self._engine.name} go on; the same command follows them again, and "
                    "`pairsearch stop` ends them"
                )
            raise
        finally:
            reconcile(self._database, self._studies)
        on_progress(self.look(), True)

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Say once that the database is away, which workers wait for as well, and go on."""
        try:
            yield
            self._away = False
        except DatabaseAwayError as error:
            if not self._away:
                self._complain(f"{error}: its workers wait for it, and so does this command")
            self._away = True

    def _keep_up(self) -> bool:
        """Submit workers in place of those that died; return whether any is there, or may be.

        A worker ends by itself only when nothing is left, or when it was told to; so what is left is counted after the
        workers.
        """
        try:
            alive = self.alive()
            self._silent = False
        except EngineError as error:
            if not self._silent:
                self._complain(f"{self._engine.name} does not answer, the ledger goes on: {error}")
            self._silent = True
            # Those that were told to end have ended, as far as the ledger knows.
            return not self._stopped() or any(
                Ledger(self._database, study).jobs_left(JobState.RUNNING) for study in self._studies
            )
        missing = min(self._workers, self.left()) - alive
        if missing <= 0:
            return True
        again = min(missing, self._spare)
        if not again or self._stopped():
            return alive > 0
        self._complain(f"{self._engine.name}: {workers(missing)} ended with work left{self._last_line()}")
        self._spare -= again
        try:
            self._submit(again)
        except EngineError as error:
            self._complain(f"{self._engine.name} takes no more: {error}")
            self._spare = 0
            return alive > 0
        return True

    def _stopped(self) -> bool:
        return any(Ledger(self._database, study).stopped() for study in self._studies)

    def _last_line(self) -> str:
        with suppress(EngineError):
            if line := self._engine.last_line([one.native_id for one in self._own]):
                return f": {line}"
        return ""

    def _end(self) -> None:
        """Wait until workers that find nothing more have ended, and end those that still wait for their place.

        Workers that were submitted to other studies too, or for which another command has left something, are left to
        them.
        """
        end, ours = time.monotonic() + GRACE_SECONDS, {study.id for study in self._studies}
        with suppress(EngineError, DatabaseAwayError):
            while any(count.running for count in self._counts().values()) and time.monotonic() < end:
                time.sleep(LOOK_SECONDS)
            whole = [read_progress(self._database, study) for study in self._studies]
            busy = any(progress.open or progress.rounds_left for progress in whole)
            left = [
                one.native_id
                for one, count in self._counts().items()
                if count.alive
                and one.study_ids <= ours
                and not (busy and (count.running or one not in self._own))
            ]
            if left:
                self._engine.stop(left)

    def stop(self) -> None:
        """Tell the workers to end by the ledger, and then by the engine."""
        with suppress(DatabaseAwayError):
            for study in self._studies:
                Ledger(self._database, study).stop()
        with suppress(EngineError, DatabaseAwayError):
            self._engine.stop([one.native_id for one in self._mine()])

    def complaints(self) -> list[str]:
        """Return a line about workers that ended, where the engine knows one."""
        line = self._last_line()
        return [f"{self._engine.name}: a worker ended{line}"] if line else []


def workers(count: int) -> str:
    """Return a number of workers in words."""
    return f"{count} worker{'' if count == 1 else 's'}"


def counted(database: Database, engine: Engine, mine: Sequence[Submission]) -> dict[Submission, Count]:
    """Count the workers of submissions to an engine, and note which have ended."""
    counts = engine.count([one.native_id for one in mine])
    found = {one: counts.get(one.native_id, Count(0, 0)) for one in mine}
    if engine.lasting and (ended := [one for one, count in found.items() if not count.alive]):
        with suppress(StorageError):  # the database may be read-only
            submissions.close(database, ended)
    return found


def search_on(
    cluster: Cluster,
    order: Order,
    database: Database,
    studies: Sequence[StoredStudy],
    *,
    limit: int | None = None,
    on_progress: Callable[[Sequence[Progress], bool], None] = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
    complain: Callable[[str], None] = lambda _: None,
) -> list[Progress]:
    """Search studies by workers on a cluster, as `workers.searching.search` does by those of this machine."""
    fleet = Fleet(database, studies, cluster, order, limit=limit, say=say, complain=complain)
    if not fleet.begin():
        if cluster.detach:
            say("nothing is left to be trained")
        return conclude(database, studies, fleet.look())
    if cluster.detach:
        return fleet.look()
    fleet.follow(on_progress)
    return conclude(database, studies, fleet.look(), fleet.complaints(), complain)


def evaluate_on(
    cluster: Cluster,
    order: Order,
    database: Database,
    studies: Sequence[StoredStudy],
    *,
    on_progress: Callable[[int], None],
    say: Callable[[str], None],
) -> None:
    """Have the rounds that were asked for trained by workers on a cluster; `on_progress` is told how many are left.

    Raises:
        WorkError: the engine refused, rounds failed, or rounds are left although no worker is.
    """
    ledgers = [Ledger(database, study) for study in studies]

    def failed() -> int:
        return sum(ledger.jobs_left(JobState.FAILED, kind="round") for ledger in ledgers)

    before = failed()
    rounds = attrgetter("rounds_left")
    fleet = Fleet(database, studies, cluster, order, rounds, say=say, complain=say)
    if not fleet.begin() or cluster.detach:
        return
    fleet.follow(lambda found, _: on_progress(sum(map(rounds, found))))
    why = "; ".join(fleet.complaints())
    if count := fleet.left():
        raise WorkError(
            f"workers ended with {count} rounds left: run it again to go on{f' ({why})' * bool(why)}"
        )
    if failed() > before:
        reasons = filter(None, (ledger.failed_rounds() for ledger in ledgers))
        raise WorkError(f"rounds failed: {next(reasons)}: finished rounds are kept")
