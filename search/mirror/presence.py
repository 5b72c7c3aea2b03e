"""Whether Optuna's copy of a study is whole. Imports no Optuna, so that commands which only look start at once."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pairsearch.search.database.connection import Database
from pairsearch.search.database.driver_errors import deleted_meanwhile
from pairsearch.search.ledger.studies import StoredStudy

# Optuna's own tables, in words: to import Optuna for it would take longer than all else that looking needs.
_LEFT_RUNNING = text(
    "select count(*) from trials t join studies s on s.study_id = t.study_id "
    "where s.study_name = :name and t.state = 'RUNNING' and not exists "
    "(select 1 from pairsearch_configurations c where c.trial_id = t.trial_id and c.state = 'running')"
)
_OPTUNA_STUDY = text(
    "select count(*) from studies s join pairsearch_studies p "
    "on p.optuna_study_id = s.study_id and p.name = s.study_name where p.name = :name"
)
# A trial is known by its claim: SQLite gives the ids of trials that were deleted to others.
_WITHOUT_TRIAL = text(
    "select count(*) from pairsearch_configurations c where c.study_id = :study and c.claim is not null "
    "and c.state in ('finished', 'diverged', 'pruned') and not exists "
    "(select 1 from trials t join studies s on s.study_id = t.study_id "
    "join trial_user_attributes a on a.trial_id = t.trial_id "
    "where t.trial_id = c.trial_id and s.study_name = :name and t.state <> 'FAIL' "
    "and a.key = 'claim' and a.value_json = '\"' || c.claim || '\"')"
)


def left_running(database: Database, study: StoredStudy) -> int:
    """Trials that Optuna shows as running and that no worker is at work on: it died, or is about to say so."""
    with database.read() as connection:
        return int(connection.execute(_LEFT_RUNNING, {"name": study.name}).scalar_one())


def mirrored(database: Database, study: StoredStudy) -> bool:
    """Whether Optuna has the study and a trial for each result; others may have deleted them."""
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
