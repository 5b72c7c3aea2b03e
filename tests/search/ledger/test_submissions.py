"""Submissions to engines: each is read once, with all its studies, and ends alone."""

from __future__ import annotations

from collections.abc import Callable

import tiny

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.ledger.submissions import Submission, close, record, submissions_to


def test_submissions_are_read_by_study_and_end_one_by_one(
    database: Database, make_study: Callable[..., StoredStudy]
) -> None:
    one, other, without = make_study(), make_study(name="other"), make_study(name="without")
    both = frozenset({one.id, other.id})
    seven = Submission("slurm", "", "7", 3, both)
    eight = Submission("slurm", "", "8", 1, both)
    there = Submission("slurm", "a", "7", 2, frozenset({one.id}))
    ray = Submission("ray", "a", "7", 4, frozenset({other.id}))
    record(database, [seven, eight])
    # The same id elsewhere is another submission.
    record(database, [there, ray])
    assert submissions_to(database, [one, other]) == [seven, eight, there, ray]
    assert submissions_to(database, [one]) == [seven, eight, there]
    assert submissions_to(database, [other, without]) == [seven, eight, ray]
    assert submissions_to(database, [without]) == []
    open_ones = {seven, eight, there, ray}
    for ended in (seven, there, ray, eight):
        close(database, [ended])
        open_ones.remove(ended)
        assert [found.ended for found in submissions_to(database, [one, other])] == [
            found not in open_ones for found in (seven, eight, there, ray)
        ]
    lasted = tiny.rows(database, "submissions", "ended_at - submitted_at")
    assert all(0 <= seconds < 60 for (seconds,) in lasted)
    # The first to see the end says when it was.
    tiny.execute(database, "update pairsearch_submissions set ended_at = 1")
    close(database, [seven, eight])
    assert tiny.rows(database, "submissions", "distinct ended_at") == [(1.0,)]
