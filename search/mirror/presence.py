"""Checks whether Optuna's copy of a study is complete, without importing Optuna, so that commands start quickly."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pairsearch.search.database.connection import Database
from pairsearch.search.database.driver_errors import deleted_meanwhile
from pairsearch.search.ledger.studies import StoredStudy

# Queries of Optuna's tables as plain SQL: importing Optuna for its models would take longer than all the rest.
_LEFT_RUNNING = text(
    "select count(*) from trials t join studies s on s.study_id = t.study_id "
    "where s.study_name = :name and t.state = 'RUNNING' and not exists "
    "(select 1 from pairsearch_configurations c where c.trial_id = t.trial_id and c.state = 'running')"
)
_OPTUNA_STUDY = text(
    "select count(*) from studies s join pairsearch_studies p "
    "on p.optuna_study_id = s.study_id and p.name = s.study_name where p.name = :name"
)
# A trial is identified by its claim, because SQLite uses the ids of deleted trials again.
_WITHOUT_TRIAL = text(
    "select count(*) from pairsearch_configurations c where c.study_id = :study and c.claim is not null "
    "and c.state in ('finished', 'diverged', 'pruned') and not exists "
    "(select 1 from trials t join studies s on s.study_id = t.study_id "
    "join trial_user_attributes a on a.trial_id = t.trial_id "
    "where t.trial_id = c.trial_id and s.study_name = :name and t.state <> 'FAIL' "
    "and a.key = 'claim' and a.value_json = '\"' || c.claim || '\"')"
)


def left_running(database: Database, study: StoredStudy) -> int:
    """Count the trials that Optuna shows as running although the ledger has no running row for them.

    Their workers died, or are just about to close them.
    """
    with database.read() as connection:
        return int(connection.execute(_LEFT_RUNNING, {"name": study.name}).scalar_one())


def mirrored(database: Database, study: StoredStudy) -> bool:
    """Whether Optuna's tables have the study and a trial for each result; someone may have deleted them."""
    try:
        with database.read() as connection:
            if connection.execute(_OPTUNA_STUDY, {"name": study.name}).scalar_one() == 0:
                return False
            absent = connection.execute(_WITHOUT_TRIAL, {"study": study.id, "name": study.name})
            return not absent.scalar_one()
    except DBAPIError as error:
        if deleted_meanwhile(error):
            return False
        raise
