"""What changes a job, and what reads one, leaves its neighbours alone.

Its neighbours are jobs of the same configuration, of others, and of another study with the same points: folds and
rounds of the same numbers in the same states.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.states import JobState, State
from pairsearch.search.ledger.checkpoints import Kept
from pairsearch.search.ledger.claims import Claim, new_token
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome, RunResult, conclude
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.tables import make_tables
from pairsearch.search.setup.creation import create_study
from pairsearch.studies.configuration import Configuration

ONE, TWO, DONE, BROKEN = (Configuration({"x": x}) for x in (1, 2, 3, 4))
FOLDS = 4


@dataclass(frozen=True)
class Street:
    """A database with the studies `mine` and `other`, whose workers hold a fold and a round of `ONE` and of `TWO`."""

    database: Database
    studies: dict[str, StoredStudy]
    fold: dict[tuple[str, Configuration], Claim]
    round: dict[tuple[str, Configuration], Claim]
    failed: dict[tuple[str, Configuration], Claim]

    def ledger(self, name: str = "mine") -> Ledger:
        """A ledger as a new worker has it."""
        return Ledger(self.database, self.studies[name])


def number(claim: Claim, run: int) -> float:
    """A figure that no two runs of the same study share."""
    return 10.0 * claim.configuration.params["x"] + run + (0.5 if claim.kind == "round" else 0.0)


def result(study: str, claim: Claim, run: int, diverged: int | None = None) -> RunResult:
    """What a run of a job gave."""
    last = number(claim, run) + (100.0 if study == "other" else 0.0)
    return RunResult(run, {"val_loss": [9.0, last]}, diverged, seconds=run + 1.0, facts={"of": study})


def ended(street: Street, study: str, claim: Claim, diverged: int | None = None) -> Outcome:
    """What a worker that trained the one fold of a job says."""
    stored, run = street.studies[study], claim.first
    folds = [result(study, claim, run, diverged)]
    seconds = folds[0].seconds or 0.0
    return conclude(
        stored.definition, stored.traits, folds, pruned=False, seconds=seconds, provenance={"host": study}
    )


def kept(study: str, claim: Claim) -> Kept:
    """The checkpoint of the first run of a job."""
    about = f"{study} {claim.kind} {claim.configuration.key}"
    return Kept(1, {"val_loss": [number(claim, claim.first)]}, 3.0, about.encode())


def settle(street: Street, name: str) -> None:
    """Bring folds and rounds of a study into every state."""
    ledger = street.ledger(name)

    def claim(one: Configuration, kind: Any) -> Claim:
        taken = ledger.claim("ann", key=one.key, kind=kind)
        assert taken is not None
        return taken

    def finish(one: Configuration) -> None:
        taken = claim(one, "fold")
        assert tiny.finish(ledger, taken, ended(street, name, taken))

    for one in (ONE, TWO):
        finish(one)
        street.fold[name, one] = claim(one, "fold")
        street.failed[name, one] = claim(one, "fold")
        ledger.fail_attempt(street.failed[name, one], "no luck", traceback=f"Traceback of {name}")
        assert ledger.insert_rounds(one, FOLDS) == FOLDS
        first = claim(one, "round")
        assert ledger.finish_rounds(first, [result(name, first, 0)], {"host": name}, {0: b"model"})
        street.round[name, one] = claim(one, "round")
        reason = f"no {name} {one.params['x']}"
        lost = claim(one, "round")
        for held in (street.fold[name, one], street.round[name, one], lost):
            assert ledger.save_checkpoint(held, held.first, kept(name, held))
        ledger.fail_attempt(lost, reason, final=True, traceback=f"Traceback of {name}'s round")
    for _ in range(FOLDS):
        finish(DONE)
    ledger.fail_attempt(claim(BROKEN, "fold"), "impossible", final=True)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Street:
    """The street, which tests copy."""
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('street') / 'study.db'}", create=True)
    make_tables(database)
    studies = {}
    for name in ("mine", "other"):
        loaded = tiny.anything(name=name, folds=FOLDS, grid={"x": [1, 2, 3, 4, 5]})
        apart = replace(loaded, traits=replace(loaded.traits, together=False))
        studies[name] = create_study(database, apart).study
    street = Street(database, studies, {}, {}, {})
    for name in studies:
        settle(street, name)
    # What is written anew later differs, however fast the machine is.
    tiny.execute(
        database, "update pairsearch_jobs set lease_expires = lease_expires - 1 where state = 'running'"
    )
    database.close()
    return street


@pytest.fixture
def street(settled: Street, tmp_path: Path) -> Iterator[Street]:
    """A copy of the street."""
    copy = tmp_path / "study.db"
    shutil.copyfile(str(settled.database.url.database), copy)
    database = open_database(f"sqlite:///{copy}")
    yield replace(settled, database=database)
    database.close()


OF_JOBS = "j.study_id, j.key, '{0} ' || j.kind || ' ' || j.first || ' ' || t.claim, t.*"
OF_RUNS = "r.study_id, r.key, '{0} ' || r.kind || ' ' || r.run, t.*"
TABLES = {
    "studies": "id, '', 'studies', t.*",
    "configurations": "study_id, key, 'configurations', t.*",
    "jobs": "study_id, key, 'jobs ' || kind || ' ' || first, t.*",
    "checkpoints": "study_id, key, 'checkpoints ' || kind || ' ' || run, t.*",
    "runs": "study_id, key, 'runs ' || kind || ' ' || run, t.*",
    "curves": OF_RUNS,
    "models": OF_RUNS,
    "failures": OF_JOBS,
    "superseded": OF_JOBS,
}


def rows(street: Street) -> dict[str, tuple[Any, ...]]:
    """Every row under a name such as `mine 1 jobs fold 3`."""
    names = {study.id: name for name, study in street.studies.items()}
    found = {}
    for table, columns in TABLES.items():
        join = "left join pairsearch_runs r on r.id = t.run_id" if columns == OF_RUNS else ""
        join = "left join pairsearch_jobs j on j.id = t.job_id" if columns == OF_JOBS else join
        for study, key, what, *row in tiny.rows(street.database, table, columns.format(table), f"t {join}"):
            found[" ".join([names.get(study, "nobody's"), str(key).removeprefix("x="), str(what)])] = tuple(
                row
            )
    return found


Change = Callable[[Street, Ledger], object]
HELD = ("mine", ONE)


def both(answers: Iterable[object]) -> bool:
    return all(list(answers))


def fail(claims: str, *, final: bool) -> Change:
    """Fail at a job twice, as where the first answer was lost."""

    def change(street: Street, ledger: Ledger) -> object:
        claim = getattr(street, claims)[HELD]
        left = State.FAILED if final else State.PENDING
        return both(ledger.fail_attempt(claim, "no", final=final) == left for _ in range(2))

    return change


def finish(street: Street, ledger: Ledger, diverged: int | None = None) -> object:
    """Store a fold whose checkpoint this worker has saved."""
    claim = street.fold[HELD]
    assert ledger.save_checkpoint(claim, 1, kept("mine", claim))
    return tiny.finish(ledger, claim, ended(street, "mine", claim, diverged))


def finish_round(street: Street, ledger: Ledger) -> object:
    claim = replace(street.round[HELD], again=True)
    return ledger.finish_rounds(claim, [result("mine", claim, 1)], {"host": "mine"}, {1: b"model"})


def stop_both(street: Street) -> None:
    for name in street.studies:
        street.ledger(name).stop()


def let_leases_run_out(street: Street) -> None:
    """All of the other study, and one of this."""
    mine, one = street.studies["mine"].id, street.fold[HELD].job_id
    only = f"where state = 'running' and (study_id <> {mine} or id = {one})"
    tiny.execute(street.database, f"update pairsearch_jobs set lease_expires = 0 {only}")  # noqa: S608 - as above


BEFORE: dict[str, Callable[[Street], None]] = {"go on": stop_both, "reap": let_leases_run_out}


FOLD = {"1 jobs fold 1", "1 configurations"}
LATER = {"1 jobs fold 2", "1 jobs fold 3"}
STORED = {"1 runs fold 1", "1 curves fold 1", "1 checkpoints fold 1"}
CHANGES: dict[str, tuple[Change, set[str]]] = {
    "renew": (lambda street, ledger: ledger.renew(street.fold[HELD]), {"1 jobs fold 1"}),
    "renew a round": (lambda street, ledger: ledger.renew(street.round[HELD]), {"1 jobs round 1"}),
    "take up": (lambda street, ledger: ledger.held("ann", street.fold[HELD].token), {"1 jobs fold 1"}),
    "save": (
        lambda street, ledger: ledger.save_checkpoint(street.fold[HELD], 1, Kept(2, {}, 1.0, b"later")),
        {"1 jobs fold 1", "1 checkpoints fold 1"},
    ),
    "save a round": (
        lambda street, ledger: ledger.save_checkpoint(street.round[HELD], 1, Kept(2, {}, 1.0, b"later")),
        {"1 jobs round 1", "1 checkpoints round 1"},
    ),
    # Twice, as where the first answer was lost.
    "hand back": (lambda street, ledger: both(ledger.hand_back(street.fold[HELD]) for _ in range(2)), FOLD),
    "hand a round back": (lambda street, ledger: ledger.hand_back(street.round[HELD]), {"1 jobs round 1"}),
    "fail": (fail("fold", final=False), FOLD | {"1 failures fold 1"}),
    "fail for good": (fail("fold", final=True), FOLD | LATER | {"1 failures fold 1"}),
    "fail at a round": (fail("round", final=True), {"1 jobs round 1", "1 failures round 1"}),
    "finish": (finish, FOLD | STORED),
    "diverge": (lambda street, ledger: finish(street, ledger, 2), FOLD | LATER | STORED),
    "finish a round": (
        finish_round,
        {f"1 {name} round 1" for name in ("jobs", "runs", "curves", "models", "checkpoints")},
    ),
    "finish too late": (
        lambda street, ledger: (
            not tiny.finish(
                ledger,
                replace(street.fold[HELD], token=new_token()),
                ended(street, "mine", street.fold[HELD]),
            )
        ),
        {"1 superseded fold 1"},
    ),
    "claim": (
        lambda street, ledger: ledger.claim("eve", key=ONE.key, kind="fold", runs=FOLDS),
        {"1 jobs fold 3", "1 configurations"},
    ),
    "claim folds together": (
        lambda street, ledger: ledger.claim("eve", key="x=5", runs=3),
        {"5 configurations", "5 jobs fold 0", "5 jobs fold 1", "5 jobs fold 2"},
    ),
    "claim a round": (
        lambda street, ledger: ledger.claim("eve", key=ONE.key, runs=FOLDS),
        {"1 jobs round 3"},
    ),
    "reap": (lambda street, ledger: ledger.reap(), FOLD),
    "forgive": (
        lambda street, ledger: ledger.forgive([street.failed[HELD].token], lost=True) or True,
        {"1 failures fold 2", "1 jobs fold 2", "1 configurations"},
    ),
    "ask for rounds": (
        lambda street, ledger: ledger.insert_rounds(ONE, 6),
        {"1 jobs round 2", "1 jobs round 4", "1 jobs round 5"},
    ),
    # The folds of a configuration begin anew with its rounds.
    "retry": (
        lambda street, ledger: ledger.retry() == [ONE.key, TWO.key, BROKEN.key],
        {
            f"{x} {what}"
            for x in (1, 2)
            for what in ("jobs round 2", "failures round 2", "checkpoints round 2")
        }
        | {"4 configurations", "4 failures fold 0", *(f"4 jobs fold {fold}" for fold in range(FOLDS))},
    ),
    "stop": (lambda street, ledger: ledger.stop() or True, {" studies"}),
    "go on": (lambda street, ledger: ledger.go_on() or True, {" studies"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_writes_no_row_of_a_neighbour(street: Street, name: str) -> None:
    change, expected = CHANGES[name]
    BEFORE.get(name, lambda _: None)(street)
    before = rows(street)
    assert change(street, street.ledger())
    after = rows(street)
    changed = {row for row in before | after if before.get(row) != after.get(row)}
    # Without the claim that tells failures of one job apart.
    assert {" ".join(row.split(" ")[:5]) for row in changed} == {f"mine {row}" for row in expected}


@pytest.mark.parametrize("name", ["mine", "other"])
def test_what_is_read_is_no_neighbour_s(street: Street, name: str) -> None:
    ledger, more = street.ledger(name), 100.0 * (name == "other")
    for one in (ONE, TWO):
        fold, of_round = street.fold[name, one], street.round[name, one]
        for claim in (fold, of_round):
            assert ledger.find_checkpoint(claim, 1) == kept(name, claim)
            assert [ledger.find_checkpoint(claim, run) for run in (0, 3)] == [None, None]
            reports = ledger.reports_before(replace(claim, stored=(0,)))
            assert reports == {1: number(claim, 0) + more}
        assert ledger.reports_before(fold) == {}
        assert ledger.failed_rounds(one.key) == f"no {name} {one.params['x']}"
        assert ledger.outcome(one.key) is None
        kinds = {kind: ledger.jobs_left(*JobState, key=one.key, kind=kind) for kind in ("fold", "round")}
        assert kinds == {"fold": FOLDS, "round": FOLDS}
    assert ledger.failed_rounds(DONE.key) is None
    # Of rounds of the same number, the one that failed last.
    assert ledger.failed_rounds() == f"no {name} 2"
    assert ledger.first_traceback() == (TWO.key, f"Traceback of {name}'s round")
    assert ledger.one_finished() == DONE
    found = ledger.outcome(DONE.key)
    assert found is not None
    assert [fold.final["val_loss"] for fold in found.folds] == [30 + fold + more for fold in range(FOLDS)]
    assert (found.seconds, found.provenance) == (1.0 + 2 + 3 + 4, {"host": name})
    assert ledger.jobs_left(JobState.RUNNING) == 4
    assert ledger.jobs_left(JobState.RUNNING, but=[ONE.key]) == 2
    assert ledger.jobs_left(JobState.FAILED, kind="round") == 2
    assert ledger.jobs_left(JobState.DROPPED) == FOLDS - 1
    assert ledger.jobs_left(JobState.DONE, kind="fold") == 2 + FOLDS
    assert tiny.count(ledger, State.RUNNING) == 2


@pytest.mark.parametrize("lost", [True, False])
def test_what_is_forgiven_counts_no_more_and_what_neighbours_failed_at_still_does(
    street: Street, lost: bool
) -> None:
    ledger = street.ledger()
    again = ledger.claim("eve", key=ONE.key, kind="fold")
    assert again is not None
    ledger.fail_attempt(again, "no luck", traceback="Traceback …")
    ledger.forgive([street.failed[HELD].token], lost=lost)
    of_folds = {"mine": [(0, 0), (0, 0), (0, int(lost)), (1, 0)], "other": [(0, 0), (0, 0), (1, 0), (0, 0)]}
    for name, found in of_folds.items():
        mine = f"where study_id = {street.studies[name].id} and key = '{ONE.key}'"
        folds = f"{mine} and kind = 'fold' order by first"
        assert tiny.rows(street.database, "jobs", "errors, lapses", folds) == found
        assert tiny.rows(street.database, "configurations", "errors, lapses", mine) == [
            (1, int(lost and name == "mine"))
        ]
    counts = tiny.rows(street.database, "failures", "counts", f"where claim = '{street.failed[HELD].token}'")
    assert counts == [(0,)]
