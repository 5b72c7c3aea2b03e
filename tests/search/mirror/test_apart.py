"""Optuna's rows of one study: complete and exact, and nothing of another study is touched by them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
import pytest
import tiny
from optuna.distributions import CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from pairsearch.search.common.errors import StudyError
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.ledger.unfinished import WENT_BACK
from pairsearch.search.ledger.view import Shown
from pairsearch.search.mirror import presence, tables
from pairsearch.search.mirror import trials as trials_module
from pairsearch.search.mirror.description import NOTE_PIECE, NOTE_VERSION, PIECE_LENGTH
from pairsearch.search.mirror.projecting import (
    FAILED_REASON,
    add_trials,
    describe_study,
    ended_trial,
    make_study,
    make_trial,
)
from pairsearch.search.mirror.trials import Trials, complete, open_view
from pairsearch.search.setup.creation import create_study
from pairsearch.studies.note import note

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def everything(storage: RDBStorage) -> dict[str, Any]:
    """All that Optuna has of each study."""
    storage.remove_session()
    return {
        study.study_name: (
            study._study_id,
            study.directions,
            study.user_attrs,
            study.system_attrs,
            storage.get_all_trials(study._study_id),
        )
        for study in storage.get_all_studies()
    }


def trials_of(storage: RDBStorage, name: str = "tiny") -> list[FrozenTrial]:
    found: list[FrozenTrial] = everything(storage)[name][-1]
    return found


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


@pytest.fixture
def somebody_s(storage: RDBStorage) -> optuna.Study:
    """Another study of Optuna's, whose trials look like ours."""
    theirs = optuna.create_study(study_name="theirs", storage=storage, direction="maximize")
    template = {
        "params": {"batch_size": 10, "weight_decay": 0.0},
        "distributions": {
            "batch_size": CategoricalDistribution((10, 25)),
            "weight_decay": CategoricalDistribution((0.0, 0.1)),
        },
    }
    for row in range(1, 9):
        for state in (TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING):
            value = 1.0 if state == TrialState.COMPLETE else None
            attributes = {"row": row, "configuration": "x"}
            theirs.add_trial(create_trial(state=state, value=value, user_attrs=attributes, **template))
    return theirs


def by_row(trials: Sequence[FrozenTrial]) -> dict[int, dict[str, Any]]:
    """All of trials but their numbers and times."""
    names = ("state", "values", "params", "distributions", "user_attrs", "intermediate_values")
    return {trial.user_attrs["row"]: {name: getattr(trial, name) for name in names} for trial in trials}


@pytest.mark.usefixtures("either_optuna", "somebody_s")
def test_a_study_comes_back_in_the_order_of_its_work_and_no_other_is_touched(
    database: Database, storage: RDBStorage, make_study, make_worker, request: pytest.FixtureRequest
) -> None:
    first = make_study(metrics={"val_loss": {"maximise": True}})
    second = make_study(
        name="second", grid=tiny.RAW["grid"] | {"batch_size": [5, 10, 50], "learning_rate": [1e-3]}
    )
    for study in (first, second):
        make_worker(tiny.Answering(), study).run()
    before = everything(storage)
    assert {name: len(of[-1]) for name, of in before.items()} == {"theirs": 24, "tiny": 8, "second": 6}
    assert [of[1] for of in before.values()] == [
        [StudyDirection.MAXIMIZE], [StudyDirection.MAXIMIZE], [StudyDirection.MINIMIZE],
    ]  # fmt: skip
    # Those that were inserted first began last.
    ids = [
        row
        for (row,) in tiny.rows(database, "configurations", "id", f"where study_id = {first.id} order by id")
    ]
    tiny.execute(
        database,
        *(
            f"update pairsearch_configurations set started_at = {1000 - place}, finished_at = {2000 - place} "  # noqa: S608
            f"where id = {ids[place]}"
            for place in reversed(range(8))
        ),
    )
    optuna.delete_study(study_name="tiny", storage=storage)
    assert complete(database, get_study(database, "second")) == 0
    assert complete(database, first) == 8
    after = everything(storage)
    assert {name: of for name, of in after.items() if name != "tiny"} == {
        name: of for name, of in before.items() if name != "tiny"
    }
    trials = after["tiny"][-1]
    assert [trial.number for trial in trials] == list(range(8))
    later = request.node.callspec.params["either_optuna"] == "later Optuna"
    assert [trial.user_attrs["row"] for trial in trials] == (ids if later else ids[::-1])
    for trial in trials:
        place = ids.index(trial.user_attrs["row"])
        assert (trial.datetime_start, trial.datetime_complete) == (moment(1000 - place), moment(2000 - place))
    assert by_row(trials) == by_row(before["tiny"][-1])
    assert later or get_study(database, "tiny").optuna_study_id == after["tiny"][0]
    assert later or get_study(database, "second").optuna_study_id == after["second"][0]
    assert complete(database, get_study(database, "tiny")) == 0


@ON_SQLITE
@pytest.mark.usefixtures("somebody_s")
def test_a_grid_that_grows_changes_the_distribution_of_its_own_parameter_alone(
    database: Database, storage: RDBStorage, make_worker
) -> None:
    for name in ("tiny", "second"):
        made = create_study(database, tiny.anything(name=name, grid=tiny.RAW["grid"]))
        make_worker(tiny.Answering(), made.study).run()
    before = everything(storage)
    grid = tiny.RAW["grid"] | {"batch_size": [5, 10, 25]}
    more = {"batch_size": [25], "learning_rate": [1e-3], "weight_decay": [0.1], "hidden_units": [10]}
    create_study(database, tiny.anything(grid=[grid, more]))
    after = everything(storage)
    assert {name: of for name, of in after.items() if name != "tiny"} == {
        name: of for name, of in before.items() if name != "tiny"
    }
    for old, new in zip(before["tiny"][-1], after["tiny"][-1], strict=True):
        assert new.params == old.params
        assert new.distributions == old.distributions | {"batch_size": CategoricalDistribution((10, 25, 5))}


@ON_SQLITE
@pytest.mark.usefixtures("somebody_s")
def test_a_trial_that_nobody_trains_is_closed_and_one_that_somebody_trains_goes_on(
    database: Database, storage: RDBStorage, study: StoredStudy, ledger: Ledger
) -> None:
    alive, left, lost = (ledger.claim("ann") for _ in range(3))
    assert alive is not None
    assert left is not None
    assert left.shown is not None
    assert lost is not None
    ledger.fail_attempt(lost, "no room", final=True)
    before = everything(storage)
    tiny.execute(
        database,
        f"update pairsearch_configurations set state = 'pending', trial_id = null where id = {left.shown.row_id}",  # noqa: S608
        f"update trials set datetime_start = '2020-01-01 00:00:00' where study_id = {study.optuna_study_id}",  # noqa: S608
    )
    rows = tiny.rows(database, "configurations", "id, trial_id", "order by id")
    begun = datetime.now(UTC).replace(tzinfo=None)
    assert complete(database, study) == 1
    first, second, third = trials_of(storage)
    assert (first.state, first.datetime_complete) == (TrialState.RUNNING, None)
    assert (second.state, second.user_attrs[FAILED_REASON]) == (TrialState.FAIL, WENT_BACK)
    assert second.datetime_start == datetime(2020, 1, 1)
    assert second.datetime_complete is not None
    assert begun <= second.datetime_complete <= begun + timedelta(minutes=5)
    assert third.user_attrs[FAILED_REASON] == "no room"
    assert everything(storage)["theirs"] == before["theirs"]
    assert tiny.rows(database, "configurations", "id, trial_id", "order by id") == rows
    assert complete(database, study) == 0


OURS, SOMEBODY_S, PLAIN = {"configuration": "x", "row": 1}, {"comment": "mine", "row": 1}, {}


@ON_SQLITE
@pytest.mark.parametrize(
    ("there", "maximise", "new", "refused"),
    [
        ([], False, True, False),
        ([], True, False, True),
        ([PLAIN], False, False, True),
        ([SOMEBODY_S], False, False, True),
        ([OURS], False, False, False),
        ([PLAIN, OURS], False, False, False),
        ([OURS], False, True, True),
        ([OURS], True, False, True),
    ],
)
@pytest.mark.parametrize("other", [PLAIN, OURS])
def test_a_study_of_somebody_else_s_is_known_by_its_direction_and_by_what_its_trials_say(
    database: Database,
    storage: RDBStorage,
    study: StoredStudy,
    there: list[dict[str, Any]],
    maximise: bool,
    new: bool,
    refused: bool,
    other: dict[str, Any],
) -> None:
    optuna.delete_study(study_name="tiny", storage=storage)
    # What another study has does not matter.
    for name, higher, noted in (("other", not maximise, [other]), ("tiny", maximise, there)):
        direction = "maximize" if higher else "minimize"
        made = optuna.create_study(study_name=name, storage=storage, direction=direction)
        for attributes in noted:
            made.add_trial(create_trial(value=1.0, user_attrs=attributes))
    storage.remove_session()
    with database.write() as connection:
        if refused:
            with pytest.raises(StudyError, match="that pairsearch did not make"):
                make_study(connection, study, new=new)
        else:
            assert make_study(connection, study, new=new) == storage.get_study_id_from_name("tiny")


@ON_SQLITE
@pytest.mark.usefixtures("later_optuna")
def test_by_optuna_too_a_study_with_a_trial_of_ours_is_ours(
    database: Database, storage: RDBStorage, study: StoredStudy
) -> None:
    optuna.delete_study(study_name="tiny", storage=storage)
    made = optuna.create_study(study_name="tiny", storage=storage)
    for attributes in (PLAIN, OURS):
        made.add_trial(create_trial(value=1.0, user_attrs=attributes))
    assert complete(database, study) == 0


def test_a_running_trial_is_known_by_study_state_and_row(database: Database, storage: RDBStorage) -> None:
    cases = {
        "right": ("tiny", TrialState.RUNNING, {"row": 7, "other": 8}),
        "ended": ("tiny", TrialState.FAIL, {"row": 7}),
        "of another study": ("second", TrialState.RUNNING, {"row": 7}),
        "of another row": ("tiny", TrialState.RUNNING, {"row": 8, "other": 7}),
        "of none": ("tiny", TrialState.RUNNING, {"other": 7}),
        "right too": ("tiny", TrialState.RUNNING, {"row": 7}),
    }
    made = {}
    for name in ("tiny", "second"):
        storage.create_new_study([StudyDirection.MINIMIZE], name)
    for name, (study, state, attributes) in cases.items():
        study_id = storage.get_study_id_from_name(study)
        trial = create_trial(state=state, user_attrs=attributes)
        made[name] = storage.create_new_trial(study_id, trial)
    storage.remove_session()
    with database.read() as connection:
        for name, trial_id in made.items():
            mine = select(tables.trials.c.trial_id).where(tables.running_trial(trial_id, "tiny", 7))
            found = [*connection.execute(mine).scalars()]
            assert found == ([trial_id] if name.startswith("right") else []), name


@ON_SQLITE
def test_a_result_s_trial_has_all_that_is_known_of_it(
    database: Database, storage: RDBStorage, ledger: Ledger
) -> None:
    claim = ledger.claim("ann")
    assert claim is not None
    outcome = tiny.diverged(claim.configuration)
    object.__setattr__(outcome, "seconds", 0.12345)
    tiny.finish(ledger, claim, outcome)
    (trial,) = trials_of(storage)
    [(row_id, started, finished)] = tiny.rows(
        database, "configurations", "id, started_at, finished_at", "where rank = 0"
    )
    assert trial.user_attrs == {
        "configuration": claim.configuration.key,
        "row": row_id,
        "worker": "ann",
        "provenance": {"host": "here"},
        "folds": {
            "train_loss": [0.6, None],
            "val_loss": [0.6, None],
            "val_error": [0.4, None],
            "seconds": 0.123,
            "reason": outcome.reason,
        },
    }
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    assert abs(trial.datetime_start - moment(started)) < timedelta(seconds=10)
    assert abs(trial.datetime_complete - moment(finished)) < timedelta(seconds=10)
    assert (
        "reason" not in ended_trial(ledger.study, None, tiny.outcome(claim.configuration)).user_attrs["folds"]
    )


@ON_SQLITE
def test_a_result_without_a_start_began_when_it_ended(
    database: Database, storage: RDBStorage, study: StoredStudy, make_worker
) -> None:
    make_worker(tiny.Answering(), study).run()
    optuna.delete_study(study_name="tiny", storage=storage)
    tiny.execute(database, "update pairsearch_configurations set started_at = null, finished_at = 3000")
    assert complete(database, study) == 8
    assert {(one.datetime_start, one.datetime_complete) for one in trials_of(storage)} == {
        (moment(3000), moment(3000))
    }


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's clock shows another hour than UTC."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_east")
@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.FAIL])
def test_times_are_in_utc_without_a_zone(state: TrialState) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    trial = make_trial(state, {})
    after = datetime.now(UTC).replace(tzinfo=None)
    assert trial.datetime_start is not None
    assert before <= trial.datetime_start <= after
    if state == TrialState.RUNNING:
        assert trial.datetime_complete is None
    else:
        assert trial.datetime_complete is not None
        assert before <= trial.datetime_complete <= after
    assert tables.utc(0.0) == datetime(1970, 1, 1)


@ON_SQLITE
def test_a_report_is_due_a_second_after_the_last_that_was_shown(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = ledger.view
    assert isinstance(view, Trials)
    claim = ledger.claim("ann")
    assert claim is not None
    assert claim.shown is not None
    monkeypatch.setattr(trials_module, "monotonic", lambda: 100.0)
    nobody_s = Shown(claim.shown.row_id, claim.configuration, None)
    with database.write() as connection:
        for shown, reports in ((claim.shown, {1: float("nan")}), (nobody_s, {1: 0.5})):
            view.report(connection, shown, reports)
            assert view.due()
        view.report(connection, claim.shown, {1: 0.5, 2: float("inf")})
    for now, due in ((100.0, False), (100.9, False), (101.0, True), (101.1, True)):
        monkeypatch.setattr(trials_module, "monotonic", lambda now=now: now)
        assert view.due() is due


@ON_SQLITE
def test_a_long_reason_is_shown_in_part(database: Database, storage: RDBStorage, ledger: Ledger) -> None:
    claim = ledger.claim("ann")
    assert claim is not None
    assert claim.shown is not None
    with database.write() as connection:
        ledger.view.abandon(connection, claim.shown, "x" * 501)
        # It has ended: nothing more is said of it.
        ledger.view.abandon(connection, claim.shown, "y")
    (trial,) = trials_of(storage)
    assert trial.user_attrs[FAILED_REASON] == "x" * 500


@ON_SQLITE
def test_notes_have_versions_and_as_few_pieces_as_they_need(
    database: Database, storage: RDBStorage, study: StoredStudy, make_study
) -> None:
    other = make_study(
        name="second", grid=tiny.RAW["grid"] | {"weight_decay": [i / 1000 for i in range(900)]}
    )

    def written(of: StoredStudy) -> tuple[int, list[int]]:
        attributes = everything(storage)[of.name][3]
        pieces = [
            attributes[f"{NOTE_PIECE}{place}"]
            for place in range(sum(NOTE_PIECE in key for key in attributes))
        ]
        assert "".join(pieces) == note(of.definition, of.traits) or of is study
        return attributes[NOTE_VERSION], list(map(len, pieces))

    whole = len(note(other.definition, other.traits))
    assert PIECE_LENGTH == 2045, "optuna-dashboard's limit"
    lengths = [min(PIECE_LENGTH, whole - start) for start in range(0, whole, PIECE_LENGTH)]
    assert len(lengths) > 2
    assert written(other) == (1, lengths)
    short = len(note(study.definition, study.traits))
    assert written(study) == (1, [short])
    longer = tiny.definition(title="x" * 100)
    for version in (2, 2):
        with database.write() as connection:
            describe_study(connection, study.optuna_study_id, longer, study.traits)
        assert written(study) == (version, [len(note(longer, study.traits))])
    assert written(other) == (1, lengths)
    # Half of a pair of surrogates, as a browser may send it, is a person's note like any other.
    storage.set_study_system_attr(study.optuna_study_id, f"{NOTE_PIECE}0", "\ud83d")
    with database.write() as connection:
        describe_study(connection, study.optuna_study_id, study.definition, study.traits)
    assert written(study) == (2, [1])


@ON_SQLITE
def test_a_damaged_database_is_no_study_that_was_deleted(
    database: Database, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("select", {}, Exception("out of memory"))

    monkeypatch.setattr(database, "read", fail)
    with pytest.raises(OperationalError, match="out of memory"):
        presence.shown(database, study)


@ON_SQLITE
def test_tables_that_are_there_are_not_made_again(
    database: Database, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Optuna is asked")

    with monkeypatch.context() as patched:
        patched.setattr(tables, "RDBStorage", refuse)
        assert tables.make_tables(database)
    tiny.execute(database, "drop table alembic_version")
    assert tables.make_tables(database)


def test_optuna_s_own_storage_gets_the_password_and_is_closed_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    with monkeypatch.context() as patched:
        patched.setattr(tables, "RDBStorage", lambda url, **options: given.update(options, url=url))
        patched.setattr(database, "url", make_url("postgresql+psycopg://ann:open-sesame@host/db"))
        tables.open_optuna(database)
    assert given == {
        "url": "postgresql+psycopg://ann:open-sesame@host/db",
        "engine_kwargs": database.engine_options(1),
        "skip_compatibility_check": True,
    }
    tables.make_tables(database)
    with tables.optuna_storage(database) as storage:
        storage.get_all_studies()
        pool, sessions = storage.engine.pool, storage.scoped_session
        assert sessions.registry.has()
    assert not sessions.registry.has()
    assert storage.engine.pool is not pool, "it was disposed of"


@ON_SQLITE
def test_trials_are_added_in_order_after_those_of_the_study_alone(
    database: Database, storage: RDBStorage, study: StoredStudy, make_study
) -> None:
    other = make_study(name="second")
    rows = tiny.rows(database, "configurations", "id", f"where study_id = {study.id} order by id limit 3")
    points = study.definition.grid.configurations()
    for added in ((other, 2), (study, 1), (study, 2)):
        of, count = added
        made = {
            Shown(row, point, None): make_trial(TrialState.RUNNING, {})
            for (row,), point in zip(rows[:count], points, strict=False)
        }
        with database.write() as connection:
            ids = add_trials(connection, of, made)
        assert [trial._trial_id for trial in trials_of(storage, of.name)][-count:] == ids
    assert [trial.number for trial in trials_of(storage)] == [0, 1, 2]
    assert open_view(database, study).complete() == 0
