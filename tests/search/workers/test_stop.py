"""`pairsearch stop`: every worker anywhere hands back what it holds and ends, until others begin again."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import programs
import pytest
import tiny

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.claims import Renewal
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.workers.objective import Progress, Step
from pairsearch.search.workers.tally import Tally
from pairsearch.studies.configuration import Configuration


def test_a_study_that_is_stopped_gives_no_claim_until_it_goes_on(
    database: Database, ledger: Ledger, make_study
) -> None:
    other = Ledger(database, make_study(name="other"))
    held, of_other = ledger.claim("bob"), other.claim("bob")
    assert held is not None
    assert of_other is not None
    assert not ledger.stopped()
    assert ledger.renew(held) == Renewal.HELD
    ledger.stop()
    ledger.stop()
    assert ledger.stopped()
    assert (ledger.renew(held), other.renew(of_other)) == (Renewal.TO_STOP, Renewal.HELD)
    assert ledger.claim("ann") is None
    assert other.claim("ann") is not None
    ledger.go_on()
    assert not ledger.stopped()
    assert ledger.renew(held) == Renewal.HELD
    assert ledger.claim("ann") is not None


class Long(tiny.Answering):
    """Trains until it is told to end, for its second configuration."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        if len(self.asked) == 1 and progress is not None:
            self.ledger.stop()
            told: list[State] = []

            def is_told() -> bool:
                told.extend(filter(None, [progress(Step(1, 0.5))]))
                return bool(told)

            programs.wait_for(is_told, "the heartbeat to hear it")
            assert told == [State.PENDING]
            return None
        return super().__call__(configuration, progress)


def test_a_worker_hands_back_what_it_trains_and_ends(
    database: Database, study: StoredStudy, make_worker
) -> None:
    ledger, stopping = Ledger(database, study, 0.4), threading.Event()
    assert make_worker(Long(ledger), ledger=ledger, stopping=stopping).run() == Tally(1, handed_back=1)
    assert stopping.is_set()
    assert tiny.states(database) == {"finished": 1, "pending": 7}
    # One that waits for others ends too.
    waiting = tiny.Answering()
    assert make_worker(waiting).run() == Tally()
    assert waiting.asked == {}
    ledger.go_on()
    assert make_worker(tiny.Answering()).run() == Tally(finished=7)


PROBLEM = """
import signal, time
from pathlib import Path
from pairsearch.studies.problem import Metric, OneByOne

class Mine(OneByOne):
    metrics = {"loss": Metric()}

    def fit(self, params, run, report):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for epoch in range(1, run.epochs + 1):
            time.sleep(0.05)
            while Path(__file__).with_name("hold").exists():
                time.sleep(0.05)
            report(epoch, loss=params["x"] / epoch)
"""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_workers_of_a_run_end_where_their_problem_takes_signals_for_itself(
    tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "mine.py").write_text(PROBLEM, encoding="utf-8")
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nproblem = "mine.py:Mine"\nmetric = "loss"\nepochs = 2000\nfolds = 2\n'
        "[grid]\nx = [1.0, 2.0, 3.0]\n",
        encoding="utf-8",
    )
    variables = {"PAIRSEARCH_STORAGE": database_url}
    assert programs.run(tmp_path, "create", "mine.toml", **variables).code == 0
    database = open_database(database_url)
    holding = "where state = 'running'"
    run = programs.start_forked(
        tmp_path, "run", "mine.toml", "--workers", "2", "--lease", "1", "--quiet", **variables
    )
    programs.wait_for(
        lambda: len(tiny.rows(database, "jobs", "id", holding)) == 2, "both workers to hold a fold"
    )
    (tmp_path / "hold").touch()
    folder = tmp_path / "other"
    folder.mkdir()
    told = programs.run(folder, "stop", "mine", **variables)
    assert told.out == "mine: told to stop; 2 jobs are in hand\n"
    time.sleep(1.0)  # until all have heard it
    # As another `run` does, which begins before this one has ended.
    Ledger(database, get_study(database, "mine")).go_on()
    (tmp_path / "hold").unlink()
    ended = programs.ended(run, tmp_path)
    assert ended.code == 1
    assert "stopped by `pairsearch stop` (mine 3 left): run it again to go on" in ended.err
    assert tiny.rows(database, "jobs", "id", holding) == []
    assert tiny.rows(database, "configurations", "sum(lapses), sum(errors)") == [(0, 0)]
    # One that a cluster's engine starts only now leaves the stop standing.
    ledger = Ledger(database, get_study(database, "mine"))
    ledger.stop()
    assert programs.run(tmp_path, "worker", "mine.toml", "--submitted", **variables).code == 0
    assert ledger.stopped()
    database.close()
