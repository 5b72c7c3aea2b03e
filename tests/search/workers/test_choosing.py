"""Which job a worker takes next, and what the sampler that it asks knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest
import tiny
from optuna.trial import TrialState

from pairsearch.search.common.errors import DatabaseAwayError
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.sampling.in_memory import PROPOSALS, StudyInMemory
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers import advising
from pairsearch.search.workers.advising import Adviser
from pairsearch.search.workers.choosing import Choice
from pairsearch.search.workers.faults import Faults
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.seeds import layout_order

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
WITHIN = {"limit": None, "key": None, "kind": "fold"}


class Proposes:
    """A sampler that proposes what it is told to, the last one again and again."""

    def __init__(self, *configurations: Configuration) -> None:
        self.left = [*configurations]
        self.asked = 0

    def propose(self) -> Configuration:
        self.asked += 1
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def at_once(call: Callable[[], Any]) -> Any:
    return call()


def choice(ledger: Ledger, sampler: Proposes | None = None) -> Choice:
    faults = Faults(ledger, tiny.Answering(), at_once)
    return Choice(ledger, "ann", faults, cast("Adviser | None", sampler), WITHIN)


def taken(claim: Claim | None) -> Configuration:
    assert claim is not None
    return claim.configuration


def running(database: Database) -> int:
    return len(tiny.rows(database, "jobs", "id", "where state = 'running'"))


def test_what_the_sampler_proposes_is_taken_and_where_it_proposes_nothing_new_the_first(
    database: Database, study: StoredStudy, ledger: Ledger
) -> None:
    order = layout_order(study.definition)
    assert ledger.claim("bob", key=order[3].key) is not None
    sampler = Proposes(order[5], order[3], order[6], order[3])
    chosen = choice(ledger, sampler)
    assert [taken(chosen.next()) for _ in range(3)] == [order[5], order[6], order[0]]
    assert sampler.asked == 3 + PROPOSALS
    for _ in range(4):
        assert chosen.next() is not None
    # Others train the rest.
    asked = sampler.asked
    assert chosen.next() is None
    assert (sampler.asked, running(database)) == (asked, 8)


def test_what_was_begun_is_ended_before_the_sampler_is_asked(database: Database) -> None:
    study = create_study(database, tiny.anything(together=False, folds=3, grid={"x": [1, 2, 3]})).study
    ledger, order = Ledger(database, study), layout_order(study.definition)
    sampler = Proposes(order[2])
    chosen = choice(ledger, sampler)
    first, second = chosen.next(), chosen.next()
    assert first is not None
    assert second is not None
    assert [list(claim.numbers) for claim in (first, second)] == [[0], [1]]
    assert {taken(first), taken(second)} == {order[2]}
    assert (sampler.asked, running(database)) == (1, 2)
    ledger.hand_back(first)
    chosen.runs = 2
    third = choice(ledger, Proposes(order[0])).next()
    assert third is not None
    assert taken(third) == order[2]


def test_a_worker_takes_one_fold_first_and_several_where_they_are_short(database: Database) -> None:
    study = create_study(database, tiny.anything(together=False, folds=4, grid={"x": [1]})).study
    chosen = choice(Ledger(database, study))
    numbers = []
    for runs in (1, 3):
        chosen.runs = max(chosen.runs, runs)
        claim = chosen.next()
        assert claim is not None
        numbers.append(list(claim.numbers))
    assert numbers == [[0], [1, 2, 3]]
    assert choice(Ledger(database, study)).runs == 1


def test_an_answer_that_was_lost_is_asked_for_before_the_sampler(
    database: Database, study: StoredStudy
) -> None:
    class Silent(Ledger):
        silent = True

        def claim(self, *given: Any, **named: Any) -> Claim | None:
            claim = super().claim(*given, **named)
            if claim is not None and self.silent:
                self.silent = False
                raise DatabaseAwayError("gone before it answered")
            return claim

    order = layout_order(study.definition)
    sampler = Proposes(*order[4:])
    chosen = choice(Silent(database, study), sampler)
    with pytest.raises(DatabaseAwayError):
        chosen.next()
    assert taken(chosen.next()) == order[4]
    assert (sampler.asked, running(database)) == (1, 1)
    assert taken(chosen.next()) == order[5]


def finish(database: Database, study: StoredStudy, key: str) -> None:
    ledger = Ledger(database, study)
    claim = ledger.claim("bob", key=key)
    assert claim is not None
    assert tiny.finish(ledger, claim, tiny.outcome(claim.configuration))


def test_a_sampler_hears_each_result_once_in_the_order_in_which_they_came(
    database: Database, make_study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(sampler="tpe")
    keys = [configuration.key for configuration in layout_order(study.definition)]
    heard: list[tuple[str, float | None, int]] = []
    add = StudyInMemory.add

    def listen(memory: StudyInMemory, configuration: Configuration, value: Any, reports: Any) -> None:
        heard.append((configuration.key, value, len(reports)))
        add(memory, configuration, value, reports)

    monkeypatch.setattr(StudyInMemory, "add", listen)
    monkeypatch.setattr(advising, "CHUNK", 3)
    adviser = Adviser(database, study)
    for key in keys[:7]:
        finish(database, study, key)
    tiny.execute(database, "update pairsearch_configurations set finished_at = 1000 - rank where rank < 7")
    adviser.propose()
    expected = [
        (one.key, pytest.approx(tiny.value_of(one)), 2) for one in layout_order(study.definition)[6::-1]
    ]
    assert heard == expected
    adviser.propose()
    assert len(heard) == 7
    finish(database, study, keys[7])
    adviser.propose()
    assert [key for key, *_ in heard[7:]] == [keys[7]]


def test_a_sampler_hears_nothing_of_other_studies(database: Database, make_study: Any) -> None:
    study, other = make_study(sampler="random"), make_study(name="other", sampler="random")
    keys = [configuration.key for configuration in layout_order(study.definition)]
    for key in keys[1:]:
        finish(database, other, key)
    finish(database, study, keys[1])
    for held in (study, other):
        assert Ledger(database, held).claim("bob", key=keys[0]) is not None
    adviser = Adviser(database, study)
    for _ in range(20):
        adviser.propose()
    trials = adviser.memory.trials()
    assert Counter(trial.state for trial in trials)[TrialState.RUNNING] == 1
    values = {trial.value for trial in trials if trial.state == TrialState.COMPLETE}
    assert values == {tiny.value_of(layout_order(study.definition)[1])}
