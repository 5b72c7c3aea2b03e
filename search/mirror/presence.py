"""Checks whether Optuna shows all of a study, without importing Optuna, so that commands start quickly."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pairsearch.search.database.connection import Database
from pairsearch.search.database.driver_errors import deleted_meanwhile
from pairsearch.search.ledger.studies import StoredStudy

# A trial is known by the row of its configuration, because SQLite uses the ids of deleted trials again.
_SHOWN = text("""\
select (
    select count(*) from studies s join pairsearch_studies p on p.optuna_study_id = s.study_id and p.name = s.study_name
    where p.name = :name
) > 0 and (
    select count(*) from pairsearch_configurations c
    where c.study_id = :study and c.state in ('finished', 'diverged', 'pruned') and not exists (
        select 1 from trials t join studies s on s.study_id = t.study_id
        join trial_user_attributes a on a.trial_id = t.trial_id
        where t.trial_id = c.trial_id and s.study_name = :name and t.state <> 'FAIL'
        and a.key = 'row' and a.value_json = cast(c.id as varchar(20))
    )
) = 0 and (
    select count(*) from trials t join studies s on s.study_id = t.study_id
    join trial_user_attributes a on a.trial_id = t.trial_id and a.key = 'row'
    where s.study_name = :name and t.state = 'RUNNING' and not exists (
        select 1 from pairsearch_configurations c where c.trial_id = t.trial_id and c.state in ('pending', 'running')
    )
) = 0""")


def shown(database: Database, study: StoredStudy) -> bool:
    """Whether Optuna's tables have the study, a trial for each result, and none RUNNING that nobody trains."""
    try:
        with database.read() as connection:
            return bool(connection.execute(_SHOWN, {"study": study.id, "name": study.name}).scalar_one())
    except DBAPIError as error:
        if deleted_meanwhile(error):
            return False
        raise
